"""The strict reading of a compact JWS, and its verification with one registered certificate.

What other libraries are known to take is refused here one by one, each in a test named for it. All tokens are
validly signed by the registered key unless a test says otherwise: only their form is wrong.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jwcrypto.jwk import JWK

import material
from core_gate import (
    ALGORITHM_KEYS,
    KINDS,
    NOW,
    certificate_of,
    decision_on,
    good_claims,
    reason_of,
    reason_of_compact,
    reason_of_verify,
    signed,
)
from jwsgate.core import jws as jws_module
from jwsgate.core.decision import Allowed
from jwsgate.core.jws import DEFAULT_MAX_OCTETS, CompactJws, parse_compact, verify
from jwsgate.core.reasons import Reason, Rejection

RSA_KEY = material.private_key("rsa")
EC_KEY = material.private_key("p256")
TOKEN = signed(RSA_KEY)
HEADER, PAYLOAD, SIGNATURE = TOKEN.split(".")


def thumbprint_b64url(pem: str) -> str:
    """What `x5t#S256` says of a certificate."""
    return material.b64url(x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()))


def x5c_entry(pem: str) -> str:
    """What `x5c` says of a certificate."""
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    return base64.b64encode(der).decode()


# Good ones


@pytest.mark.parametrize("algorithm", ALGORITHM_KEYS)
def test_each_algorithm_passes(algorithm: str) -> None:
    """A JWS by the registered key passes under each of the ten algorithms, payload octet for octet."""
    key = material.private_key(ALGORITHM_KEYS[algorithm])
    payload = material.compact_json(good_claims(t="t"))
    decision = decision_on(signed(key, payload=payload, algorithm=algorithm), key)
    assert isinstance(decision, Allowed)
    assert (payload, algorithm) == (decision.payload, decision.alg)
    assert certificate_of(key) == decision.certificate


def test_reading_gives_the_parts() -> None:
    """The signing input is the very octets that came, not something encoded again."""
    jws = parse_compact(TOKEN.encode())
    assert f"{HEADER}.{PAYLOAD}".encode() == jws.signing_input
    assert material.unb64url(PAYLOAD) == jws.payload
    assert material.unb64url(SIGNATURE) == jws.signature
    assert jws.header.alg == "RS256"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0\xff\x80", id="binary"),
        pytest.param(b'{"a":1,"a":2}', id="json-that-claims-refuse"),
        pytest.param(b"[" * 1000, id="deep"),
    ],
)
def test_payload_is_not_looked_at_before_verification(payload: bytes) -> None:
    """Any octets verify (rule 4): what they mean is asked afterwards."""
    jws = parse_compact(signed(RSA_KEY, payload=payload).encode())
    verify(jws, certificate_of(RSA_KEY))
    assert payload == jws.payload


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b'{"a":1,"a":2}'])
def test_bad_signature_shows_before_bad_claims(payload: bytes) -> None:
    """A forger learns nothing of what the payload should be: the signature is the first thing that fails."""
    token = signed(material.private_key("rsa", "foreign"), payload=payload)
    assert reason_of(decision_on(token, RSA_KEY)) is Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"typ": "JWT"}, id="typ"),
        pytest.param({"typ": "JWT", "cty": "json", "kid": "2018-07"}, id="typ-cty-kid"),
        pytest.param({"ver": 1, "exp": 5}, id="numeric-members-that-broke-the-product"),
        pytest.param({"http://example.com/is_root": True}, id="private-member"),
        pytest.param({"nonce": None, "list": [1, {"a": []}]}, id="members-of-any-type"),
        pytest.param({"jku": "https://evil.example/keys"}, id="jku-unused"),
        pytest.param({"x5u": "https://evil.example/cert"}, id="x5u-unused"),
        pytest.param({"x5t": "AAAA"}, id="sha-1-thumbprint-unused"),
    ],
)
def test_unknown_header_parameters_are_ignored(members: dict[str, Any]) -> None:
    """RFC 7515 section 4: parameters that are not understood must be ignored, unless `crit` names them."""
    token = signed(RSA_KEY, header={"alg": "RS256", **members})
    assert reason_of(decision_on(token, RSA_KEY)) is None


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b'{"alg":"RS256"}', id="compact"),
        pytest.param(b'{ "alg" : "RS256" }', id="spaces"),
        pytest.param(b'{"typ":"JWT",\r\n "alg":"RS256"}', id="line-breaks-as-in-rfc-7515"),
        pytest.param(b'\n{"alg":"RS256"}\t', id="white-space-around"),
        pytest.param(b'{"\\u0061lg":"RS\\u0032\\u00356"}', id="escaped"),
        pytest.param('{"alg":"RS256","kid":"ключ €"}'.encode(), id="utf-8"),
    ],
)
def test_header_json_may_be_written_in_many_ways(header: bytes) -> None:
    """The header is JSON; what is signed are its octets."""
    assert reason_of(decision_on(signed(RSA_KEY, header=header), RSA_KEY)) is None


# jwcrypto is lax about text: "accepted on a validly signed token, without any key"


def spellings() -> dict[str, str]:
    """Other spellings of one validly signed token, each accepted by some library."""
    unpadded = [HEADER, PAYLOAD, SIGNATURE]
    padded = [segment + "=" * (-len(segment) % 4) for segment in unpadded]

    def inside(character: str, segment: int = 1, position: int = 7) -> str:
        changed = list(unpadded)
        changed[segment] = changed[segment][:position] + character + changed[segment][position:]
        return ".".join(changed)

    def standard_alphabet() -> str:
        token = signed(RSA_KEY, payload=b'{"a":"\xc3\xbf\xc3\xbe\xc3\xbf~~~???"}')
        assert set(token) & set("-_")
        return token.replace("-", "+").replace("_", "/")

    def non_canonical(segment: int) -> str:
        # The key's signature has 256 octets, so that its last character carries four bits that mean nothing.
        token = signed(RSA_KEY, header=b'{"alg":"RS256"} ', payload=b'{"a":1}')
        changed = token.split(".")
        assert len(changed[segment]) % 4
        changed[segment] = material.altered(changed[segment], -1)
        assert material.unb64url(changed[segment]) == material.unb64url(token.split(".")[segment])
        return ".".join(changed)

    return {
        "padding-on-the-header": ".".join([padded[0] + ("" if padded[0] != HEADER else "===="), PAYLOAD, SIGNATURE]),
        "padding-on-the-payload": f"{HEADER}.{PAYLOAD}{'=' * (-len(PAYLOAD) % 4 or 4)}.{SIGNATURE}",
        "padding-on-the-signature": f"{HEADER}.{PAYLOAD}.{padded[2]}",
        "padding-everywhere": ".".join(padded),
        "too-much-padding": f"{HEADER}.{PAYLOAD}.{padded[2]}====",
        "text-after-padding": f"{HEADER}.{PAYLOAD}.{padded[2]}AAAA",
        "line-feed-inside": inside("\n"),
        "carriage-return-line-feed-inside": inside("\r\n"),
        "space-inside": inside(" "),
        "tab-inside": inside("\t"),
        "nul-inside": inside("\0"),
        "exclamation-mark-inside": inside("!"),
        "number-sign-inside": inside("#"),
        "non-ascii-inside": inside("é"),
        "percent-inside": inside("%2E"),
        "zero-width-space-inside": inside("\N{ZERO WIDTH SPACE}"),
        "line-feed-inside-the-header": inside("\n", 0),
        "line-feed-inside-the-signature": inside("\n", 2),
        "line-feed-before": "\n" + TOKEN,
        "line-feed-after": TOKEN + "\n",
        "carriage-return-after": TOKEN + "\r",
        "vertical-tab-after": TOKEN + "\x0b",
        "nul-after": TOKEN + "\0",
        "standard-alphabet": standard_alphabet(),
        "non-canonical-last-character-of-the-header": non_canonical(0),
        "non-canonical-last-character-of-the-payload": non_canonical(1),
        "non-canonical-last-character-of-the-signature": non_canonical(2),
        "one-character-left-over": f"{HEADER}.{PAYLOAD}.{SIGNATURE}{'A' * (5 - len(SIGNATURE) % 4)}",
        "fullwidth-digits": TOKEN.replace("1", "\N{FULLWIDTH DIGIT ONE}"),
        "fullwidth-full-stop": TOKEN.replace(".", "\N{FULLWIDTH FULL STOP}"),
        "percent-encoded-dot": TOKEN.replace(".", "%2E", 1),
        "quoted": f'"{TOKEN}"',
        "angle-brackets": f"<{TOKEN}>",
        "bearer-in-front": f"Bearer {TOKEN}",
        "name-in-front": f"jwt={TOKEN}",
        "comma-after": TOKEN + ",",
        "twice-with-comma": f"{TOKEN},{TOKEN}",
        "twice-with-space": f"{TOKEN} {TOKEN}",
        "semicolon-after": TOKEN + ";",
        "byte-order-mark": "\N{ZERO WIDTH NO-BREAK SPACE}" + TOKEN,
        "json-flattened": json.dumps({"protected": HEADER, "payload": PAYLOAD, "signature": SIGNATURE}),
        "json-general": json.dumps({"payload": PAYLOAD, "signatures": [{"protected": HEADER, "signature": SIGNATURE}]}),
        "json-flattened-without-spaces": material.compact_json(
            {"payload": PAYLOAD, "protected": HEADER, "signature": SIGNATURE}
        ).decode(),
        "dot-before": "." + TOKEN,
        "dot-after": TOKEN + ".",
        "two-dots-between": TOKEN.replace(".", "..", 1),
        "four-parts": TOKEN + ".AAAA",
        "five-parts-as-in-jwe": f"{HEADER}.{SIGNATURE}.AAAA.{PAYLOAD}.{SIGNATURE}",
        "two-parts": f"{HEADER}.{PAYLOAD}",
        "one-part": HEADER,
        "only-dots": "..",
        "no-header": f".{PAYLOAD}.{SIGNATURE}",
        "no-signature": f"{HEADER}.{PAYLOAD}.",
        "sd-jwt-with-tilde": TOKEN + "~",
        "base64-of-it-all": base64.b64encode(TOKEN.encode()).decode(),
        "upper-case": TOKEN.upper() if TOKEN.upper() != TOKEN else "",
    }


SPELLINGS = spellings()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_any_other_spelling_is_malformed(spelling: str) -> None:
    """One token has one spelling: what a cache or an upstream sees is what was signed."""
    token = SPELLINGS[spelling]
    assert token != TOKEN
    assert reason_of_compact(token) is Reason.JWS_MALFORMED


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_any_other_spelling_is_rejected_by_the_gate(spelling: str) -> None:
    """The same through the whole decision, where white space at the ends of an HTTP header value is no part of it."""
    assert reason_of(decision_on(SPELLINGS[spelling], RSA_KEY)) in {Reason.JWS_MALFORMED, Reason.REQUEST_UNSAFE}


@pytest.mark.parametrize("around", [" %s", "%s ", "\t%s \t"])
def test_white_space_around_a_header_value_is_http(around: str) -> None:
    """RFC 9110 section 5.5: spaces and tabs around a field value are no part of it, so that nothing is respelled."""
    assert reason_of(decision_on(around % TOKEN, RSA_KEY)) is None


@pytest.mark.parametrize("segment", [0, 1, 2], ids=["header", "payload", "signature"])
def test_every_last_character_but_the_signed_one_is_refused(segment: int) -> None:
    """Changing the last character of any segment never verifies, whichever of the other 63 it becomes."""
    for key in map(material.private_key, KINDS):
        token = signed(key, header={"alg": material.algorithm_of(key), "typ": "a"}).split(".")
        good = token[segment][-1]
        for other in material.BASE64URL.replace(good, ""):
            changed = list(token)
            changed[segment] = token[segment][:-1] + other
            assert reason_of(decision_on(".".join(changed), key)) is not None


@pytest.mark.parametrize("segment", [0, 1, 2], ids=["header", "payload", "signature"])
def test_segments_of_every_length_have_one_spelling(segment: int) -> None:
    """For 0 to 6 octets in a segment exactly one last character is read."""
    for length in range(7):
        octets = bytes(range(250, 250 + length))
        canonical = material.b64url(octets)
        parts = [material.b64url(b'{"alg":"RS256"}'), "", "AA"]
        if segment == 0 or not canonical:
            continue
        read = []
        for last in material.BASE64URL:
            parts[segment] = canonical[:-1] + last
            try:
                jws = parse_compact(".".join(parts).encode())
            except Rejection:
                continue
            decoded = jws.payload if segment == 1 else jws.signature
            assert material.b64url(decoded) == parts[segment]
            read.append(last)
        assert len(read) == {0: 64, 1: 0, 2: 4, 3: 16}[len(canonical) % 4]


# "Over-long ECDSA signatures", and lengths of signatures at all


def signed_with(key: material.PrivateKey, signature: bytes, algorithm: str | None = None) -> str:
    """A token of which only the signature is told."""
    header = material.compact_json({"alg": algorithm or material.algorithm_of(key)})
    return ".".join(map(material.b64url, (header, material.compact_json(good_claims()), signature)))


def ecdsa_parts(key: ec.EllipticCurvePrivateKey) -> tuple[str, int, int, int]:
    """A validly signed token without its signature, the signature as two numbers, and their octets."""
    token, _, last = signed(key).rpartition(".")
    raw = material.unb64url(last)
    size = len(raw) // 2
    return token, int.from_bytes(raw[:size]), int.from_bytes(raw[size:]), size


@pytest.mark.parametrize("kind", ["p256", "p384", "p521"])
@pytest.mark.parametrize("extra", [1, 2, 32, 934], ids="{}-octets-longer".format)
def test_over_long_ecdsa_signatures_are_refused(kind: material.KeyKind, extra: int) -> None:
    """Leading zeros in both halves, which jwcrypto takes at any length (33+33, 1000+1000 for ES256)."""
    key = material.private_key(kind)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    token, r, s, size = ecdsa_parts(key)
    signature = r.to_bytes(size + extra) + s.to_bytes(size + extra)
    assert reason_of(decision_on(f"{token}.{material.b64url(signature)}", key)) is Reason.SIGNATURE_MISMATCH
    assert reason_of(decision_on(f"{token}.{material.b64url(r.to_bytes(size) + s.to_bytes(size))}", key)) is None


@pytest.mark.parametrize("kind", ["p256", "p384", "p521"])
def test_der_ecdsa_signatures_are_refused(kind: material.KeyKind) -> None:
    """RFC 7518 section 3.4 asks for the two numbers side by side; DER is what X.509 uses."""
    key = material.private_key(kind)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    token, r, s, _ = ecdsa_parts(key)
    der = encode_dss_signature(r, s)
    assert reason_of(decision_on(f"{token}.{material.b64url(der)}", key)) is Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda raw: raw[:-1], id="last-octet-missing"),
        pytest.param(lambda raw: raw[1:], id="first-octet-missing"),
        pytest.param(lambda raw: raw + b"\0", id="zero-after"),
        pytest.param(lambda raw: b"\0" + raw, id="zero-before"),
        pytest.param(lambda raw: raw + raw, id="twice"),
        pytest.param(lambda raw: raw[: len(raw) // 2], id="first-half"),
        pytest.param(lambda raw: b"\0", id="one-zero"),
        pytest.param(lambda raw: bytes(len(raw)), id="all-zero"),
        pytest.param(lambda raw: b"\xff" * len(raw), id="all-ones"),
        pytest.param(lambda raw: raw[::-1], id="reversed"),
        pytest.param(lambda raw: raw[len(raw) // 2 :] + raw[: len(raw) // 2], id="halves-swapped"),
    ],
)
def test_signatures_of_wrong_length_or_content_are_refused(kind: material.KeyKind, change: Any) -> None:
    """Exactly the modulus octets for RSA, 64 / 96 / 132 for ECDSA, 64 for Ed25519, and then the right ones."""
    key = material.private_key(kind)
    token, _, last = signed(key).rpartition(".")
    changed = material.b64url(change(material.unb64url(last)))
    assert reason_of(decision_on(f"{token}.{changed}", key)) is Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize("kind", ["p256", "p384", "p521"])
def test_ecdsa_signature_numbers_out_of_range_are_refused(kind: material.KeyKind) -> None:
    """r and s of 0, of the group's order, and beyond it (CVE-2022-21449 took zeros)."""
    key = material.private_key(kind)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    token, r, s, size = ecdsa_parts(key)
    order = key.curve.group_order
    numbers = [(0, 0), (0, s), (r, 0), (order, s), (r, order), (order, order), (1, 1), (order - 1, order - 1)]
    numbers += [(r + order, s), (r, s + order)] if r + order < 256**size > s + order else []
    for pair in numbers:
        signature = b"".join(number.to_bytes(size) for number in pair)
        assert reason_of(decision_on(f"{token}.{material.b64url(signature)}", key)) is Reason.SIGNATURE_MISMATCH


