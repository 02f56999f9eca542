"""Signs requests in the place of a client that cannot do so yet, while it is being developed: a mitmproxy add-on.

It stands on the client's side and is no gate: it verifies nothing, and takes from the policy only how a JWS has to be.

Rule 1. It never runs in the process of a gate, which would verify what that very process had signed.
Rule 2. It signs only what goes to hosts that were named: whoever gets a JWS can use it.
Rule 3. Whoever reaches it is taken for the application. So it listens on loopback, unless asked otherwise, and only
        where somebody looks on, unless asked otherwise.
Rule 4. A request that was to be signed and cannot be is answered here, and does not go on without a JWS.
"""

import ipaddress
import json
import logging
import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import mode_specs

from jwsgate.core.certificates import CertificateError, load_private_key
from jwsgate.core.facts import RequestFacts
from jwsgate.core.on_behalf import signed_request
from jwsgate.core.policy import Route, Router, Sign
from jwsgate.core.public_keys import SigningKey
from jwsgate.core.reasons import Rejection
from jwsgate.core.strict_json import StrictJsonError, parse_object
from jwsgate.files.loading import read_all
from jwsgate.files.problems import ProblemsFound, printable
from jwsgate.files.reading import read_octets

from .gate import SIGNER_NAME, JwsGate
from .listening import address_text
from .random_pool import random_hex

__all__ = ["Signer", "addons"]

logger = logging.getLogger(__name__)

_MAX_LIFETIME: Final = 3600


@dataclass(frozen=True, slots=True)
class _Settings:
    """What is signed, and how."""

    key: SigningKey
    client_id: str
    router: Router
    hosts: frozenset[str]
    claims: dict[str, Any]
    lifetime: int


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _modes(options: Any) -> list[mode_specs.ProxyMode]:
    try:
        return [mode_specs.ProxyMode.parse(spec) for spec in options.mode]
    except ValueError as error:
        raise exceptions.OptionsError(f"jwsgate_sign: {error}") from None


def _check_exposure(options: Any, modes: Iterable[mode_specs.ProxyMode], attended: bool) -> None:
    """Raises OptionsError."""
    for mode in modes:
        if not isinstance(mode, mode_specs.RegularMode | mode_specs.UpstreamMode | mode_specs.ReverseMode):
            raise exceptions.OptionsError(f"jwsgate_sign: mode {mode.full_spec}: use regular, upstream or reverse")
        host = mode.listen_host(options.listen_host)
        if not _is_loopback(host) and not options.jwsgate_sign_for_others:
            raise exceptions.OptionsError(
                f"jwsgate_sign: whoever reaches {host or 'any address of this machine'} would be signed for; "
                "say --listen-host 127.0.0.1, or --set jwsgate_sign_for_others=true"
            )
    if not attended and not options.jwsgate_sign_unattended:
        raise exceptions.OptionsError(
            "jwsgate_sign: it is made for mitmweb and the console, where somebody looks on; "
            "elsewhere say --set jwsgate_sign_unattended=true"
        )
    if "stream_large_bodies" in options and options.stream_large_bodies:
        raise exceptions.OptionsError(
            "jwsgate_sign: stream_large_bodies sends bodies before they are signed; remove it"
        )


def _hosts(options: Any, modes: Iterable[mode_specs.ProxyMode]) -> frozenset[str]:
    named = {host.lower() for host in options.jwsgate_sign_hosts}
    for mode in modes:
        if isinstance(mode, mode_specs.ReverseMode):
            named.add(address_text(mode.address).lower())
        elif not options.jwsgate_sign_hosts:
            raise exceptions.OptionsError(
                "jwsgate_sign: name the hosts to sign for, --set jwsgate_sign_hosts=api.example: "
                "any other would get a JWS that it could use"
            )
    return frozenset(named)


def _key(path: str) -> SigningKey:
    try:
        return load_private_key(read_octets(Path(path).expanduser()))
    except ProblemsFound as error:
        raise exceptions.OptionsError(f"jwsgate_sign_key: {error}") from None
    except CertificateError as error:
        raise exceptions.OptionsError(f"jwsgate_sign_key {path}: {error} ({error.remedy})") from None


def _router(paths: Sequence[str]) -> Router:
    # Nothing is decided by this clock: no chain is looked at here.
    _, router, problems = read_all(None, [Path(path).expanduser() for path in paths], time.time())
    if problems:
        raise exceptions.OptionsError(f"jwsgate_sign_policy:\n{ProblemsFound(problems)}")
    return router


def _claims(text: str) -> dict[str, Any]:
    try:
        return parse_object(text.encode("utf-8")) if text else {}
    except StrictJsonError as error:
        raise exceptions.OptionsError(f"jwsgate_sign_claims is no JSON object: {error}") from None


