#!/usr/bin/env bash
# Sets up .venv when needed and hands its arguments to `jwsgate run`; without arguments it runs the demo.
set -euo pipefail
project="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# The environment is made in the project's folder; paths among the arguments stay relative to the caller's.
(
    cd "$project"
    . scripts/venv.sh
    jwsgate_venv ""
)

if [ $# -eq 0 ]; then
    set -- --demo
fi
exec "$project/.venv/bin/jwsgate" run "$@"
