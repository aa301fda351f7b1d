#!/usr/bin/env bash
# Lint, types and the whole test suite, in the same .venv as the quickstart: two processes, a file at a time, slow files first.
# Arguments go to pytest. Tests marked nightly are left to nightly.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
bash launch/setup.sh dev report torch onnx hf beam cloud
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=20 "$@"