def test_ecdsa_signatures_have_one_twin() -> None:
    """(r, n - s) verifies wherever (r, s) does: the one known case of two spellings, inherent to ECDSA."""
    assert isinstance(EC_KEY, ec.EllipticCurvePrivateKey)
    token, r, s, size = ecdsa_parts(EC_KEY)
    twin = r.to_bytes(size) + (EC_KEY.curve.group_order - s).to_bytes(size)
    assert reason_of(decision_on(f"{token}.{material.b64url(twin)}", EC_KEY)) is None


def test_rsa_signature_plus_modulus_is_refused() -> None:
    """S + n is the same number modulo n; RFC 8017 section 5.2.2 refuses it."""
    assert isinstance(RSA_KEY, rsa.RSAPrivateKey)
    modulus = RSA_KEY.public_key().public_numbers().n
    for attempt in range(64):
        token, _, last = signed(RSA_KEY, {"exp": NOW + 600, "attempt": attempt}).rpartition(".")
        larger = int.from_bytes(material.unb64url(last)) + modulus
        if larger < 256**256:
            break
    else:
        pytest.fail("no signature was small enough")
    signature = material.b64url(larger.to_bytes(256))
    assert reason_of(decision_on(f"{token}.{signature}", RSA_KEY)) is Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize("salt", [0, 1, 20, 31, 33, pytest.param(padding.PSS.MAX_LENGTH, id="longest")], ids=str)
