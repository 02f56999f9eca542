"""Chains and revocation lists: from files to what is trusted, with what is not known to be good not trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

import material
from feature_material import (
    CA_BASIC,
    CLIENT_ID,
    DAY,
    NOW,
    OTHER_CLIENT_ID,
    Issued,
    a_request,
    good_claims,
    issue,
    key_usage,
    lists_pem,
    reason_of,
    revocation_list,
)
from jwsgate.core.decision import Snapshot, decide
from jwsgate.core.reasons import Reason
from jwsgate.files.loading import load_snapshot
from jwsgate.files.problems import Problem, ProblemsFound, Unfit
from jwsgate.files.trust_files import build_trust, read_ca_bundle, read_revocation_lists

ROOT = issue("root", ca=True)
INTERMEDIATE = issue("intermediate", ROOT, ca=True)
LEAF = issue("leaf", INTERMEDIATE)
DIRECT = issue("direct", ROOT)
UNKNOWN_CRITICAL = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00"), True)

type Lists = Sequence[x509.CertificateRevocationList] | None


def fault(
    ca: Sequence[Issued],
    leaf: Issued,
    *chain: Issued,
    lists: Lists = None,
    now: float = NOW,
    loaded: float = NOW,
) -> str | None:
    """Why a leaf, registered with a chain behind it, is not trusted at `now` by what was read at `loaded`.

    The lists go through a file, as they always do: one that is refused there makes nobody trusted.
    """
    registered = leaf.registered(*chain)
    if lists:
        try:
            lists = read_revocation_lists(lists_pem(*lists).encode())
        except ValueError as error:
            return str(error)
    trust = build_trust([each.certificate for each in ca], lists, [registered], loaded)
    return trust.fault(registered.thumbprint, now)


# Chains


@pytest.mark.parametrize(
    ("ca", "registered"),
    [
        pytest.param([ROOT], [DIRECT], id="issued-by-the-root"),
        pytest.param([ROOT], [LEAF, INTERMEDIATE], id="intermediate-registered"),
        pytest.param([ROOT, INTERMEDIATE], [LEAF], id="intermediate-in-the-bundle"),
        pytest.param([ROOT, INTERMEDIATE], [LEAF, INTERMEDIATE], id="intermediate-in-both"),
        pytest.param([ROOT], [LEAF, INTERMEDIATE, ROOT], id="root-registered-too"),
        pytest.param([INTERMEDIATE], [LEAF], id="intermediate-as-the-only-anchor"),
        pytest.param([issue("other-root", ca=True), ROOT], [DIRECT], id="one-of-two-roots"),
    ],
)
def test_good_chains(ca: list[Issued], registered: list[Issued]) -> None:
    """From the registered certificate to the CA, with what lies between from either side."""
    assert fault(ca, registered[0], *registered[1:]) is None


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "p521"])
def test_kinds_of_ca(kind: material.KeyKind) -> None:
    """CAs with each of these keys."""
    root = issue(f"root-{kind}", kind=kind, ca=True)
    leaf = issue(f"leaf-of-{kind}", root)
    assert fault([root], leaf) is None
    assert fault([root], leaf, lists=[revocation_list(root)]) is None
    assert fault([root], leaf, lists=[revocation_list(root, [leaf])]) is not None


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "p521", "ed25519"])
def test_kinds_of_leaf(kind: material.KeyKind) -> None:
    """Every kind of key that can be registered can be issued by a CA."""
    assert fault([ROOT], issue(f"leaf-{kind}", ROOT, kind=kind)) is None


def test_ed25519_ca_is_not_trusted() -> None:
    """The path validation knows no Ed25519 signatures on certificates: such a chain is refused, not passed."""
    root = issue("root-ed25519", kind="ed25519", ca=True)
    assert fault([root], issue("leaf-of-ed25519", root)) is not None


def _self_signed() -> tuple[list[Issued], list[Issued]]:
    return [ROOT], [issue("self-signed")]


def _wrong_ca() -> tuple[list[Issued], list[Issued]]:
    return [issue("other-root", ca=True)], [DIRECT]


def _same_name_other_key() -> tuple[list[Issued], list[Issued]]:
    return [issue("root", ca=True, key=material.private_key("p256", "feature-impostor"))], [DIRECT]


def _leaf_names_itself_root() -> tuple[list[Issued], list[Issued]]:
    return [ROOT], [issue("root", key=material.private_key("p256", "feature-impostor"))]


def _no_intermediate() -> tuple[list[Issued], list[Issued]]:
    return [ROOT], [LEAF]


def _by_a_leaf() -> tuple[list[Issued], list[Issued]]:
    return [ROOT], [issue("leaf-of-a-leaf", DIRECT), DIRECT]


def _by_a_leaf_in_the_bundle() -> tuple[list[Issued], list[Issued]]:
    return [ROOT, DIRECT], [issue("leaf-of-a-leaf", DIRECT)]


def _no_basic_constraints() -> tuple[list[Issued], list[Issued]]:
    root = issue("root-without", extensions=[])
    return [root], [issue("leaf", root)]


def _intermediate_without_basic_constraints() -> tuple[list[Issued], list[Issued]]:
    middle = issue("middle-without", ROOT, extensions=[])
    return [ROOT], [issue("leaf", middle), middle]


def _ca_false() -> tuple[list[Issued], list[Issued]]:
    root = issue("root-false", extensions=[(x509.BasicConstraints(False, None), True)])
    return [root], [issue("leaf", root)]


def _no_cert_sign() -> tuple[list[Issued], list[Issued]]:
    root = issue("root-usage", extensions=[(CA_BASIC, True), (key_usage(crl_sign=True, signature=True), True)])
    return [root], [issue("leaf", root)]


def _intermediate_no_cert_sign() -> tuple[list[Issued], list[Issued]]:
    middle = issue("middle-usage", ROOT, extensions=[(CA_BASIC, True), (key_usage(signature=True), False)])
    return [ROOT], [issue("leaf", middle), middle]


def _path_too_long() -> tuple[list[Issued], list[Issued]]:
    root = issue("root-short", extensions=[(x509.BasicConstraints(True, 0), True)])
    middle = issue("middle", root, ca=True)
    return [root], [issue("leaf", middle), middle]


def _expired_intermediate() -> tuple[list[Issued], list[Issued]]:
    middle = issue("middle-over", ROOT, ca=True, end=NOW - 1)
    return [ROOT], [issue("leaf", middle), middle]


def _expired_root() -> tuple[list[Issued], list[Issued]]:
    root = issue("root-over", ca=True, end=NOW - 1)
    return [root], [issue("leaf", root)]


def _intermediate_ahead() -> tuple[list[Issued], list[Issued]]:
    middle = issue("middle-ahead", ROOT, ca=True, start=NOW + 1)
    return [ROOT], [issue("leaf", middle), middle]


def _unknown_critical_on_leaf() -> tuple[list[Issued], list[Issued]]:
    return [ROOT], [issue("leaf-critical", ROOT, extensions=[UNKNOWN_CRITICAL])]


def _unknown_critical_on_ca() -> tuple[list[Issued], list[Issued]]:
    middle = issue("middle-critical", ROOT, extensions=[(CA_BASIC, True), UNKNOWN_CRITICAL])
    return [ROOT], [issue("leaf", middle), middle]


def _altered_signature() -> tuple[list[Issued], list[Issued]]:
    der = bytearray(DIRECT.certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return [ROOT], [Issued("direct", DIRECT.key, x509.load_der_x509_certificate(bytes(der)))]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(_self_signed, id="self-signed"),
        pytest.param(_wrong_ca, id="wrong-ca"),
        pytest.param(_same_name_other_key, id="ca-of-the-same-name"),
        pytest.param(_leaf_names_itself_root, id="leaf-of-the-cas-name"),
        pytest.param(_no_intermediate, id="intermediate-nowhere"),
        pytest.param(_by_a_leaf, id="issued-by-a-leaf"),
        pytest.param(_by_a_leaf_in_the_bundle, id="issued-by-a-leaf-of-the-bundle"),
        pytest.param(_no_basic_constraints, id="ca-without-basic-constraints"),
        pytest.param(_intermediate_without_basic_constraints, id="intermediate-without-basic-constraints"),
        pytest.param(_ca_false, id="ca-false"),
        pytest.param(_no_cert_sign, id="ca-without-key-cert-sign"),
        pytest.param(_intermediate_no_cert_sign, id="intermediate-without-key-cert-sign"),
        pytest.param(_path_too_long, id="path-length"),
        pytest.param(_expired_intermediate, id="expired-intermediate"),
        pytest.param(_expired_root, id="expired-root"),
        pytest.param(_intermediate_ahead, id="intermediate-not-yet-valid"),
        pytest.param(_unknown_critical_on_leaf, id="unknown-critical-extension"),
        pytest.param(_unknown_critical_on_ca, id="unknown-critical-extension-on-ca"),
        pytest.param(_altered_signature, id="altered-signature"),
    ],
)
def test_bad_chains(case: Callable[[], tuple[list[Issued], list[Issued]]]) -> None:
    """What does not lead to the CA, or leads over what is no CA, is not trusted."""
    ca, registered = case()
    assert fault(ca, registered[0], *registered[1:]) is not None


def test_key_cert_sign_is_enough() -> None:
    """A CA whose keyUsage has keyCertSign among others, critical or not."""
    for critical in (True, False):
        usage = (key_usage(cert_sign=True, crl_sign=True), critical)
        root = issue("root-usage", extensions=[(CA_BASIC, True), usage])
        assert fault([root], issue("leaf", root)) is None


def test_root_that_is_not_critical_about_being_a_ca() -> None:
    """Private CAs often mark basicConstraints as not critical; that does not matter here."""
    root = issue("root-plain", extensions=[(CA_BASIC, False)])
    assert fault([root], issue("leaf", root)) is None


def test_registered_certificate_in_the_bundle() -> None:
    """Somebody who puts a self-signed client certificate into the bundle vouches for it, and for that one only."""
    mine, other = issue("mine"), issue("other")
    assert fault([mine], mine) is None
    assert fault([mine], other) is not None
    assert fault([mine], issue("leaf", mine)) is not None


def test_name_constraints_on_dns_names() -> None:
    """A CA limited to some names vouches for those alone (RFC 5280 section 4.2.1.10)."""
    limits = x509.NameConstraints([x509.DNSName("example.com")], None)
    root = issue("root-limited", extensions=[(CA_BASIC, True), (limits, True)])
    for name, good in (("api.example.com", True), ("evil.test", False)):
        leaf = issue("leaf", root, extensions=[(x509.SubjectAlternativeName([x509.DNSName(name)]), False)])
        assert (fault([root], leaf) is None) == good


def test_name_constraints_on_subjects() -> None:
    """RFC 5280: limits of the form directoryName must be applied to the subject, or the chain refused."""
    inside = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Partner")])
    limits = x509.NameConstraints([x509.DirectoryName(inside)], None)
    root = issue("root-limited", extensions=[(CA_BASIC, True), (limits, True)])
    assert fault([root], issue("no-partner", root)) is not None


def test_chain_ends_with_its_first_part() -> None:
    """At a request the times of all certificates in the chain count, not only the leaf's."""
    middle = issue("middle-short", ROOT, ca=True, end=NOW + 10)
    leaf = issue("leaf", middle)
    assert fault([ROOT], leaf, middle, now=NOW + 10) is None
    assert fault([ROOT], leaf, middle, now=NOW + 10.001) is not None
    short_root = issue("root-short-lived", ca=True, end=NOW + 10)
    assert fault([short_root], issue("leaf", short_root), now=NOW + 10.001) is not None


