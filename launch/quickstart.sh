#!/usr/bin/env bash
# Real audio to scaling report and PyTorch export on one CPU. Safe to run again: it resumes where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
bash launch/setup.sh report torch
exec .venv/bin/alp quickstart "$@"