def test_pss_salt_of_another_length_is_refused(salt: Any) -> None:
    """RFC 7518 section 3.5: the salt is as long as the hash."""
    assert isinstance(RSA_KEY, rsa.RSAPrivateKey)
    head = signed_with(RSA_KEY, b"\0", "PS256").rpartition(".")[0]
    signature = RSA_KEY.sign(head.encode(), padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())
    assert reason_of(decision_on(f"{head}.{material.b64url(signature)}", RSA_KEY)) is Reason.SIGNATURE_MISMATCH


def test_pss_with_another_mask_hash_is_refused() -> None:
    """RFC 7518 section 3.5: MGF1 uses the same hash."""
    assert isinstance(RSA_KEY, rsa.RSAPrivateKey)
    head = signed_with(RSA_KEY, b"\0", "PS256").rpartition(".")[0]
    signature = RSA_KEY.sign(head.encode(), padding.PSS(padding.MGF1(hashes.SHA1()), 32), hashes.SHA256())
    assert reason_of(decision_on(f"{head}.{material.b64url(signature)}", RSA_KEY)) is Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize("said", ALGORITHM_KEYS)
@pytest.mark.parametrize("used", ALGORITHM_KEYS)
def test_algorithm_said_must_be_the_one_used(said: str, used: str) -> None:
    """Every pair of the ten: only the pair of equals passes, hash, padding and kind of key included."""
    key = material.private_key(ALGORITHM_KEYS[used])
    token = signed(key, header={"alg": said}, algorithm=used)
    reason = reason_of(decision_on(token, key))
    if said == used:
        assert reason is None
    elif ALGORITHM_KEYS[said] == ALGORITHM_KEYS[used]:
        assert reason is Reason.SIGNATURE_MISMATCH
    else:
        assert reason is Reason.ALGORITHM_NOT_ALLOWED


