#!/usr/bin/env bash
# Sets up .venv when needed and runs the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/venv.sh
jwsgate_venv "[test]"
exec .venv/bin/python -m pytest "$@"
