"""A working folder for whoever begins: key, certificate, portal export, policy, and a README whose commands work."""

import datetime
import json
from string import Template
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from jwsgate.core.key_pairs import make_key, private_pem, self_signed

__all__ = ["scaffold"]

_LIFETIME: Final = datetime.timedelta(days=825)

_PORTAL: Final = Template("""\
# What the developer portal has: the applications, their client IDs and their certificates.
# An export of API Connect goes here as it is.
total_results: 1
results:
  - type: app
    name: $name
    title: $name
    state: enabled
    application_public_certificate_file: client.crt # in an export, the certificate itself stands here, as ..._entry
    credentials:
      - name: credential
        client_id: $client_id
""")

_POLICY: Final = """\
# What is demanded of which request. `jwsgate lint --policy policy.yaml --run-tests` checks it.
defaults:
  client_id: {header: X-IBM-Client-Id}
  jws: {header: jwt}
  claims:
    required: [exp, iat]
    max_lifetime: 3600

routes:
  # Answers the claims, so that there is something to call before there is an API.
  - name: whoami
    path: /whoami
    methods: [GET]
    respond: claims

  # Everything else goes to the API, with the same demands.
  - name: api
    path: /**
    forward: true

tests:
  - {name: signed, request: {path: /whoami}, sign: {}, expect: allowed, route: whoami}
  - {name: not signed, request: {path: /whoami}, expect: jws_missing}
  - {name: too late, request: {path: /orders/17}, sign: {claims: {exp: "-1"}}, expect: jws_expired, route: api}
"""

_README: Final = Template("""\
# A client that signs, and a gate in front of its API

| file | what it is |
|---|---|
| `client.key` | the client's private key; nobody else may have it, the gate neither |
| `client.crt` | the certificate over it, which the application registers in the developer portal |
| `portal.yaml` | stands for an export of the portal: the application, its client ID and its certificate |
| `policy.yaml` | what the gate demands of which request |

Start the gate in front of your API (`http://127.0.0.1:9000` stands for it; `/whoami` needs none):

<!-- run: gate, background -->
```sh
jwsgate run --upstream http://127.0.0.1:9000 --listen 127.0.0.1:8443 --portal portal.yaml --policy policy.yaml
```

In another terminal, sign and call:

<!-- run -->
```sh
JWS=$$(jwsgate sign --key client.key sub=me)
curl -s -H "X-IBM-Client-Id: $client_id" -H "jwt: $$JWS" http://127.0.0.1:8443/whoami
```

```text
{"sub":"me","iat":…,"exp":…}
```

The same as one command, which `jwsgate sign` writes:

<!-- run -->
```sh
eval "$$(jwsgate sign --key client.key sub=me --client-id $client_id --curl http://127.0.0.1:8443/whoami)"
```

```text
{"sub":"me","iat":…,"exp":…}
```

A call that is refused says little, as it should, but the gate's log has the reason:

<!-- run -->
```sh
curl -s -H "X-IBM-Client-Id: $client_id" http://127.0.0.1:8443/whoami
```

```text
{ "httpCode":"500", "httpMessage":"Internal Error", "moreInformation":"JWS is missing" }
```

Find out what is wrong with a call, without sending it:

<!-- run: exit 1 -->
```sh
jwsgate explain --portal portal.yaml --policy policy.yaml --client-id $client_id --path /whoami \\
  "Bearer $$(jwsgate sign --key client.key)"
```

```text
Rejected (jws_malformed): The word 'Bearer' was left in front of the JWS
What to do: Send the bare JWS, as the policy names no authentication scheme for this place.
Once mended: the request would be allowed
…
```

Check portal and policy, and when the certificate ends:

<!-- run -->
```sh
jwsgate lint --portal portal.yaml --policy policy.yaml --run-tests
jwsgate portal list --portal portal.yaml
```
""")


def scaffold(name: str, client_id: str, algorithm: str, now: datetime.datetime) -> dict[str, tuple[bytes, int]]:
    """The files by their names, each with its octets and its mode.

    `name` is the application's, at most 64 characters; `client_id` needs no quoting in a shell.
    """
    key = make_key(algorithm)
    certificate = self_signed(key, name, now - datetime.timedelta(minutes=5), now + _LIFETIME)
    texts = {
        "portal.yaml": _PORTAL.substitute(name=json.dumps(name), client_id=json.dumps(client_id)),
        "policy.yaml": _POLICY,
        "README.md": _README.substitute(client_id=client_id),
        ".gitignore": "client.key\n",
    }
    return {
        "client.key": (private_pem(key), 0o600),
        "client.crt": (certificate.public_bytes(Encoding.PEM), 0o644),
        **{file: (text.encode("utf-8"), 0o644) for file, text in texts.items()},
    }