# "Also accepted from the right key"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b'{"alg":"none","alg":"RS256"}', id="alg-none-first"),
        pytest.param(b'{"alg":"RS256","alg":"none"}', id="alg-none-last"),
        pytest.param(b'{"alg":"RS256","alg":"RS256"}', id="alg-the-same-twice"),
        pytest.param(b'{"alg":"RS256","\\u0061lg":"RS256"}', id="alg-escaped"),
        pytest.param(b'{"alg":"RS256","kid":"a","kid":"b"}', id="kid"),
        pytest.param(b'{"alg":"RS256","x":{"a":1,"a":2}}', id="nested"),
    ],
)
def test_duplicate_header_members_are_refused(header: bytes) -> None:
    """RFC 7515 section 4 leaves a choice; refusing is the one that two readers cannot make differently."""
    assert reason_of_compact(signed(RSA_KEY, header=header)) is Reason.JWS_MALFORMED


NAMES = ["kid", "alg", "typ", "x", 'a"kid', "kid\\", '"kid":"', "\u212aid", ""]
VALUES = st.recursive(
    st.sampled_from(["RS256", "k", "", '"', "\\", '\\"kid', 'x","kid":"y', "[" * 40, "\n", "é", 7, None, True]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """JOSE headers, most with a kid and some broken, in every way of writing JSON."""
    members = draw(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4))
    colon, comma = draw(st.sampled_from([":", ": ", " :\n "])), draw(st.sampled_from([",", ", "]))
    members += [("alg", "RS256")] * draw(st.integers(0, 1))
    ascii_only = draw(st.booleans())
    inner = comma.join(
        json.dumps(name, ensure_ascii=ascii_only) + colon + json.dumps(value, ensure_ascii=ascii_only)
        for name, value in members
    )
    octets = bytearray(b"{%b}" % inner.encode())
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(octets)))
        octets[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from([b"", b'"', b"\\", b":", b'"kid":"', b"\x00"]))
    return bytes(octets)