@pytest.mark.parametrize("order", [0, 1], ids=["old-first", "new-first"])
def test_renewed_intermediate_takes_over(order: int) -> None:
    """The bundle holds an intermediate that ends tomorrow and its renewal: clients pass today and afterwards.

    Otherwise every client is refused at once tomorrow, until somebody restarts the gate.
    """
    old, renewed = issue("intermediate", ROOT, ca=True, end=NOW + DAY), INTERMEDIATE
    middle = [renewed, old] if order else [old, renewed]
    assert fault([ROOT, *middle], LEAF, now=NOW) is None
    assert fault([ROOT, *middle], LEAF, now=NOW + 2 * DAY) is None


@pytest.mark.parametrize("order", [0, 1], ids=["old-first", "new-first"])
def test_renewed_root_takes_over(order: int) -> None:
    """The same for a root that was renewed with its key."""
    old, renewed = issue("root", ca=True, end=NOW + DAY), ROOT
    roots = [renewed, old] if order else [old, renewed]
    assert fault(roots, DIRECT, now=NOW) is None
    assert fault(roots, DIRECT, now=NOW + 2 * DAY) is None


@pytest.mark.parametrize("order", [0, 1], ids=["without-chain-first", "with-chain-first"])
def test_one_certificate_registered_twice(order: int) -> None:
    """Two applications share a certificate, and only one of them registered the intermediate with it.

    What one registers must not take the trust from the other.
    """
    bare, with_chain = LEAF.registered(), LEAF.registered(INTERMEDIATE)
    both = [with_chain, bare] if order else [bare, with_chain]
    trust = build_trust([ROOT.certificate], None, both, NOW)
    assert trust.fault(with_chain.thumbprint, NOW) is None


