#!/usr/bin/env bash
# Brings the compiled core (build/py) up to date with csrc. One at a time: ninja itself takes no lock.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH exec flock build/.lock .venv/bin/ninja --quiet -C build/py "$@"