def read_header(octets: bytes) -> object:
    """The header that was read, or why it was refused."""
    try:
        return jws_module._read_header(octets, True)
    except Rejection as rejection:
        return rejection.reason, rejection.detail


@settings(max_examples=1000, deadline=None)
@given(headers())
@example(b'{"alg":"RS256","kid":"a"}')
@example(b'{"kid":"a","kid":"a","alg":"RS256"}')
@example(b'{"x":"\\"kid":"a","alg":"RS256"}')
@example(b'{"\\"kid":"a","alg":"RS256"}')
@example(b'{"alg":"RS256","kid":"\\u0061"}')
@example(b'{"alg":"RS256","kid" : "a","typ":"b"}')
@example(b'{"kid":[["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", ""kid":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["]]}')
def test_header_without_its_kid_reads_the_same(octets: bytes) -> None:
    """What is remembered of a JOSE header is what a reading of this very one gives, refusals included."""
    assert read_header(jws_module._without_kid(octets)) == read_header(octets)


def test_clients_share_what_is_remembered_of_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers that differ in nothing but their kid are read once, so that many clients cost no more than one."""
    read = jws_module._read_header
    seen: list[bytes] = []

    def counting(octets: bytes, unencoded: bool) -> Any:
        seen.append(octets)
        return read(octets, unencoded)

    monkeypatch.setattr(jws_module, "_read_header", counting)
    for number in range(50):
        header = {"alg": "RS256", "kid": f"client {number}", "x": "test_clients_share"}
        assert parse_compact(signed(RSA_KEY, header=header).encode()).header.alg == "RS256"
    assert len(seen) == 1


@pytest.mark.parametrize("parameter", ["crit", "b64", "zip", "enc"])
@pytest.mark.parametrize("value", [[], {}, ["alg"], ["b64"], ["exp"], "", None, False, True, 0, "DEF"], ids=json.dumps)
def test_crit_b64_zip_and_enc_are_refused(parameter: str, value: Any) -> None:
    """Whatever their value: nothing that they ask for is done here (RFC 7515 section 4.1.11, RFC 7797)."""
    token = signed(RSA_KEY, header={"alg": "RS256", parameter: value})
    assert reason_of_compact(token) is Reason.HEADER_PARAMETER_UNSUPPORTED


def test_b64_with_crit_is_refused() -> None:
    """The full form of RFC 7797, with a payload that is not encoded and one that is."""
    header = {"alg": "RS256", "b64": False, "crit": ["b64"]}
    assert reason_of_compact(signed(RSA_KEY, header=header)) is Reason.HEADER_PARAMETER_UNSUPPORTED
    head = material.b64url(material.compact_json(header))
    signature = material.signature(RSA_KEY, "RS256", f"{head}.{{}}".encode())
    assert reason_of_compact(f"{head}.{{}}.{material.b64url(signature)}") is Reason.JWS_MALFORMED
    assert reason_of_compact(f"{head}..{material.b64url(signature)}") is Reason.HEADER_PARAMETER_UNSUPPORTED


@pytest.mark.parametrize("parameter", ["alg", "typ", "cty", "kid"])
@pytest.mark.parametrize("value", [1, 0, True, None, [], ["RS256"], {}, 1.5], ids=json.dumps)
def test_parameters_of_wrong_type_are_refused(parameter: str, value: Any) -> None:
    """`alg`, `typ`, `cty` and `kid` are strings (RFC 7515 sections 4.1.1, 4.1.4, 4.1.9, 4.1.10)."""
    assert reason_of_compact(signed(RSA_KEY, header={"alg": "RS256", parameter: value})) is Reason.JWS_MALFORMED


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b'{"alg":"RS256","x":NaN}', id="nan"),
        pytest.param(b'{"alg":"RS256","x":-Infinity}', id="infinity"),
        pytest.param(b'{"alg":"RS256","kid":"\\ud800"}', id="lone-surrogate"),
        pytest.param(b'{"alg":"RS256","\\udfff":1}', id="lone-surrogate-in-a-name"),
        pytest.param(b'\xef\xbb\xbf{"alg":"RS256"}', id="byte-order-mark"),
        pytest.param('{"alg":"RS256"}'.encode("utf-16"), id="utf-16"),
        pytest.param('{"alg":"RS256"}'.encode("utf-16-le"), id="utf-16-without-mark"),
        pytest.param('{"alg":"RS256"}'.encode("utf-32"), id="utf-32"),
        pytest.param(b'{"alg":"RS256","kid":"\xff"}', id="no-utf-8"),
        pytest.param(b'{"alg":"RS256"}{"alg":"none"}', id="two-objects"),
        pytest.param(b'{"alg":"RS256"}\0', id="nul-after"),
        pytest.param(b'[{"alg":"RS256"}]', id="array"),
        pytest.param(b'"RS256"', id="string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"RS256", id="no-json"),
        pytest.param(b"{'alg':'RS256'}", id="single-quotes"),
        pytest.param(b'{"alg":"RS256",}', id="trailing-comma"),
        pytest.param(b"{}", id="no-alg"),
        pytest.param(b'{"Alg":"RS256"}', id="alg-in-another-case"),
        pytest.param(b'{"alg ":"RS256"}', id="alg-with-a-space"),
        pytest.param(b'{"x":{"alg":"RS256"}}', id="alg-one-level-down"),
        pytest.param(b'{"alg":"RS256","x":%s}' % (b"[" * 40 + b"]" * 40), id="deep"),
        pytest.param(b'{"alg":"RS256","x":%s}' % (b"9" * 5000), id="integer-of-5000-digits"),
    ],
)
def test_headers_that_are_no_strict_json_are_refused(header: bytes) -> None:
    """NaN, surrogates, marks, other encodings, depth: each is accepted by some library from the right key."""
    assert reason_of_compact(signed(RSA_KEY, header=header)) is Reason.JWS_MALFORMED


def test_kid_of_a_megabyte_is_too_large() -> None:
    """The cap comes before anything is decoded; with a cap wide enough the JWS is read."""
    token = signed(RSA_KEY, header={"alg": "RS256", "kid": "k" * 1_000_000})
    assert reason_of_compact(token) is Reason.JWS_TOO_LARGE
    assert parse_compact(token.encode(), 2_000_000).header.alg == "RS256"


def test_size_limit_is_exact() -> None:
    """16 KiB pass, one octet more does not, whatever it holds."""

    def of_size(octets: int) -> str:
        for filler in range(octets):
            token = signed(RSA_KEY, {"exp": NOW + 600, "fill": "x" * (octets * 3 // 4 - 320 + filler)})
            if len(token) >= octets:
                return token
        raise AssertionError

    largest = of_size(DEFAULT_MAX_OCTETS)
    assert len(largest) == DEFAULT_MAX_OCTETS == 16384
    assert reason_of(decision_on(largest, RSA_KEY)) is None
    assert reason_of_compact(of_size(DEFAULT_MAX_OCTETS + 1)) is Reason.JWS_TOO_LARGE
    assert reason_of_compact(b"." * (DEFAULT_MAX_OCTETS + 1)) is Reason.JWS_TOO_LARGE


# alg: allowed by the certificate's key and by the policy


ALGORITHMS_OF_OTHERS = [
    "none", "None", "NONE", "nOnE", "", " ", "RS256 ", " RS256", "rs256", "Rs256", "RS-256", "RS256\0",
    "HS256", "HS384", "HS512", "HS1", "RS1", "RSA1_5", "RSA-OAEP", "dir", "A128GCM", "ES256K", "ES256K-R", "ES512K",
    "Ed448", "EdDSA448", "BP256R1", "ML-DSA-44", "RS224", "PS1", "SHA256withRSA", "RS256,none", "http://a", "x" * 300,
]  # fmt: skip
"""Names that must never verify anything here."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALGORITHMS_OF_OTHERS, ids=lambda name: json.dumps(name[:20]))
def test_other_algorithms_are_refused(kind: material.KeyKind, name: str) -> None:
    """`none` in any case, the HMAC family, encryption, other curves: no key of a certificate allows them."""
    key = material.private_key(kind)
    token = signed(key, header={"alg": name}, algorithm=material.ALGORITHM_OF[kind])
    assert reason_of(decision_on(token, key)) is Reason.ALGORITHM_NOT_ALLOWED