def test_leaf_that_is_valid_later() -> None:
    """A certificate registered ahead of its time has its chain looked at as of when it begins."""
    leaf = issue("leaf-later", ROOT, start=NOW + 5 * DAY)
    assert fault([ROOT], leaf, now=NOW + 6 * DAY) is None


def test_every_certificate_has_its_own_state() -> None:
    """One bad chain says nothing of the others."""
    good, bad = DIRECT.registered(), issue("self-signed").registered()
    trust = build_trust([ROOT.certificate], None, [bad, good], NOW)
    assert (trust.fault(good.thumbprint, NOW) is None, trust.fault(bad.thumbprint, NOW) is None) == (True, False)


# Revocation lists


def test_without_lists_revocation_is_not_asked() -> None:
    """No `crl_file`: a chain alone is enough. An empty set of lists is another thing, and covers nothing."""
    assert fault([ROOT], DIRECT, lists=None) is None
    assert fault([ROOT], DIRECT, lists=[]) is not None


def test_good_lists() -> None:
    """Every issuer's list is there, is current, and does not name the chain."""
    lists = [revocation_list(ROOT), revocation_list(INTERMEDIATE, [issue("other", INTERMEDIATE)])]
    assert fault([ROOT], LEAF, INTERMEDIATE, lists=lists) is None
    assert fault([ROOT], DIRECT, lists=lists[:1]) is None


