"""Lint: everything that is wrong with a portal export and policies, or soon will be, each with a rule and a place."""

import datetime
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from jwsgate.core.certificates import RegisteredCertificate
from jwsgate.core.packed import Registration
from jwsgate.core.portal import Application, Portal, gap

from .api_connect import policy_data
from .documents import Document
from .loading import read_all, read_policy
from .policy_doubts import Told, policy_doubts
from .portal_builder import Origin
from .portal_file import PortalReading, cut_short
from .problems import Location, Problem, ProblemsFound, path_text
from .shapes import misspelt

__all__ = ["RULES", "LintFinding", "Rule", "lint"]

_DAY: Final = 86400
_CERTIFICATE: Final = re.compile(r"application_public_certificate(?:_|s\[\d+\]\.)(?:entry|file)$")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. An error keeps the gate from starting, or an application from calling."""

    name: str
    level: Literal["error", "warning"]
    about: str


RULES: Final = {
    rule.name: rule
    for rule in (
        Rule("file-unreadable", "error", "a file or folder cannot be read"),
        Rule("syntax", "error", "a file is no strict YAML or JSON"),
        Rule("private-key", "error", "a private key stands in the export"),
        Rule("policy", "error", "a policy cannot be used"),
        Rule("portal-incomplete", "error", "an export has fewer applications than it says"),
        Rule("portal-cut-short", "warning", "an export looks as if its end were missing"),
        Rule("client-id", "error", "a client ID is missing, repeated or cannot be sent"),
        Rule("certificate-unusable", "error", "what is registered is no certificate, or too weak a one"),
        Rule("portal-shape", "error", "a value of an export cannot be"),
        Rule("certificate-expired", "error", "an application has no certificate that is still valid"),
        Rule("certificate-left-over", "warning", "an expired certificate stands beside a valid one"),
        Rule("certificate-not-yet-valid", "warning", "an application has no certificate that is valid already"),
        Rule("certificate-expires-soon", "warning", "the last valid certificate of an application soon expires"),
        Rule("certificate-gap", "warning", "between two certificates of an application is a time without any"),
        Rule("certificate-missing", "warning", "an enabled application has no certificate"),
        Rule("certificate-shared", "warning", "applications have the same key, so that each can sign for the other"),
        Rule("certificate-sha1", "warning", "a certificate is signed with SHA-1 or MD5"),
        Rule("certificate-of-ca", "warning", "a client's certificate says that it is a CA"),
        Rule("client-id-missing", "warning", "an enabled application has no client ID"),
        Rule("policy-test", "error", "a test of a policy ends in another way than it expects"),
        Rule("policy-test-missing", "warning", "a policy has no tests, although they are to be run"),
        Rule("route-open", "warning", "a route is open, so that every request passes"),
        Rule("route-report", "warning", "a route is in report mode, so that requests without a good JWS pass"),
        Rule("application-report", "warning", "an application is in report mode, so that it needs no good JWS"),
        Rule("application-unknown", "warning", "a policy names applications of which the portal export has none"),
        Rule("method-unregistered", "warning", "a route names a method that nobody has registered, perhaps by a slip"),
        Rule("scheme-missing", "warning", "the header Authorization is read without a scheme such as Bearer"),
        Rule("claim-pattern", "warning", "a claim is compared with a text that looks like a pattern"),
        Rule("leeway-long", "warning", "more time is forgiven than a JWS may live"),
        Rule("credential-unused", "warning", "a credential belongs to no application of the export"),
    )
}


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding: a problem with its rule, and the application or the route that it is about, if any."""

    rule: Rule
    problem: Problem
    application: str = ""
    route: str = ""


def _with_places(document: Document, told: Sequence[Told]) -> Iterator[LintFinding]:
    rules = {(path_text(place), message): rule for rule, (place, message, _) in told}
    for problem in document.problem_list([finding for _, finding in told]):
        yield LintFinding(RULES[rules[problem.path, problem.message]], problem)


def _rule_of(problem: Problem, is_policy: bool) -> str:
    """The rule of what loading the files would refuse."""
    message = problem.message
    if problem.line == 0:
        return "file-unreadable"
    if "private key" in message:
        return "private-key"
    if problem.path == "(document)" or message in {
        "is an alias", "has an anchor", "has a tag", "is a merge key", "is a repeated key",
    }:  # fmt: skip
        return "syntax"
    if is_policy:
        return "policy"
    if problem.path == "total_results":
        return "portal-incomplete"
    if _CERTIFICATE.search(problem.path):
        return "certificate-unusable"
    return "client-id" if problem.path.endswith("client_id") else "portal-shape"