def hmac_secrets(key: material.PrivateKey) -> dict[str, bytes]:
    """All forms of the public key that a confused verifier might take for a shared secret."""
    pem, certificate = material.public_pem(key), material.certificate(key)
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    secrets = {
        "public-pem": pem.encode(),
        "public-pem-stripped": pem.strip().encode(),
        "public-pem-crlf": pem.replace("\n", "\r\n").encode(),
        "public-der": material.public_der(key),
        "certificate-pem": certificate.encode(),
        "certificate-pem-stripped": certificate.strip().encode(),
        "certificate-der": loaded.public_bytes(serialization.Encoding.DER),
        "certificate-base64": x5c_entry(certificate).encode(),
        "thumbprint": certificate_of(key).thumbprint.encode(),
        "empty": b"",
        "zeros": bytes(32),
    }
    if isinstance(key, rsa.RSAPrivateKey):
        secrets["modulus"] = key.public_key().public_numbers().n.to_bytes(256)
    return secrets


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("kind", KINDS)
def test_hmac_with_the_public_key_as_secret_is_refused(kind: material.KeyKind, algorithm: str) -> None:
    """The classic confusion (RFC 8725 section 2.1), with every form of the public key."""
    key = material.private_key(kind)
    for secret in hmac_secrets(key).values():
        token = signed(secret, algorithm=algorithm)
        assert reason_of(decision_on(token, key)) is Reason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize("kind", KINDS)
def test_hmac_under_the_name_of_an_allowed_algorithm_is_refused(kind: material.KeyKind) -> None:
    """The same tag with the right `alg` in the header: neither length nor content fits."""
    key = material.private_key(kind)
    for secret in hmac_secrets(key).values():
        token = signed(secret, header={"alg": material.ALGORITHM_OF[kind]}, algorithm="HS512")
        assert reason_of(decision_on(token, key)) is Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("last", [b"", b"\0", b"signature"], ids=["nothing", "zero", "something"])
def test_none_is_refused(name: str, last: bytes) -> None:
    """An unsecured JWS (RFC 7515 appendix A.5), with an empty or any other last segment."""
    token = material.unsigned({"alg": name}, material.compact_json(good_claims()), last)
    expected = {Reason.JWS_MALFORMED} if last == b"" else {Reason.ALGORITHM_NOT_ALLOWED}
    assert reason_of(decision_on(token, RSA_KEY)) in expected


def test_signature_of_a_good_token_stripped() -> None:
    """Header and payload of a good token without its signature."""
    assert reason_of(decision_on(f"{HEADER}.{PAYLOAD}.", RSA_KEY)) is Reason.JWS_MALFORMED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_foreign_keys_are_refused(kind: material.KeyKind, other: material.KeyKind) -> None:
    """A JWS validly signed by somebody else's key of any kind."""
    token = signed(material.private_key(other, "foreign"))
    expected = Reason.SIGNATURE_MISMATCH if kind == other else Reason.ALGORITHM_NOT_ALLOWED
    assert reason_of(decision_on(token, material.private_key(kind))) is expected