@pytest.mark.parametrize(
    ("by_root", "by_intermediate"),
    [
        pytest.param([], [LEAF], id="leaf"),
        pytest.param([INTERMEDIATE], [], id="intermediate"),
        pytest.param([INTERMEDIATE], [LEAF], id="both"),
    ],
)
@pytest.mark.parametrize("in_bundle", [False, True], ids=["intermediate-registered", "intermediate-in-the-bundle"])
def test_revoked(by_root: list[Issued], by_intermediate: list[Issued], in_bundle: bool) -> None:
    """A revoked leaf, and a leaf under a revoked CA, wherever that CA's certificate was read from."""
    lists = [revocation_list(ROOT, by_root), revocation_list(INTERMEDIATE, by_intermediate)]
    ca, chain = ([ROOT, INTERMEDIATE], []) if in_bundle else ([ROOT], [INTERMEDIATE])
    assert fault(ca, LEAF, *chain, lists=[revocation_list(ROOT), revocation_list(INTERMEDIATE)]) is None
    assert fault(ca, LEAF, *chain, lists=lists) is not None


@pytest.mark.parametrize("missing", [0, 1], ids=["of-the-root", "of-the-intermediate"])
def test_missing_list_of_one_issuer(missing: int) -> None:
    """Hard-fail: where one issuer's list is missing, nothing is known, and so nothing trusted."""
    lists = [revocation_list(ROOT), revocation_list(INTERMEDIATE)]
    del lists[missing]
    assert fault([ROOT], LEAF, INTERMEDIATE, lists=lists) is not None


def test_list_signed_by_another_key() -> None:
    """A list of the issuer's name that the issuer did not sign covers nothing, neither alone nor beside a true one."""
    stranger = material.private_key("p256", "feature-impostor")
    forged = revocation_list(ROOT, signer=stranger)
    assert fault([ROOT], DIRECT, lists=[forged]) is not None
    forged_newer = revocation_list(ROOT, signer=stranger, start=NOW - 1)
    assert fault([ROOT], DIRECT, lists=[revocation_list(ROOT, [DIRECT]), forged_newer]) is not None
    forged_revocation = revocation_list(ROOT, [DIRECT], signer=stranger, start=NOW - 1)
    assert fault([ROOT], DIRECT, lists=[revocation_list(ROOT), forged_revocation]) is None
    other_kind = revocation_list(ROOT, signer=material.private_key("rsa", "feature-impostor"))
    assert fault([ROOT], DIRECT, lists=[other_kind]) is not None


def test_list_of_another_issuer() -> None:
    """A list says nothing of the certificates of another CA, though their serial numbers be the same."""
    other = issue("other-root", ca=True)
    assert fault([ROOT, other], DIRECT, lists=[revocation_list(other)]) is not None
    assert fault([ROOT, other], DIRECT, lists=[revocation_list(ROOT), revocation_list(other, [DIRECT])]) is None