def _name_at(data: Any, location: Location) -> str:
    """The name of the application around a location."""
    name = ""
    for step in (*location, None):
        if isinstance(data, dict) and isinstance(data.get("title") or data.get("name"), str):
            name = name or data.get("title") or data["name"]
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            break
    return name


def _until(time: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "a time far away"


class _PortalLint:
    def __init__(self, reading: PortalReading, now: float, days: int) -> None:
        self._reading = reading
        self._now = now
        self._days = days
        self._keys: dict[bytes, tuple[Application, Origin]] = {}
        self.told: dict[str, list[Told]] = {}

    def _tell(self, file: str, rule: str, location: Location, message: str, remedy: str) -> None:
        self.told.setdefault(file, []).append((rule, (location, message, remedy)))

    def run(self) -> None:
        builder = self._reading.builder
        told = {
            (file, tuple(location[:length]))
            for file, findings in builder.findings.items()
            for location, _, _ in findings
            for length in range(len(location) + 1)
        }
        for application, origin in zip(self._reading.portal.applications, builder.origins, strict=True):
            # Of an application that is broken, what follows from it is not worth telling.
            if application.enabled and (origin.file, origin.location) not in told:
                self._application(application, origin)
            for place, registration in origin.registrations:
                self._certificate(application, origin, place, registration)
        for file, location, client_id in () if self._reading.is_partial else builder.orphans:
            message = f"is the credential {client_id} of no application in this export"
            self._tell(file, "credential-unused", location, message, "export its application too, or remove it")

    def _application(self, application: Application, origin: Origin) -> None:
        if not application.client_ids:
            message = "has no client ID, so that nobody can call with it"
            remedy = "add a credential, or export it too"
            if close := misspelt("client_id", self._reading.raw(origin)):
                remedy = f"write client_id in place of {close}"
            self._tell(origin.file, "client-id-missing", origin.location, message, remedy)
        pairs = [*zip(application.certificates, origin.registrations, strict=True)]
        if not pairs:
            self._without_certificate(origin)
            return
        valid = [certificate for certificate, _ in pairs if self._now <= certificate.not_after]
        last = max(valid, key=lambda certificate: certificate.not_after, default=None)
        for certificate, (place, _) in pairs:
            expired = f"has expired on {_until(certificate.not_after)}"
            if last is None:
                self._tell(origin.file, "certificate-expired", place, expired, "register a new certificate")
            elif certificate not in valid:
                self._tell(origin.file, "certificate-left-over", place, expired, "remove it")
            elif certificate is last and certificate.not_after < self._now + self._days * _DAY:
                left = int((certificate.not_after - self._now) // _DAY)
                message = f"expires in {left} days, on {_until(certificate.not_after)}"
                remedy = "register the next one beside it: jwsgate portal register"
                self._tell(origin.file, "certificate-expires-soon", place, message, remedy)
        self._gap(origin.file, pairs)
        if valid and all(self._now < certificate.not_before for certificate in valid):
            message = f"is not valid before {_until(min(certificate.not_before for certificate in valid))}"
            remedy = "register one that is valid now as well"
            self._tell(origin.file, "certificate-not-yet-valid", pairs[0][1][0], message, remedy)

    def _gap(self, file: str, pairs: list[tuple[RegisteredCertificate, tuple[Location, Registration]]]) -> None:
        found = gap([certificate for certificate, _ in pairs], self._now)
        if found is None:
            return
        end, start = found
        place = next(place for certificate, (place, _) in pairs if certificate.not_after == end)
        message = f"is not used after {_until(end)}, and the next certificate not before {_until(start)}"
        self._tell(file, "certificate-gap", place, message, "let it be used for longer, or register one in between")

    def _without_certificate(self, origin: Origin) -> None:
        # What the portal's text area was left as: nobody has been there, or somebody emptied it.
        value = self._reading.raw(origin)
        entry = "application_public_certificate_entry"
        location, message = origin.location, "has no certificate registered: its requests are refused"
        if value.get(entry) is not None:
            location, message = (*location, entry), "is empty: requests of the application are refused"
        self._tell(origin.file, "certificate-missing", location, message, "register its certificate")

    def _certificate(
        self, application: Application, origin: Origin, place: Location, registration: Registration
    ) -> None:
        file = origin.file
        certificate = x509.load_der_x509_certificate(registration.ders[0])
        key = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        other, where = self._keys.setdefault(hashlib.sha256(key).digest(), (application, origin))
        if where is not origin:
            name = other.title
            if not name or name == application.title:
                of = other.organization if other.organization != application.organization else ""
                at = path_text(where.location) + (f" in {where.file}" if where.file != file else "")
                name = " of ".join(filter(None, (name, of))) if name and of else f"{name or 'the application'} at {at}"
            message = f"has the key of {name} too: each can sign for the other"
            self._tell(file, "certificate-shared", place, message, "give each application a key of its own")
        try:
            weak = isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5)
        except UnsupportedAlgorithm:
            weak = False
        if weak:
            message = "is signed with SHA-1 or MD5"
            self._tell(file, "certificate-sha1", place, message, "issue it anew with SHA-256 (openssl req -sha256)")
        for extension in certificate.extensions:
            if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
                remedy = "issue it with basicConstraints=CA:FALSE"
                self._tell(file, "certificate-of-ca", place, "says of itself that it is a CA", remedy)

    def findings(self) -> Iterator[LintFinding]:
        for file, told in self.told.items():
            document = self._reading.documents[file]
            names = {path_text(finding[0]): _name_at(document.data, finding[0]) for _, finding in told}
            for found in _with_places(document, told):
                yield replace(found, application=names[found.problem.path])


def _names_of(reading: PortalReading | None) -> dict[tuple[str, str, str], str]:
    """The names of the applications with problems, by the file, path and message of each."""
    names: dict[tuple[str, str, str], str] = {}
    if reading is None:
        return names
    # Of a problem only the path's text is left; what was found in the portal has the location too.
    for file, document in reading.documents.items():
        for location, message, _ in reading.builder.findings.get(file, []):
            names.setdefault((file, path_text(location), message), _name_at(document.data, location))
    return names


def _last_title(reading: PortalReading | None, file: str) -> str:
    """The title of the application that a file ends with."""
    ends = () if reading is None else reading.portal.ends
    numbers = [end.number for end in ends if end.file == file and end.number >= 0]
    return reading.portal.applications[numbers[0]].title if reading is not None and numbers else ""


def _route_name(data: Any, place: Location) -> str:
    """The name of the route that a place of a policy's data is in; empty if it is in none."""
    route = data["routes"][place[1]] if place[0] == "routes" else {}
    return str(route.get("name", route.get("path", "")))


def _policy_findings(path: Path, portal: Portal | None) -> Iterator[LintFinding]:
    """What is allowed in a policy, and should be known."""
    try:
        document = read_policy(path)
    except ProblemsFound:
        return
    data, place_of = policy_data(document)
    doubts = [*policy_doubts(data, portal)]
    told = [(rule, (place_of(place), message, remedy)) for rule, (place, message, remedy) in doubts]
    names = {path_text(place_of(place)): _route_name(data, place) for _, (place, _, _) in doubts}
    for found in _with_places(document, told):
        yield replace(found, route=names[found.problem.path])


def lint(portal: Path | None, policies: Sequence[Path], now: float, days: int) -> list[LintFinding]:
    """Every finding, at the time `now` (Unix seconds); `days` is how long before its end a certificate is told of."""
    reading, _, problems = read_all(portal, policies, now)
    files = {str(path) for path in policies}
    names = _names_of(reading)
    found = [
        LintFinding(
            RULES[_rule_of(problem, problem.file in files)],
            problem,
            names.get((problem.file, problem.path, problem.message), ""),
        )
        for problem in sorted(set(problems))
    ]
    for problem in () if reading is None else cut_short(reading.portal):
        found.append(LintFinding(RULES["portal-cut-short"], problem, _last_title(reading, problem.file)))
    if reading is not None and len(reading.builder.origins) == len(reading.portal.applications):
        linter = _PortalLint(reading, now, days)
        linter.run()
        found += linter.findings()
    for path in policies:
        found += _policy_findings(path, None if reading is None else reading.portal)
    return sorted(found, key=lambda finding: (finding.problem, finding.rule.name))
