#!/usr/bin/env bash
# Makes .venv with the pinned requirements and the extras named as arguments; does nothing when they are already there.
# PYTHON chooses the interpreter, ALP_TORCH another build of PyTorch.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
  echo "setup: Python 3.11 to 3.13 is needed; '$python' is $("$python" --version 2>&1). Set PYTHON." >&2
  exit 2
}
stamp=$(cat requirements.txt pyproject.toml launch/setup.sh | sha256sum | cut -d' ' -f1)
have_stamp= extras=
[ ! -f .venv/installed ] || read -r have_stamp extras <.venv/installed
[ "$have_stamp" = "$stamp" ] || extras=
missing=
for extra in "$@"; do
  case " $extras " in *" $extra "*) ;; *) missing="$missing $extra" ;; esac
done
if [ "$have_stamp" != "$stamp" ] || [ -n "$missing" ]; then
  extras=$(echo $extras $missing)
  [ -x .venv/bin/python ] || "$python" -m venv .venv || {
    echo "setup: '$python -m venv' failed; on Debian and Ubuntu install the package python3-venv." >&2
    exit 2
  }
  echo "setup: installing into .venv" >&2
  install() { .venv/bin/python -m pip --disable-pip-version-check install --quiet "$@"; }
  # One exact version first: a range would let the largest build win over one that is already at hand.
  case " $extras " in *" torch "*) install "${ALP_TORCH:-torch==2.13.0}" ;; esac
  install --editable ".[$(echo "$extras" | tr ' ' ',')]"
  echo "$stamp $extras" >.venv/installed
fi