def test_times_of_a_list() -> None:
    """A list counts from thisUpdate to nextUpdate, asked about at each request: stale lists refuse."""
    lists = [revocation_list(ROOT, start=NOW - 10, end=NOW + 10)]
    for now, good in ((NOW - 10.5, False), (NOW - 10, True), (NOW + 10, True), (NOW + 10.5, False)):
        assert (fault([ROOT], DIRECT, lists=lists, now=now) is None) == good


def test_stale_list_of_one_issuer_is_enough_to_refuse() -> None:
    """All lists of the chain must be current."""
    for stale in (ROOT, INTERMEDIATE):
        lists = [
            revocation_list(each, end=NOW - 1 if each is stale else NOW + DAY, start=NOW - DAY)
            for each in (ROOT, INTERMEDIATE)
        ]
        assert fault([ROOT], LEAF, INTERMEDIATE, lists=lists) is not None


def test_list_from_the_future() -> None:
    """A list whose thisUpdate lies ahead counts for nothing yet."""
    assert fault([ROOT], DIRECT, lists=[revocation_list(ROOT, start=NOW + 60)]) is not None


@pytest.mark.parametrize("order", [0, 1], ids=["older-first", "newer-first"])
def test_newest_of_several_lists(order: int) -> None:
    """Of two lists of one issuer the newer one counts, in whatever order they stand."""
    older, newer = revocation_list(ROOT, start=NOW - 2 * DAY), revocation_list(ROOT, [DIRECT], start=NOW - DAY)
    assert fault([ROOT], DIRECT, lists=[newer, older] if order else [older, newer]) is not None
    older, newer = revocation_list(ROOT, end=NOW - 1, start=NOW - 2 * DAY), revocation_list(ROOT)
    assert fault([ROOT], DIRECT, lists=[newer, older] if order else [older, newer]) is None


def test_revocation_is_not_undone_by_a_partial_list() -> None:
    """A delta list names only what changed (RFC 5280 section 5.2.4): it does not clear who is on the whole list."""
    whole = revocation_list(ROOT, [DIRECT])
    delta = revocation_list(ROOT, start=NOW - 60, extensions=[(x509.DeltaCRLIndicator(1), True)])
    assert fault([ROOT], DIRECT, lists=[whole, delta]) is not None


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param(x509.IssuingDistributionPoint(None, None, False, True, None, False, False), id="cas-only"),
        pytest.param(x509.IssuingDistributionPoint(None, None, False, False, None, False, True), id="attributes-only"),
        pytest.param(
            x509.IssuingDistributionPoint(
                None, None, False, False, frozenset([x509.ReasonFlags.ca_compromise]), False, False
            ),
            id="some-reasons-only",
        ),
        pytest.param(
            x509.IssuingDistributionPoint(
                [x509.UniformResourceIdentifier("http://ca.test/shard-2.crl")], None, False, False, None, False, False
            ),
            id="one-shard",
        ),
    ],
)
def test_list_of_a_part_covers_no_more_than_that_part(scope: x509.IssuingDistributionPoint) -> None:
    """A list that says, critically, that it is only about some certificates is no list of all of them.

    RFC 5280 section 5.2: a list with a critical extension that is not processed must not be used to tell the status.
    """
    partial = revocation_list(ROOT, extensions=[(scope, True)])
    assert fault([ROOT], DIRECT, lists=[partial]) is not None
    whole = revocation_list(ROOT, [DIRECT], start=NOW - 2 * DAY)
    assert fault([ROOT], DIRECT, lists=[whole, partial]) is not None


def test_unknown_critical_extension_of_a_list() -> None:
    """The same for a critical extension that nobody here knows."""
    assert fault([ROOT], DIRECT, lists=[revocation_list(ROOT, extensions=[UNKNOWN_CRITICAL])]) is not None