def test_policy_narrows_the_algorithms() -> None:
    """What the key can verify and the policy does not name is refused."""
    token = signed(RSA_KEY, algorithm="RS256")
    assert reason_of(decision_on(token, RSA_KEY, algorithms=["PS256", "ES256"])) is Reason.ALGORITHM_NOT_ALLOWED
    assert reason_of(decision_on(token, RSA_KEY, algorithms=["RS256"])) is None


def test_policy_does_not_widen_the_algorithms() -> None:
    """A policy that names an algorithm does not make a key verify it."""
    token = signed(EC_KEY, header={"alg": "RS256"})
    assert reason_of(decision_on(token, EC_KEY, algorithms=["RS256"])) is Reason.ALGORITHM_NOT_ALLOWED


# Keys and certificates in the JOSE header


@pytest.mark.parametrize("kind", KINDS)
def test_embedded_jwk_is_never_used(kind: material.KeyKind) -> None:
    """A foreign key that brings itself along (CVE-2018-0114) is still foreign."""
    foreign = material.private_key(kind, "foreign")
    jwk = json.loads(JWK.from_pyca(foreign.public_key()).export_public())
    for extra in (
        {"jwk": jwk},
        {"jwk": jwk, "kid": jwk.get("kid", "k")},
        {"jku": "https://evil.example"},
    ):
        token = signed(foreign, header={"alg": material.ALGORITHM_OF[kind], **extra})
        assert reason_of(decision_on(token, material.private_key(kind))) is Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "/dev/null", "' OR 1=1 --", "client", "\0", "http://evil.example/"]
)
def test_kid_never_finds_a_key(kid: str) -> None:
    """`kid` is an unverified text, and stays one."""
    good = signed(RSA_KEY, header={"alg": "RS256", "kid": kid})
    foreign = signed(material.private_key("rsa", "foreign"), header={"alg": "RS256", "kid": kid})
    assert reason_of(decision_on(good, RSA_KEY)) is None
    assert reason_of(decision_on(foreign, RSA_KEY)) is Reason.SIGNATURE_MISMATCH


def test_certificate_named_in_the_header_must_be_the_registered_one() -> None:
    """`x5t#S256` and `x5c` of the registered certificate pass, of any other one they do not."""
    registered = material.certificate(RSA_KEY)
    other = material.certificate(RSA_KEY, "renewed")
    for pem, expected in ((registered, None), (other, Reason.SIGNATURE_MISMATCH)):
        for parameter in (
            {"x5t#S256": thumbprint_b64url(pem)},
            {"x5c": [x5c_entry(pem)]},
            {"x5t#S256": thumbprint_b64url(pem), "x5c": [x5c_entry(pem), x5c_entry(other)]},
        ):
            token = signed(RSA_KEY, header={"alg": "RS256", **parameter})
            assert reason_of(decision_on(token, RSA_KEY)) is expected
    both = {"x5t#S256": thumbprint_b64url(registered), "x5c": [x5c_entry(other)]}
    token = signed(RSA_KEY, header={"alg": "RS256", **both})
    assert reason_of(decision_on(token, RSA_KEY)) is Reason.SIGNATURE_MISMATCH


def test_certificate_brought_along_is_never_used() -> None:
    """A foreign key with its own certificate in `x5c` does not verify itself."""
    foreign = material.private_key("rsa", "foreign")
    pem = material.certificate(foreign)
    for parameter in ({"x5c": [x5c_entry(pem)]}, {"x5t#S256": thumbprint_b64url(pem)}):
        token = signed(foreign, header={"alg": "RS256", **parameter})
        assert reason_of(decision_on(token, RSA_KEY)) is Reason.SIGNATURE_MISMATCH
    for parameter in ({"x5c": [x5c_entry(material.certificate(RSA_KEY))]},):
        token = signed(foreign, header={"alg": "RS256", **parameter})
        assert reason_of(decision_on(token, RSA_KEY)) is Reason.SIGNATURE_MISMATCH


_DIGEST = hashlib.sha256(b"").digest()


@pytest.mark.parametrize(
    "parameter",
    [
        pytest.param({"x5t#S256": _DIGEST.hex()}, id="thumbprint-in-hex"),
        pytest.param({"x5t#S256": _DIGEST.hex().upper()}, id="thumbprint-in-upper-case-hex"),
        pytest.param({"x5t#S256": base64.urlsafe_b64encode(_DIGEST).decode()}, id="thumbprint-with-padding"),
        pytest.param({"x5t#S256": material.b64url(_DIGEST[:-1])}, id="thumbprint-too-short"),
        pytest.param({"x5t#S256": material.b64url(_DIGEST + b"\0")}, id="thumbprint-too-long"),
        pytest.param({"x5t#S256": material.altered(material.b64url(_DIGEST), -1)}, id="thumbprint-not-canonical"),
        pytest.param({"x5t#S256": "!" * 43}, id="thumbprint-not-base64url"),
        pytest.param({"x5t#S256": "é" * 43}, id="thumbprint-not-ascii"),
        pytest.param({"x5t#S256": ""}, id="thumbprint-empty"),
        pytest.param({"x5t#S256": None}, id="thumbprint-null"),
        pytest.param({"x5t#S256": 5}, id="thumbprint-number"),
        pytest.param({"x5t#S256": ["a"]}, id="thumbprint-array"),
        pytest.param({"x5c": []}, id="chain-empty"),
        pytest.param({"x5c": "AAAA"}, id="chain-string"),
        pytest.param({"x5c": None}, id="chain-null"),
        pytest.param({"x5c": [5]}, id="chain-of-numbers"),
        pytest.param({"x5c": {"0": "AAAA"}}, id="chain-object"),
        pytest.param({"x5c": ["!"]}, id="chain-not-base64"),
        pytest.param({"x5c": ["é"]}, id="chain-not-ascii"),
        pytest.param({"x5c": ["AAAA", None]}, id="chain-with-a-null-behind"),
    ],
)
def test_malformed_certificate_parameters_are_refused(parameter: dict[str, Any]) -> None:
    """A header parameter that is there says something right or the JWS is malformed."""
    assert reason_of_compact(signed(RSA_KEY, header={"alg": "RS256", **parameter})) is Reason.JWS_MALFORMED


