#!/usr/bin/env bash
# Sets up .venv when needed and runs the tests; arguments go to pytest. Without any, every core takes its share of files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/venv.sh
jwsgate_venv "[test]"
[ $# -gt 0 ] || set -- --numprocesses auto --dist loadfile
exec .venv/bin/python -m pytest "$@"
