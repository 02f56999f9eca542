"""The configurations of HAProxy `jwt_verify` and Envoy `jwt_authn`: with the same clients and keys as the gate."""

import base64
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .clients import ALG, BITS, Estate

__all__ = ["CACHED", "envoy_config", "haproxy_config"]

CACHED = 100_000
"""As many JWS as `jwsgate serve` remembers, if not said otherwise."""

_HAPROXY = """\
global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend in
    bind 127.0.0.1:{port}
    http-request set-var(txn.alg) req.hdr(jwt),jwt_header_query('$.alg')
    http-request set-var(txn.key) req.hdr(X-IBM-Client-Id),map({directory}/keys.map)
    http-request deny deny_status 500 if !{{ var(txn.alg) -m str {alg} }}
    http-request deny deny_status 500 unless {{ req.hdr(jwt),jwt_verify(txn.alg,txn.key) 1 }}
    default_backend api
backend api
    http-reuse always
    server api 127.0.0.1:{upstream}
# jwt_verify only knows files that are named at start; nothing comes here.
backend unused
{known}
"""


def haproxy_config(estate: Estate, port: int, upstream: int) -> str:
    """HAProxy with a key file for each client, as each has a certificate of its own; found by client ID in a map."""
    folder = estate.directory / "haproxy"
    if not folder.exists():
        folder.mkdir()
        entries = []
        for number in range(estate.count):
            file = folder / f"{number}.pem"
            file.write_bytes(estate.key_file(number).read_bytes())
            entries.append(f"{estate.client(number)} {file}\n")
        (folder / "keys.map").write_text("".join(entries))
    known = (
        f'    http-request set-var(txn.unused) req.hdr(jwt),jwt_verify(txn.alg,"{folder}/{number}.pem")\n'
        for number in range(estate.count)
    )
    return _HAPROXY.format(port=port, upstream=upstream, directory=folder, alg=ALG, known="".join(known))


def _jwk(file: Path, kid: str) -> dict[str, str]:
    public = serialization.load_pem_public_key(file.read_bytes())
    if not isinstance(public, rsa.RSAPublicKey):
        raise TypeError(type(public))
    numbers = public.public_numbers()
    n, e = numbers.n.to_bytes(BITS // 8), numbers.e.to_bytes(3)
    n, e = (base64.urlsafe_b64encode(octets).rstrip(b"=").decode() for octets in (n, e))
    return {"kty": "RSA", "alg": ALG, "kid": kid, "n": n, "e": e}


def _provider(keys: list[dict[str, str]], cached: int) -> dict[str, Any]:
    return {
        "issuer": "tvo",
        "audiences": ["the world"],
        "from_headers": [{"name": "jwt"}],
        "forward": True,
        "local_jwks": {"inline_string": json.dumps({"keys": keys})},
        "jwt_cache_config": {"jwt_cache_size": cached},
    }


_TYPES = "type.googleapis.com/envoy.extensions.filters"
_FILTERS = "envoy.filters.http"


def _filter(name: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"{_FILTERS}.{name}", "typed_config": {"@type": f"{_TYPES}.http.{name}.v3.{kind}", **config}}


def _filters(estate: Estate, way: str) -> list[dict[str, Any]]:
    """The filters of a way to the key; by rules and by state a client ID that is not known passes unlooked at."""
    clients = [estate.client(number) for number in range(estate.count)]
    kept = [_jwk(estate.key_file(number), "") for number in range(min(len(estate.keys), estate.count))]
    keys = [kept[number % len(kept)] | {"kid": client} for number, client in enumerate(clients)]
    if way == "kid":
        rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "all"}}]
        authn = {"providers": {"all": _provider(keys, CACHED)}, "rules": rules}
        return [_filter("jwt_authn", "JwtAuthentication", authn)]
    # A provider has one client's key. 1,000 is more than any of them meets of one client that it has to keep.
    providers = {client: _provider([key], 1000) for client, key in zip(clients, keys, strict=True)}
    if way == "rules":
        rules = [
            {
                "match": {
                    "prefix": "/",
                    "headers": [{"name": "x-ibm-client-id", "string_match": {"exact": client}}],
                },
                "requires": {"provider_name": client},
            }
            for client in clients
        ]
        return [_filter("jwt_authn", "JwtAuthentication", {"providers": providers, "rules": rules})]
    value = {
        "object_key": "client",
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": "%REQ(X-IBM-Client-Id)%"}},
    }
    requires = {client: {"provider_name": client} for client in clients}
    authn = {"providers": providers, "filter_state_rules": {"name": "client", "requires": requires}}
    return [
        _filter("set_filter_state", "Config", {"on_request_headers": [value]}),
        _filter("jwt_authn", "JwtAuthentication", authn),
    ]


def envoy_config(estate: Estate, way: str, port: int, admin: int, upstream: int) -> str:
    """Envoy with the clients' keys; `way` says how it comes to a client's key.

    "rules": a provider and a rule for each client. "state": a provider for each client, looked up by the client ID as
    filter state. "kid": one provider, whose keys are looked up by `kid`, whatever the client ID.
    """
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "api"}}],
                }
            ]
        },
        "http_filters": [*_filters(estate, way), _filter("router", "Router", {})],
    }
    endpoint = {"endpoint": {"address": _address(upstream)}}
    config = {
        "admin": {"address": _address(admin)},
        "static_resources": {
            "listeners": [
                {
                    "address": _address(port),
                    "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "api",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "api", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        },
    }
    return json.dumps(config)


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