# Transplants


@pytest.mark.parametrize("algorithm", ALGORITHM_KEYS)
def test_parts_of_two_good_tokens_make_no_third(algorithm: str) -> None:
    """Any mixture of header, payload and signature of two good tokens fails."""
    key = material.private_key(ALGORITHM_KEYS[algorithm])
    first = signed(key, {"exp": NOW + 600, "n": 1}, header={"alg": algorithm}, algorithm=algorithm).split(".")
    second = signed(
        key, {"exp": NOW + 601, "n": 2}, header={"alg": algorithm, "typ": "JWT"}, algorithm=algorithm
    ).split(".")
    for mask in range(1, 7):
        mixed = ".".join((second if mask >> index & 1 else first)[index] for index in range(3))
        assert reason_of(decision_on(mixed, key)) is Reason.SIGNATURE_MISMATCH


def test_dot_moved_between_header_and_payload() -> None:
    """The signing input has one dot, and it counts where."""
    for position in range(1, len(HEADER) + len(PAYLOAD)):
        joined = HEADER + PAYLOAD
        moved = f"{joined[:position]}.{joined[position:]}.{SIGNATURE}"
        assert (reason_of(decision_on(moved, RSA_KEY)) is None) is (moved == TOKEN)


@pytest.mark.parametrize("algorithm", ALGORITHM_KEYS)
def test_no_single_character_can_be_changed(algorithm: str) -> None:
    """Every position of a token, with the next character of the alphabet and with a dot."""
    key = material.private_key(ALGORITHM_KEYS[algorithm])
    token = signed(key, {"exp": NOW + 600}, algorithm=algorithm)
    step = 1 if algorithm in {"RS256", "ES256", "EdDSA"} else 7
    for position in range(0, len(token), step):
        if token[position] == ".":
            continue
        for changed in (material.altered(token, position), material.altered(token, position, ".")):
            assert reason_of(decision_on(changed, key)) is not None


def test_rejections_hold_nothing_that_the_client_sent() -> None:
    """`detail` goes to the audit log: it must be impossible to forge a log line through it."""
    marked = "MARKED"
    for header in (
        {"alg": marked},
        {"alg": "RS256", "kid": 5, marked: 1},
        {"alg": "RS256", "crit": [marked]},
        {"alg": "RS256", "x5t#S256": marked},
        {"alg": "RS256", "x5c": [marked]},
    ):
        decision = decision_on(signed(RSA_KEY, header=header), RSA_KEY)
        assert not isinstance(decision, Allowed)
        assert marked not in repr(decision)


# Any octets at all


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text("AQZaz09-_.=+/ \n{}", max_size=200).map(str.encode)))
def test_any_octets_are_read_or_rejected(octets: bytes) -> None:
    """Never another exception than Rejection; and what is read writes back to the same octets."""
    try:
        jws = parse_compact(octets)
    except Rejection as rejection:
        assert rejection.reason in {Reason.JWS_MALFORMED, Reason.HEADER_PARAMETER_UNSUPPORTED}
        return
    assert octets == jws.signing_input + b"." + material.b64url(jws.signature).encode()


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["alg", "typ", "cty", "kid", "x5c", "x5t#S256", "jwk", "crit", "b64", "zip", "enc", "other"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(max_size=8)
            | st.sampled_from(["RS256", "none", "AAAA"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
    ),
    st.binary(max_size=64),
)
def test_any_header_is_read_or_rejected(header: dict[str, Any], signature: bytes) -> None:
    """Any JSON as JOSE header with any signature is a decision, and never an allowing one."""
    octets = json.dumps(header).encode()
    reason = reason_of(decision_on(material.unsigned(octets, b'{"exp":9999999999}', signature), RSA_KEY))
    assert reason in {
        Reason.JWS_MALFORMED,
        Reason.HEADER_PARAMETER_UNSUPPORTED,
        Reason.ALGORITHM_NOT_ALLOWED,
        Reason.SIGNATURE_MISMATCH,
    }


def with_signature(jws: CompactJws, signature: bytes) -> CompactJws:
    """The same JWS with another signature."""
    return CompactJws(jws.header, jws.payload, signing_input=jws.signing_input, signature=signature)


@settings(deadline=None)
@given(st.sampled_from(list(ALGORITHM_KEYS)), st.binary(max_size=140))
def test_any_signature_octets_are_a_mismatch(algorithm: str, signature: bytes) -> None:
    """Whatever the octets, cryptography's refusals arrive as the one reason."""
    key = material.private_key(ALGORITHM_KEYS[algorithm])
    jws = parse_compact(signed(key, {}, algorithm=algorithm).encode())
    forged = with_signature(jws, signature)
    assert reason_of_verify(forged, certificate_of(key)) is Reason.SIGNATURE_MISMATCH
    padded = with_signature(jws, signature.ljust(certificate_of(key).key.signature_octets, b"\0"))
    assert reason_of_verify(padded, certificate_of(key)) is Reason.SIGNATURE_MISMATCH