class Signer:
    """The add-on."""

    name = SIGNER_NAME

    def __init__(self) -> None:
        self._started = False
        self._settings: _Settings | None = None

    def load(self, loader: Loader) -> None:
        loader.add_option("jwsgate_sign_key", str, "", "Private key in PEM that requests are signed with.")
        loader.add_option("jwsgate_sign_client_id", str, "", "Client ID of the application that is signed for.")
        loader.add_option("jwsgate_sign_policy", Sequence[str], [], "Policies that say where and what a JWS has to be.")
        loader.add_option("jwsgate_sign_hosts", Sequence[str], [], "HOST or HOST:PORT to sign for, and no others.")
        loader.add_option("jwsgate_sign_claims", str, "", "More claims, as a JSON object.")
        loader.add_option("jwsgate_sign_lifetime", int, 60, "Seconds from iat to exp.")
        loader.add_option("jwsgate_sign_for_others", bool, False, "Sign for whoever reaches a port beyond loopback.")
        loader.add_option("jwsgate_sign_unattended", bool, False, "Sign where nobody looks on, as in mitmdump.")

    def start(self, master: Any) -> None:
        """Begin to sign.

        Raises:
            mitmproxy.exceptions.OptionsError: when that is not safe, or something is missing; nothing is signed then.
        """
        if master.addons.get(JwsGate.name) is not None:
            raise exceptions.OptionsError(
                "jwsgate_sign: a gate runs in this process, and would verify what was signed here; start them apart"
            )
        self._attended = master.addons.get("view") is not None
        self._started = True
        self.configure(ctx.options.keys())

    def configure(self, updated: Set[str]) -> None:
        """Take up changed options.

        Raises:
            mitmproxy.exceptions.OptionsError: and mitmproxy puts the previous options back.
        """
        if not self._started or not any(name.startswith("jwsgate_sign") or name in _WATCHED for name in updated):
            return
        options = ctx.options
        missing = [name for name in _NEEDED if not getattr(options, name)]
        if missing:
            raise exceptions.OptionsError(f"jwsgate_sign: say --set {missing[0]}=…")
        if not 1 <= options.jwsgate_sign_lifetime <= _MAX_LIFETIME:
            raise exceptions.OptionsError(f"jwsgate_sign_lifetime: say 1 to {_MAX_LIFETIME} seconds")
        modes = _modes(options)
        _check_exposure(options, modes, self._attended)
        self._settings = _Settings(
            _key(options.jwsgate_sign_key),
            options.jwsgate_sign_client_id,
            _router(options.jwsgate_sign_policy),
            _hosts(options, modes),
            _claims(options.jwsgate_sign_claims),
            options.jwsgate_sign_lifetime,
        )
        logger.warning(
            "jwsgate: SIGNING requests to %s for the client ID %s: whoever reaches this proxy is that application",
            printable(", ".join(sorted(self._settings.hosts))),
            printable(self._settings.client_id),
        )

    def request(self, flow: http.HTTPFlow) -> None:
        if self._settings is None or not flow.live or flow.response is not None or flow.error is not None:
            return
        try:
            self._sign(flow, self._settings)
        except _Unsigned as error:
            self._answer(flow, str(error))
        except BaseException as error:
            self._answer(flow, type(error).__name__)  # mitmproxy forwards what an add-on breaks on
            if not isinstance(error, Exception):
                raise

    def _sign(self, flow: http.HTTPFlow, settings: _Settings) -> None:
        data = flow.request.data
        host = data.host.lower()
        if host not in settings.hosts and address_text((host, data.port)) not in settings.hosts:
            return
        facts = RequestFacts(data.method.decode("latin-1"), data.path, data.headers.fields)
        try:
            route = settings.router.find(facts.method, facts.target)
        except Rejection as rejection:
            raise _Unsigned(f"the gate would refuse it: {rejection.detail}") from None
        if route is None or route.open or isinstance(route.action, Sign):
            flow.comment = "not signed: no route of the policy asks for a JWS here"
            return
        body = flow.request.raw_content
        if body is None:
            raise _Unsigned("its body is not there")
        algorithm = _algorithm(settings.key, route)
        signed = signed_request(
            facts,
            route,
            settings.key.jwk,
            algorithm,
            settings.claims,
            settings.client_id,
            body,
            time.time(),
            random_hex(16),
            settings.lifetime,
        )
        data.path, data.headers.fields = signed.target, signed.headers
        flow.marked = ":lock_with_ink_pen:"
        flow.comment = printable(f"SIGNED by this proxy for {settings.client_id}: {algorithm}, route {route.name!r}")

    def _answer(self, flow: http.HTTPFlow, why: str) -> None:
        flow.marked, flow.comment = ":no_entry:", printable(f"could not be signed: {why}")
        body = json.dumps({"error": "jwsgate could not sign this request", "why": why}).encode("ascii")
        flow.response = http.Response.make(502, body, {"Content-Type": "application/json"})
        logger.error("jwsgate: a request could not be signed: %s", printable(why))


_NEEDED: Final = ("jwsgate_sign_key", "jwsgate_sign_client_id", "jwsgate_sign_policy")
_WATCHED: Final = frozenset({"mode", "listen_host", "stream_large_bodies"})


class _Unsigned(Exception):
    """Why a request cannot be signed."""


def _algorithm(key: SigningKey, route: Route) -> str:
    for name in key.algorithms:
        if route.algorithms is None or name in route.algorithms:
            return name
    raise _Unsigned(f"route {route.name!r} allows no algorithm of this key")


class _ScriptEntry:
    """What the script hands to mitmproxy."""

    name = "jwsgate-signer-script"

    def load(self, loader: Loader) -> None:
        signer = Signer()
        loader.master.addons.add(signer)
        try:
            signer.start(loader.master)
        except exceptions.OptionsError as error:
            # mitmproxy does not start after an ERROR in the log. Raised here, it would start, and say nothing.
            logger.error(str(error))


addons: Final = [_ScriptEntry()]
