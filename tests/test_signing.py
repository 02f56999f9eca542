"""The demo's signer: claims in the order of the original, verified by a library that has no part in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws as reference
from joserfc.jwk import ECKey, RSAKey
from jwcrypto.jwk import JWK

import material
from jwsgate.core.algorithms import ALGORITHMS
from jwsgate.core.certificates import load_private_key
from jwsgate.core.policy import Sign
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.signing import sign_compact, sign_posted_claims

NOW = 1531296744.9


def kind_of(algorithm: str) -> material.KeyKind:
    """The kind of key that an algorithm signs with."""
    kinds: dict[str, material.KeyKind] = {"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed25519"}
    return kinds.get(algorithm, "rsa")


def signing_key(algorithm: str) -> JWK:
    """The key as a policy has it."""
    return load_private_key(material.private_pem(material.private_key(kind_of(algorithm))).encode()).jwk


ACTION = Sign(signing_key("ES256"), "ES256", "tvo", "the world", 3600)


def payload_of(token: bytes) -> bytes:
    """The payload of a compact JWS, unverified."""
    return material.unb64url(token.decode().split(".")[1])


def signed_claims(body: bytes, action: Sign = ACTION) -> list[tuple[str, Any]]:
    """The claims that are signed for a body, in their order."""
    claims: list[tuple[str, Any]] = json.loads(
        payload_of(sign_posted_claims(action, body, NOW)), object_pairs_hook=list
    )
    return claims


def refused(body: bytes) -> Rejection:
    """The rejection of a body."""
    with pytest.raises(Rejection) as caught:
        sign_posted_claims(ACTION, body, NOW)
    return caught.value


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signatures_are_good(algorithm: str) -> None:
    """Each algorithm's signature is verified by joserfc or cryptography, from the public key alone."""
    kind = kind_of(algorithm)
    key = material.private_key(kind)
    token = sign_compact(signing_key(algorithm), {"alg": algorithm}, b'{"a":1}').decode()
    if kind == "ed25519":  # joserfc warns of the name EdDSA
        signing_input, _, last = token.rpartition(".")
        key.public_key().verify(material.unb64url(last), signing_input.encode())  # type: ignore[call-arg]
    else:
        imported = (RSAKey if kind == "rsa" else ECKey).import_key(material.public_pem(key))
        assert reference.deserialize_compact(token, imported, algorithms=[algorithm]).payload == b'{"a":1}'


def test_original_token() -> None:
    """The token of 2018: header alg alone, iss, aud, exp, iat in this order, then what was posted."""
    token = sign_posted_claims(ACTION, b'{"t":"t"}', NOW)
    assert material.unb64url(token.decode().split(".")[0]) == b'{"alg":"ES256"}'
    assert payload_of(token) == b'{"iss":"tvo","aud":"the world","exp":1531300344,"iat":1531296744,"t":"t"}'


def test_shape_of_the_token() -> None:
    """Three base64url segments without padding."""
    token = sign_posted_claims(ACTION, b"", NOW).decode()
    assert len(token.split(".")) == 3
    assert set(token) <= set(material.BASE64URL + ".")


def test_lifetime() -> None:
    """Whole seconds from iat to exp, as the policy has them."""
    action = Sign(ACTION.key, "ES256", "a", "b", 60)
    assert signed_claims(b"{}", action) == [("iss", "a"), ("aud", "b"), ("exp", 1531296804), ("iat", 1531296744)]


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n", b"{}", b" { } "])
def test_nothing_posted(body: bytes) -> None:
    """No body, or an empty object, posts no members."""
    assert [name for name, _ in signed_claims(body)] == ["iss", "aud", "exp", "iat"]


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "iat"])
def test_own_claims_cannot_be_posted(name: str) -> None:
    """Who posts cannot name the issuer or the times."""
    assert signed_claims(b"{}") == signed_claims(json.dumps({name: "forged"}).encode())


@pytest.mark.parametrize("name", ["sub", "jti", "nbf", "ISS", "", "é", "t t"])
def test_other_claims_can_be_posted(name: str) -> None:
    """Every other member goes in, at the end."""
    assert (name, "x") == signed_claims(json.dumps({name: "x"}).encode())[-1]


