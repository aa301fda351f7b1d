#!/usr/bin/env bash
# The checks that take too long for the test suite, a line each below; a failed one does not keep the others from it.
# ALP_GOLDEN names the folder of reference vectors. Exits with 0 when all passed, 1 when one failed, 2 without a folder.
set -euo pipefail
if [ ! -d "${ALP_GOLDEN:-}" ]; then
  now=${ALP_GOLDEN:+"$ALP_GOLDEN, which is not a folder"}
  echo "nightly: ALP_GOLDEN must name the folder of reference vectors; it is ${now:-not set}." >&2
  exit 2
fi
vectors=$(cd "$ALP_GOLDEN" && pwd)
cd "$(dirname "$0")/.."
bash launch/setup.sh dev report torch onnx hf beam cloud
failed=0
table=$(printf '%-16s %-8s %8s' check result seconds)
check() { # NAME COMMAND...
  local name=$1 begin=$SECONDS result=passed
  shift
  echo "nightly: $name: $*" >&2
  "$@" || { result=FAILED failed=1; }
  table+=$'\n'$(printf '%-16s %-8s %8d' "$name" "$result" $((SECONDS - begin)))
}

check golden .venv/bin/alp golden --dir "$vectors"
check long_tests .venv/bin/python -m pytest -m nightly --timeout 3600

printf '\n%s\n' "$table"
exit "$failed"