def test_usual_extensions_of_a_list() -> None:
    """The number and the key identifier that every full list carries do not get in its way."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.CRLNumber(7), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(ROOT.key.public_key()), False),
    ]
    assert fault([ROOT], DIRECT, lists=[revocation_list(ROOT, extensions=extensions)]) is None


# Reading files


def test_reading_a_bundle() -> None:
    """All certificates of a PEM file, with whatever text stands between them."""
    pem = f"Root\n{ROOT.pem}\n# next\n{INTERMEDIATE.pem}"
    assert read_ca_bundle(pem.encode()) == [ROOT.certificate, INTERMEDIATE.certificate]
    assert read_ca_bundle(pem.replace("\n", "\r\n").encode()) == [ROOT.certificate, INTERMEDIATE.certificate]


def test_reading_lists() -> None:
    """All lists of a PEM file, or the one of a DER file."""
    one, two = revocation_list(ROOT), revocation_list(INTERMEDIATE, [LEAF])
    assert read_revocation_lists(lists_pem(one, two).encode()) == [one, two]
    assert read_revocation_lists(f"text\n{lists_pem(one)}\ntext\n{lists_pem(two)}end".encode()) == [one, two]
    assert read_revocation_lists(one.public_bytes(Encoding.DER)) == [one]


def _without_next_update() -> bytes:
    """A list as RFC 5280 forbids but ASN.1 allows, made by cutting nextUpdate out of a good one and signing anew."""
    good = revocation_list(ROOT)
    tbs = good.tbs_certlist_bytes
    times = [at for at in range(len(tbs)) if tbs[at : at + 2] == b"\x17\x0d"]
    assert len(times) == 2
    cut = tbs[: times[1]] + tbs[times[1] + 15 :]
    cut = cut[:1] + _length(len(cut) - _head(cut)) + cut[_head(cut) :]
    signature = material.signature(ROOT.key, "ES256", cut)
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    bits = b"\x00" + encode_dss_signature(r, s)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    body = cut + algorithm + b"\x03" + _length(len(bits)) + bits
    return b"\x30" + _length(len(body)) + body


def _head(der: bytes) -> int:
    return 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)


def _length(size: int) -> bytes:
    if size < 128:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x80 | len(octets)]) + octets


def test_list_without_next_update() -> None:
    """A list that never ends would be good for ever; it is refused when it is read."""
    octets = _without_next_update()
    made = x509.load_der_x509_crl(octets)
    assert (made.next_update_utc, made.is_signature_valid(ROOT.certificate.public_key())) == (None, True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nextUpdate"):
        read_revocation_lists(octets)
    with pytest.raises(ValueError, match="nextUpdate"):
        read_revocation_lists(lists_pem(revocation_list(ROOT), made).encode())


BROKEN_BUNDLES = {
    "empty": b"",
    "text": b"no certificate",
    "der": ROOT.certificate.public_bytes(Encoding.DER),
    "key": material.private_pem(ROOT.key).encode(),
    "list": lists_pem(revocation_list(ROOT)).encode(),
    "cut-short": ROOT.pem[:-40].encode(),
    "second-broken": (ROOT.pem + ROOT.pem.replace("MII", "MIX", 1)).encode(),
    "no-base64": b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    "octets": bytes(range(256)),
}


@pytest.mark.parametrize("octets", BROKEN_BUNDLES.values(), ids=BROKEN_BUNDLES.keys())
def test_broken_bundles(octets: bytes) -> None:
    """What is no bundle is told, with a remedy; a half-read one is never used."""
    with pytest.raises(Unfit, match=r"^holds .+") as caught:
        read_ca_bundle(octets)
    assert caught.value.remedy


_LIST = lists_pem(revocation_list(ROOT))
BROKEN_LISTS = {
    "empty": b"",
    "text": b"no list",
    "certificate": ROOT.pem.encode(),
    "cut-short": _LIST[:-30].encode(),
    "second-cut-short": (_LIST + _LIST[:-30]).encode(),
    "second-broken": (_LIST + _LIST.replace("MI", "XX", 1)).encode(),
    "no-base64": b"-----BEGIN X509 CRL-----\n!!!!\n-----END X509 CRL-----\n",
    "octets": bytes(range(256)),
    "der-cut-short": revocation_list(ROOT).public_bytes(Encoding.DER)[:-5],
}


@pytest.mark.parametrize("octets", BROKEN_LISTS.values(), ids=BROKEN_LISTS.keys())
def test_broken_lists(octets: bytes) -> None:
    """What is no file of lists is told, with a remedy; a file that is only partly one is not read in part."""
    with pytest.raises(Unfit, match=r"^holds .+") as caught:
        read_revocation_lists(octets)
    assert caught.value.remedy


# From the files of a gate


def portal_of(*applications: tuple[str, str]) -> str:
    """A portal export with these client IDs and certificates."""
    return material.portal_yaml(
        [
            material.Application(f"app-{number}", (client_id,), pem)
            for number, (client_id, pem) in enumerate(applications)
        ]
    )


POLICY = """\
routes:
  - path: /ca/**
    certificates: {ca_file: ca.pem, crl_file: ca.crl}
  - path: /**
"""


def write(directory: Path, portal: str, policy: str = POLICY, **files: str | bytes) -> tuple[Path, Path]:
    """A gate's files; `ca_pem` is written as `ca.pem`."""
    (directory / "portal.yaml").write_text(portal)
    (directory / "policy.yaml").write_text(policy)
    for name, content in files.items():
        path = directory / name.replace("_", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory / "portal.yaml", directory / "policy.yaml"


def loaded(portal: Path, policy: Path, now: float = NOW) -> Snapshot:
    """The snapshot of these files."""
    return load_snapshot(portal, [policy], now)


def problems(portal: Path, policy: Path) -> list[Problem]:
    """The problems of these files."""
    with pytest.raises(ProblemsFound) as caught:
        loaded(portal, policy)
    return list(caught.value.problems)


def verdict(snapshot: Snapshot, issued: Issued, target: bytes = b"/ca/1", client_id: str = CLIENT_ID) -> Reason | str:
    """What becomes of a good request of a client with that key."""
    return reason_of(
        decide(snapshot, a_request(material.jws(issued.key, good_claims()), target=target, client_id=client_id), NOW)
    )


def test_from_files_to_a_decision(tmp_path: Path) -> None:
    """CA, lists and registered chains from files: who is under the CA passes, revoked or self-signed does not."""
    revoked, self_signed = issue("revoked", ROOT), issue("self-signed")
    portal = portal_of(
        (CLIENT_ID, LEAF.pem + INTERMEDIATE.pem),
        (OTHER_CLIENT_ID, revoked.pem),
        ("self-signed", self_signed.pem),
    )
    crl = lists_pem(revocation_list(ROOT, [revoked]), revocation_list(INTERMEDIATE))
    snapshot = loaded(*write(tmp_path, portal, ca_pem=ROOT.pem, ca_crl=crl))
    assert verdict(snapshot, LEAF) == "allowed"
    for issued, client_id in ((revoked, OTHER_CLIENT_ID), (self_signed, "self-signed")):
        assert verdict(snapshot, issued, client_id=client_id) == Reason.CERTIFICATE_UNUSABLE
        assert verdict(snapshot, issued, b"/free", client_id) == "allowed"


def test_defaults_and_routes_name_cas(tmp_path: Path) -> None:
    """A CA of the defaults holds for every route that names none, and gives way to one that does."""
    other = issue("other-root", ca=True)
    policy = (
        "defaults:\n  certificates: {ca_file: ca.pem}\n"
        "routes:\n  - path: /**\n  - path: /other/**\n    certificates: {ca_file: other.pem}\n"
    )
    files = write(tmp_path, portal_of((CLIENT_ID, DIRECT.pem)), policy, ca_pem=ROOT.pem, other_pem=other.pem)
    snapshot = loaded(*files)
    assert verdict(snapshot, DIRECT) == "allowed"
    assert verdict(snapshot, DIRECT, b"/other/1") == Reason.CERTIFICATE_UNUSABLE


def test_der_list_of_a_route(tmp_path: Path) -> None:
    """A CRL file may be DER, as CAs publish it."""
    crl = revocation_list(ROOT, [DIRECT]).public_bytes(Encoding.DER)
    snapshot = loaded(*write(tmp_path, portal_of((CLIENT_ID, DIRECT.pem)), ca_pem=ROOT.pem, ca_crl=crl))
    assert verdict(snapshot, DIRECT) == Reason.CERTIFICATE_UNUSABLE


@pytest.mark.parametrize("spelling", ["ca_file", "ca\\u005ffile", "\\x63a_file"])
def test_key_spelled_with_escapes(tmp_path: Path, spelling: str) -> None:
    """However the policy's key is escaped, the chains that the CA is asked about are there."""
    policy = f'routes:\n  - path: /**\n    certificates: {{"{spelling}": ca.pem}}\n'
    files = write(tmp_path, portal_of((CLIENT_ID, LEAF.pem + INTERMEDIATE.pem)), policy, ca_pem=ROOT.pem)
    assert verdict(loaded(*files), LEAF) == "allowed"


def test_revision_changes_with_what_is_referred_to(tmp_path: Path) -> None:
    """The revision names the state of all files: another CA or another list is another revision."""
    files = write(tmp_path, portal_of((CLIENT_ID, DIRECT.pem)), ca_pem=ROOT.pem, ca_crl=_LIST)
    first = loaded(*files).revision
    assert loaded(*files).revision == first
    (tmp_path / "ca.crl").write_text(lists_pem(revocation_list(ROOT, [DIRECT])))
    second = loaded(*files).revision
    (tmp_path / "ca.pem").write_text(ROOT.pem + INTERMEDIATE.pem)
    assert len({first, second, loaded(*files).revision}) == 3


@pytest.mark.parametrize(
    ("ca", "crl", "places"),
    [
        pytest.param(None, _LIST, [(3, "routes[0].certificates.ca_file")], id="no-ca"),
        pytest.param(ROOT.pem, None, [(3, "routes[0].certificates.crl_file")], id="no-list"),
        pytest.param(b"x", _LIST, [(3, "routes[0].certificates.ca_file")], id="broken-ca"),
        pytest.param(ROOT.pem, b"x", [(3, "routes[0].certificates.crl_file")], id="broken-list"),
        pytest.param(_LIST, ROOT.pem, [(3, "routes[0].certificates.ca_file"), (3, "routes[0].certificates.crl_file")],
                     id="mixed-up"),
        pytest.param(ROOT.pem, _without_next_update(), [(3, "routes[0].certificates.crl_file")], id="no-next-update"),
    ],
)  # fmt: skip
def test_broken_files_have_a_place(
    tmp_path: Path, ca: str | bytes | None, crl: str | bytes | None, places: list[tuple[int, str]]
) -> None:
    """A CA or list that cannot be used is a problem of the policy, at the key that names it, with the file's name."""
    files: dict[str, str | bytes] = {}
    if ca is not None:
        files["ca_pem"] = ca
    if crl is not None:
        files["ca_crl"] = crl
    portal, policy = write(tmp_path, portal_of((CLIENT_ID, DIRECT.pem)), POLICY, **files)
    found = problems(portal, policy)
    assert [(problem.line, problem.path) for problem in found] == places
    assert {problem.file for problem in found} == {str(policy)}
    assert all(problem.column > 1 and problem.remedy for problem in found)
    assert all(("ca.pem" if "ca_file" in each.path else "ca.crl") in each.message for each in found)


def test_broken_ca_of_the_defaults_is_told_once(tmp_path: Path) -> None:
    """A CA that ten routes inherit is one problem, where it stands."""
    routes = "".join(f"  - path: /r{number}\n" for number in range(10))
    policy = f"defaults:\n  certificates: {{ca_file: ca.pem}}\nroutes:\n{routes}"
    found = problems(*write(tmp_path, portal_of((CLIENT_ID, DIRECT.pem)), policy, ca_pem=b"x"))
    assert [(problem.line, problem.path) for problem in found] == [(2, "defaults.certificates.ca_file")]


@pytest.mark.parametrize("kind", ["folder", "fifo", "unreadable-name"])
def test_odd_files(tmp_path: Path, kind: str) -> None:
    """A folder or a FIFO in the CA's place is a problem and not a hanging gate."""
    policy = POLICY
    if kind == "folder":
        (tmp_path / "ca.pem").mkdir()
    elif kind == "fifo":
        os.mkfifo(tmp_path / "ca.pem")
    else:
        policy = json.dumps({"routes": [{"path": "/**", "certificates": {"ca_file": "a\0b", "crl_file": "ca.crl"}}]})
    found = problems(*write(tmp_path, portal_of((CLIENT_ID, DIRECT.pem)), policy, ca_crl=_LIST))
    assert [problem.path for problem in found] == ["routes[0].certificates.ca_file"]


def test_registered_chain_out_of_order(tmp_path: Path) -> None:
    """A chain whose next certificate did not issue the one before is a problem of the export."""
    pem = LEAF.pem + ROOT.pem
    found = problems(*write(tmp_path, portal_of((CLIENT_ID, pem)), ca_pem=ROOT.pem, ca_crl=_LIST))
    assert [problem.path for problem in found] == ["results[0].application_public_certificate_entry"]


def test_trust_is_of_registered_certificates_only(tmp_path: Path) -> None:
    """A certificate that the CA issued, but nobody registered, is still a stranger's."""
    files = write(tmp_path, portal_of((CLIENT_ID, DIRECT.pem)), ca_pem=ROOT.pem, ca_crl=_LIST)
    snapshot = loaded(*files)
    assert verdict(snapshot, DIRECT) == "allowed"
    assert verdict(snapshot, issue("also-direct", ROOT)) == Reason.SIGNATURE_MISMATCH