def test_posted_order_is_kept() -> None:
    """Members stay in the order in which they were posted."""
    assert [name for name, _ in signed_claims(b'{"z":1,"iss":0,"a":2,"m":3}')[4:]] == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("posted", "signed"),
    [
        pytest.param("1", b"1", id="integer"),
        pytest.param("-0", b"0", id="minus-zero"),
        pytest.param("1.5", b"1.5", id="fraction"),
        pytest.param("123456789012345678901234567890", b"123456789012345678901234567890", id="large-integer"),
        pytest.param("null", b"null", id="null"),
        pytest.param("[true,false,{}]", b"[true,false,{}]", id="nested"),
        pytest.param('"\\u00e9"', '"é"'.encode(), id="escaped-letter"),
        pytest.param('"\\ud83d\\ude00"', '"😀"'.encode(), id="escaped-emoji"),
        pytest.param('"\\u0000\\n"', b'"\\u0000\\n"', id="control-characters"),
        pytest.param('"</script>"', b'"</script>"', id="slash"),
    ],
)
def test_posted_values(posted: str, signed: bytes) -> None:
    """Values keep their meaning; text is UTF-8."""
    token = sign_posted_claims(ACTION, f'{{"t":{posted}}}'.encode(), NOW)
    assert b'"t":' + signed + b"}" == payload_of(token)[-len(signed) - 5 :]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[]", id="list"),
        pytest.param(b'"t"', id="text"),
        pytest.param(b"null", id="null"),
        pytest.param(b"1", id="number"),
        pytest.param(b"{", id="cut-short"),
        pytest.param(b"{} x", id="rest"),
        pytest.param(b"{}{}", id="two-objects"),
        pytest.param(b"t=t", id="form"),
        pytest.param(b"{'t':'t'}", id="single-quotation"),
        pytest.param(b'{"t":1,}', id="trailing-comma"),
        pytest.param(b'{"t":1,"t":2}', id="repeated-member"),
        pytest.param(b'{"t":{"a":1,"a":2}}', id="repeated-member-deep"),
        pytest.param(b'{"iss":1,"iss":2}', id="repeated-dropped-member"),
        pytest.param(b'{"t":NaN}', id="nan"),
        pytest.param(b'{"t":-Infinity}', id="infinity"),
        pytest.param(b'{"t":1e400}', id="number-beyond-all"),
        pytest.param(b'{"t":[-1e999]}', id="number-beyond-all-deep"),
        pytest.param(b'{"t":' + b"9" * 5000 + b"}", id="5000-digits"),
        pytest.param(b'{"t":"\\ud800"}', id="lone-surrogate"),
        pytest.param(b'{"t":"\xff"}', id="not-utf-8"),
        pytest.param('{"t":1}'.encode("utf-16"), id="utf-16"),
        pytest.param(b'\xef\xbb\xbf{"t":1}', id="byte-order-mark"),
        pytest.param(b'{"t":' + b"[" * 100_000, id="deep"),
        pytest.param(b'{"t":"a\nb"}', id="raw-line-feed"),
        pytest.param(b"\0", id="nul"),
    ],
)
def test_refused_bodies(body: bytes) -> None:
    """What is no strict JSON object is refused, and nothing of it is repeated."""
    rejection = refused(body)
    assert rejection.reason is Reason.BODY_MALFORMED
    assert rejection.detail.isprintable()


@given(
    st.binary(max_size=60) | st.text(max_size=30).map(lambda text: f'{{"{text}":"{text}"}}'.encode("utf-8", "replace"))
)
def test_any_body(body: bytes) -> None:
    """Whatever is posted: a JWS, or `body_malformed`, and never another exception."""
    try:
        token = sign_posted_claims(ACTION, body, NOW)
    except Rejection as rejection:
        assert rejection.reason is Reason.BODY_MALFORMED
    else:
        assert json.loads(payload_of(token))["iss"] == "tvo"


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8")),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(st.characters(codec="utf-8"))
            | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_any_object_is_signed_as_posted(posted: dict[str, Any]) -> None:
    """What is posted is what is signed."""
    own = {"iss", "aud", "exp", "iat"}
    signed = json.loads(payload_of(sign_posted_claims(ACTION, json.dumps(posted).encode(), NOW)))
    expected = {name: value for name, value in posted.items() if name not in own}
    assert expected == {name: value for name, value in signed.items() if name not in own}
