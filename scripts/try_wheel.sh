#!/usr/bin/env bash
# By hand before a release: builds the wheel, installs it into an empty environment, and runs a user's test with it; then
# without pytest, which nobody but testers needs. Takes a minute or two; leaves nothing behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="$(pwd)/.venv/bin/python"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" .
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$(echo "$folder"/*.whl)[testing]"
cd "$folder"
cat >test_client.py <<'EOF'
import urllib.request

import pytest


@pytest.fixture
def jwsgate_upstream():
    def api(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
    return api


def test_client(jwsgate_gate, jwsgate_application):
    request = urllib.request.Request(jwsgate_gate.url + "/orders", headers=jwsgate_application.headers({"sub": "me"}))
    assert urllib.request.urlopen(request).read() == b"hello"
    assert jwsgate_gate.reasons() == [None]
EOF
venv/bin/pytest -q -W error test_client.py
venv/bin/pip uninstall --quiet --yes pytest uvicorn
venv/bin/jwsgate --version
venv/bin/jwsgate explain --reason jws_expired | grep -q "Look for:"
test -f "$(venv/bin/jwsgate --help | tr -d ' \n' | sed 's/.*Beginwith\(.*\.md\)\..*/\1/')"
venv/bin/python -c "import jwsgate.testing"
echo "The wheel is good."
