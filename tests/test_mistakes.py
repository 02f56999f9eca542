"""Typical mistakes of clients, each made here as a client makes it: the account names it in its first line."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

import material
from feature_material import CLIENT_ID, DAY, NOW, OTHER_CLIENT_ID, Issued, a_route, certificate_for, issue
from jwsgate.core.bindings import Bindings, BodyDigest
from jwsgate.core.claims import ClaimRules
from jwsgate.core.decision import Rejected, Snapshot
from jwsgate.core.explain import Explanation, explain, render_text, to_json
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import Route, Router
from jwsgate.core.portal import Application, ClientId, Portal
from jwsgate.core.reasons import Reason
from jwsgate.core.sources import Source

RSA = material.private_key("rsa", "mistakes")
EC = material.private_key("p256", "mistakes")
OTHER = material.private_key("rsa", "mistakes-other")
STRANGER = material.private_key("rsa", "mistakes-stranger")
assert isinstance(RSA, rsa.RSAPrivateKey) and isinstance(EC, ec.EllipticCurvePrivateKey)
SHA256, SHA1 = hashes.SHA256(), hashes.SHA1()

RULES = ClaimRules(
    ("exp", "iat"), issuer=("my-client",), audience=("https://api.example/",), max_lifetime=3600, client_id_claim="azp"
)


@dataclass
class Call:
    """A good call, of which a mistake changes one thing."""

    key: material.PrivateKey = RSA
    certificates: list[Issued] = field(default_factory=list)
    enabled: bool = True
    claims: dict[str, Any] = field(
        default_factory=lambda: {
            "iss": "my-client", "aud": "https://api.example/", "azp": CLIENT_ID, "iat": NOW - 5, "exp": NOW + 600,
        }
    )  # fmt: skip
    header: dict[str, Any] = field(default_factory=dict)
    sign: Callable[[bytes], bytes] | None = None
    """From the signing input to the signature, where it is not the usual one."""
    spell: Callable[[str], str] = str
    """From the good JWS to what is sent."""
    client_id: str = CLIENT_ID
    method: str = "GET"
    target: str = "/orders/17"
    name: str = "jwt"
    extra: list[tuple[bytes, bytes]] = field(default_factory=list)
    route: Callable[[Route], Route] = lambda route: route
    decided: Rejected | None = None
    body: bytes | None = None

    @property
    def thumbprint(self) -> bytes:
        """SHA-256 of the registered certificate."""
        return bytes.fromhex(certificate_for(self.key, "client").registered().thumbprint)

    def token(self) -> str:
        """The JWS as it is sent."""
        algorithm = self.header.get("alg") or material.algorithm_of(self.key)
        first = material.b64url(material.compact_json({"alg": algorithm, **self.header}))
        signing_input = f"{first}.{material.b64url(material.compact_json(self.claims))}"
        if self.sign is None:
            signature = material.signature(self.key, material.algorithm_of(self.key), signing_input.encode())
        else:
            signature = self.sign(signing_input.encode())
        return self.spell(f"{signing_input}.{material.b64url(signature)}")

    def facts(self) -> RequestFacts:
        """The request."""
        fields = [(b"Host", b"api.example"), (b"X-IBM-Client-Id", self.client_id.encode()), *self.extra]
        fields.append((self.name.encode(), self.token().encode("latin-1")))
        return RequestFacts(self.method, self.target.encode(), tuple(fields))

    def snapshot(self) -> Snapshot:
        """What the gate has: this application, another one, and one that registered nothing."""
        own = self.certificates or [certificate_for(self.key, "client")]
        applications = (
            Application("shop", "Shop", self.enabled, (ClientId(CLIENT_ID),), tuple(c.registered() for c in own)),
            Application(
                "other", "Other", True, (ClientId(OTHER_CLIENT_ID),), (certificate_for(OTHER, "other").registered(),)
            ),
            Application("bare", "Bare", True, (ClientId("bare-client"),), ()),
        )
        router = Router()
        router.add(self.route(a_route("/orders/{id}", {"GET", "PUT"}, claims=RULES)))
        router.add(a_route("/status"))
        return Snapshot(Portal(applications), router, "test")

    def explained(self) -> Explanation:
        """The account."""
        return explain(self.snapshot(), self.facts(), NOW, self.body, self.decided)


type Mistake = Callable[[], Call]
MISTAKES: dict[str, tuple[str, Mistake]] = {}
"""Every mistake, with the words that its first line must have."""


def mistake(words: str) -> Callable[[Mistake], Mistake]:
    """List a mistake."""

    def add(make: Mistake) -> Mistake:
        MISTAKES[make.__name__.strip("_").replace("_", "-")] = words, make
        return make

    return add


def claims(**changed: Any) -> Call:
    """A call with other claims; None leaves one out."""
    call = Call()
    call.claims = {name: value for name, value in {**call.claims, **changed}.items() if value is not None}
    return call


# The key


@mistake("Signed with another application's key: that of 'Other'")
def another_applications_key() -> Call:
    return Call(sign=lambda signed: material.signature(OTHER, "RS256", signed))


@mistake("The client ID is that of application 'Shop', but the JWS was made and signed by 'Other'")
def client_id_of_another_application() -> Call:
    call = claims(azp=OTHER_CLIENT_ID)
    return replace(call, sign=lambda signed: material.signature(OTHER, "RS256", signed))


@mistake("Signed with a key that no application has registered")
def unregistered_key() -> Call:
    return Call(sign=lambda signed: material.signature(STRANGER, "RS256", signed))


@mistake("Signed with the application's former key, whose certificate ended 1 day ago: the key was rotated")
def key_rotated_yesterday() -> Call:
    old, new = issue("old", key=STRANGER, end=NOW - DAY), certificate_for(RSA, "new", -2)
    return Call(certificates=[old, new], sign=lambda signed: material.signature(STRANGER, "RS256", signed))


@mistake("or header or payload were changed after signing; the registered certificate is new (1 day ago): perhaps with")
def key_rotated_and_the_former_one_gone() -> Call:
    return Call(
        certificates=[certificate_for(RSA, "new", -1)],
        sign=lambda signed: material.signature(STRANGER, "RS256", signed),
    )


@mistake("Signed with the application's next key, whose certificate counts in 1 day")
def next_key_too_early() -> Call:
    coming = issue("next", key=STRANGER, start=NOW + DAY)
    return Call(
        certificates=[certificate_for(RSA, "client"), coming],
        sign=lambda signed: material.signature(STRANGER, "RS256", signed),
    )


@mistake("The registered certificate expired 3 days ago")
def certificate_expired() -> Call:
    return Call(certificates=[certificate_for(RSA, "old", -30, -3)])


@mistake("The registered certificate counts only in 2 days")
def certificate_not_yet_valid() -> Call:
    return Call(certificates=[certificate_for(RSA, "soon", 2)])


@mistake("No certificate is registered for the application 'Bare'")
def no_certificate_registered() -> Call:
    return Call(client_id="bare-client")


@mistake("The application 'Shop' is disabled")
def application_disabled() -> Call:
    return Call(enabled=False)


# The signature


@mistake("The ECDSA signature is in DER")
def der_signature() -> Call:
    return Call(key=EC, sign=lambda signed: EC.sign(signed, ec.ECDSA(SHA256)))


@mistake("Signed with HS256, with the registered public key's PEM as the shared secret")
def hs256_with_the_pem() -> Call:
    secret = material.public_pem(RSA).encode()
    return Call(header={"alg": "HS256"}, sign=lambda signed: material.signature(secret, "HS256", signed))


@mistake("Signed with HS256, with the registered certificate's PEM as the shared secret")
def hs256_with_the_certificate() -> Call:
    secret = certificate_for(RSA, "client").pem.encode()
    return Call(header={"alg": "HS256"}, sign=lambda signed: material.signature(secret, "HS256", signed))


@mistake("Signed with HS256, with the registered certificate's DER as the shared secret")
def hs256_with_the_certificates_der() -> Call:
    secret = certificate_for(RSA, "client").certificate.public_bytes(serialization.Encoding.DER)
    return Call(header={"alg": "HS256"}, sign=lambda signed: material.signature(secret, "HS256", signed))


@mistake("Signed with HS256, with the client ID as the shared secret")
def hs256_with_the_client_id() -> Call:
    secret = CLIENT_ID.encode()
    return Call(header={"alg": "HS256"}, sign=lambda signed: material.signature(secret, "HS256", signed))


@mistake("The JOSE header says alg HS256, but it was signed as RS256")
def hs256_in_the_header_alone() -> Call:
    return Call(header={"alg": "HS256"}, sign=lambda signed: material.signature(RSA, "RS256", signed))


@mistake("The JOSE header says alg HS256, whose signatures have 32 octets, but this one has 256: it is of another")
def hs256_in_the_header_and_another_key() -> Call:
    return Call(header={"alg": "HS256"}, sign=lambda signed: material.signature(STRANGER, "RS256", signed))


@mistake("The JOSE header says alg ES256, but it was signed as RS256")
def es256_in_the_header_alone() -> Call:
    return Call(header={"alg": "ES256"}, sign=lambda signed: material.signature(RSA, "RS256", signed))


@mistake("Signed with HS256, an algorithm with a shared secret")
def hs256_with_a_secret() -> Call:
    return Call(header={"alg": "HS256"}, sign=lambda signed: material.signature(b"secret", "HS256", signed))


@mistake("The JWS is not signed at all: alg is none")
def alg_none() -> Call:
    return Call(header={"alg": "none"}, sign=lambda _: b"")


@mistake("The JWS is not signed: alg is none")
def alg_none_with_a_signature() -> Call:
    return Call(header={"alg": "none"}, sign=lambda _: b"x")


@mistake("The JOSE header says alg RS256, but it was signed as PS256 (RSASSA-PSS and PKCS #1 v1.5 mixed up)")
def pss_for_pkcs1() -> Call:
    return Call(header={"alg": "RS256"}, sign=lambda signed: material.signature(RSA, "PS256", signed))


@mistake("The JOSE header says alg PS256, but it was signed as RS256 (RSASSA-PSS and PKCS #1 v1.5 mixed up)")
def pkcs1_for_pss() -> Call:
    return Call(header={"alg": "PS256"}, sign=lambda signed: material.signature(RSA, "RS256", signed))


@mistake("with RSASSA-PSS, but not with the salt length or mask of PS256")
def pss_with_the_longest_salt() -> Call:
    pss = padding.PSS(padding.MGF1(SHA256), padding.PSS.MAX_LENGTH)
    return Call(header={"alg": "PS256"}, sign=lambda signed: RSA.sign(signed, pss, SHA256))


@mistake("with RSASSA-PSS, but not with the salt length or mask of PS256 (SHA-256, mask by SHA-1)")
def pss_with_javas_default_mask() -> Call:
    pss = padding.PSS(padding.MGF1(SHA1), 32)
    return Call(header={"alg": "PS256"}, sign=lambda signed: RSA.sign(signed, pss, SHA256))


@mistake("Signed with SHA-1")
def sha1() -> Call:
    return Call(sign=lambda signed: RSA.sign(signed, padding.PKCS1v15(), SHA1))


@mistake("The JOSE header says alg RS512, but it was signed as RS256")
def another_digest() -> Call:
    return Call(header={"alg": "RS512"}, sign=lambda signed: material.signature(RSA, "RS256", signed))


@mistake("Signed on the curve P-256 with SHA-512")
def another_digest_on_a_curve() -> Call:
    def sign(signed: bytes) -> bytes:
        r, s = material.decode_dss_signature(EC.sign(signed, ec.ECDSA(hashes.SHA512())))
        return r.to_bytes(32) + s.to_bytes(32)

    return Call(key=EC, sign=sign)


@mistake("Signed with ES256, but the registered certificate holds a key of the kind RSA")
def algorithm_of_another_kind_of_key() -> Call:
    return Call(header={"alg": "ES256"}, sign=lambda signed: material.signature(EC, "ES256", signed))


@mistake("alg is written 'rs256'; names of algorithms are case-sensitive")
def alg_in_lower_case() -> Call:
    return Call(header={"alg": "rs256"}, sign=lambda signed: material.signature(RSA, "RS256", signed))


@mistake("what was signed is not header.payload: before base64url")
def signature_of_unencoded_input() -> Call:
    return Call(
        sign=lambda signed: material.signature(
            RSA, "RS256", b".".join(base64.urlsafe_b64decode(part + b"==") for part in signed.split(b"."))
        )
    )


@mistake("what was signed is not header.payload: without the header")
def signature_of_the_payload_alone() -> Call:
    return Call(sign=lambda signed: material.signature(RSA, "RS256", signed.split(b".")[1]))


@mistake("what was signed is not header.payload: with a line break at its end")
def signature_with_echos_line_break() -> Call:
    return Call(key=EC, sign=lambda signed: material.signature(EC, "ES256", signed + b"\n"))


@mistake("what was signed is not header.payload: with a line break of Windows at its end")
def signature_with_a_line_break_of_windows() -> Call:
    return Call(sign=lambda signed: material.signature(RSA, "RS256", signed + b"\r\n"))


@mistake("what was signed is not header.payload: without the dot between the two")
def signature_without_the_dot() -> Call:
    return Call(sign=lambda signed: material.signature(RSA, "RS256", signed.replace(b".", b"")))


@mistake("what was signed is not header.payload: as UTF-16")
def signature_of_utf_16() -> Call:
    return Call(sign=lambda signed: material.signature(RSA, "RS256", signed.decode().encode("utf-16-le")))


@mistake("what was signed is not header.payload: hashed twice")
def signature_of_the_digest() -> Call:
    return Call(key=EC, sign=lambda signed: material.signature(EC, "ES256", hashlib.sha256(signed).digest()))


@mistake("The signature is the base64url of its hex")
def hex_signature() -> Call:
    return Call(sign=lambda signed: material.signature(RSA, "RS256", signed).hex().encode())


def raw_signature(signed: bytes) -> bytes:
    """A good ECDSA signature."""
    return material.signature(EC, "ES256", signed)


@mistake("The ECDSA signature has 63 octets in place of 64: leading zeros of r or s were left out")
def leading_zero_of_r_lost() -> Call:
    def sign(signed: bytes) -> bytes:
        while (made := raw_signature(signed))[0]:
            pass
        return made[1:]

    return Call(key=EC, sign=sign)


@mistake("The ECDSA signature has 63 octets in place of 64: leading zeros of r or s were left out")
def leading_zero_of_s_lost() -> Call:
    def sign(signed: bytes) -> bytes:
        while (made := raw_signature(signed))[32]:
            pass
        return made[:32] + made[33:]

    return Call(key=EC, sign=sign)


@mistake("The ECDSA signature has r and s in the wrong order")
def r_and_s_swapped() -> Call:
    def sign(signed: bytes) -> bytes:
        made = raw_signature(signed)
        return made[32:] + made[:32]

    return Call(key=EC, sign=sign)


@mistake("The ECDSA signature has r and s in little-endian")
def little_endian() -> Call:
    def sign(signed: bytes) -> bytes:
        made = raw_signature(signed)
        return made[31::-1] + made[:31:-1]

    return Call(key=EC, sign=sign)


@mistake("The ECDSA signature is in little-endian as a whole")
def little_endian_as_a_whole() -> Call:
    return Call(key=EC, sign=lambda signed: raw_signature(signed)[::-1])


@mistake("The signature is the base64url of its hex, and is in DER")
def hex_of_der() -> Call:
    return Call(key=EC, sign=lambda signed: EC.sign(signed, ec.ECDSA(SHA256)).hex().encode())


@mistake("The signature has 234 octets; RS256 with the registered key has 256: it was cut off")
def signature_cut_off() -> Call:
    return Call(sign=lambda signed: material.signature(RSA, "RS256", signed)[:234])


@mistake("The signature has 32 octets; ES256 with the registered key has 64: it was made with another key, or cut off")
def half_a_signature() -> Call:
    return Call(key=EC, sign=lambda signed: raw_signature(signed)[:32])


@mistake("The signature has 255 octets in place of 256: leading zeros were left out")
def leading_zero_of_an_rsa_signature_lost() -> Call:
    def sign(signed: bytes) -> bytes:
        pss = padding.PSS(padding.MGF1(SHA256), 32)
        while (made := RSA.sign(signed, pss, SHA256))[0]:
            pass
        return made[1:]

    return Call(header={"alg": "PS256"}, sign=sign)


@mistake("Signed with MD5")
def md5() -> Call:
    return Call(sign=lambda signed: RSA.sign(signed, padding.PKCS1v15(), hashes.MD5()))


@mistake("Signed without the name of the digest")
def bare_digest() -> Call:
    def sign(signed: bytes) -> bytes:
        numbers = RSA.private_numbers()
        padded = b"\x00\x01".ljust(223, b"\xff") + b"\x00" + hashlib.sha256(signed).digest()
        return pow(int.from_bytes(padded), numbers.d, numbers.public_numbers.n).to_bytes(256)

    return Call(sign=sign)


@mistake("The signature is base64-encoded twice")
def signature_encoded_twice() -> Call:
    return Call(sign=lambda signed: base64.b64encode(material.signature(RSA, "RS256", signed)))


@mistake("header or payload were changed after signing")
def payload_tampered_with() -> Call:
    def spell(token: str) -> str:
        first, payload, last = token.split(".")
        changed = json.loads(material.unb64url(payload)) | {"admin": True}
        return f"{first}.{material.b64url(material.compact_json(changed))}.{last}"

    return Call(spell=spell)


# x5t#S256


@mistake("x5t#S256 gives the certificate's thumbprint in hex")
def hex_thumbprint() -> Call:
    return Call(header={"x5t#S256": Call().thumbprint.hex()})


@mistake("x5t#S256 gives the certificate's thumbprint in hex")
def thumbprint_as_openssl_prints_it() -> Call:
    return Call(header={"x5t#S256": Call().thumbprint.hex(":").upper()})


@mistake("x5t#S256 gives the certificate's thumbprint as the base64 of its hex")
def base64_of_the_hex_thumbprint() -> Call:
    return Call(header={"x5t#S256": material.b64url(Call().thumbprint.hex().encode())})


@mistake("x5t#S256 or x5c names the certificate of application 'Other'")
def thumbprint_of_another_application() -> Call:
    other = bytes.fromhex(certificate_for(OTHER, "other").registered().thumbprint)
    return Call(
        header={"x5t#S256": material.b64url(other)}, sign=lambda signed: material.signature(STRANGER, "RS256", signed)
    )


def wrong_thumbprint(claims: str = "", kid: str = "") -> Call:
    """A good signature, and the thumbprint of another certificate; claims and header as long as one likes."""
    other = bytes.fromhex(certificate_for(OTHER, "other").registered().thumbprint)
    call = Call(header={"x5t#S256": material.b64url(other), **({"kid": kid} if kid else {})})
    call.claims["sub"] = claims
    return call


@mistake("The signature is good, but x5t#S256 or x5c names another certificate than the registered one")
def another_thumbprint() -> Call:
    return wrong_thumbprint()


@mistake(
    "The signature is good, but x5t#S256 is the digest of the registered certificate's PEM, not of the certificate's"
)
def thumbprint_of_the_pem() -> Call:
    digest = hashlib.sha256(certificate_for(RSA, "client").pem.encode()).digest()
    return Call(header={"x5t#S256": material.b64url(digest)})


@mistake("The signature is good, but x5t#S256 is the digest of the registered public key's DER")
def thumbprint_of_the_public_key() -> Call:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    digest = hashlib.sha256(RSA.public_key().public_bytes(serialization.Encoding.DER, spki)).digest()
    return Call(header={"x5t#S256": material.b64url(digest)})


@mistake("The signature is good, but x5t#S256 or x5c names another certificate than the registered one")
def thumbprint_of_the_other_certificate() -> Call:
    old, new = issue("old", key=STRANGER), certificate_for(RSA, "client")
    named = material.b64url(bytes.fromhex(old.registered().thumbprint))
    return Call(certificates=[old, new], header={"x5t#S256": named})


# How it is sent


@mistake("The word 'Bearer' was left in front of the JWS")
def bearer_left_in() -> Call:
    return Call(spell=lambda token: f"Bearer {token}")


@mistake("The JWS is URL-escaped")
def url_escaped() -> Call:
    return Call(spell=lambda token: token.replace(".", "%2E"))


@mistake("The JWS is wrapped over several lines")
def line_wrapped() -> Call:
    return Call(spell=lambda token: "\r\n ".join(token[at : at + 76] for at in range(0, len(token), 76)))


@mistake("The JWS has white space inside")
def line_wrapped_and_folded() -> Call:
    return Call(spell=lambda token: " ".join(token[at : at + 76] for at in range(0, len(token), 76)))


@mistake("There are quotes around the JWS")
def quoted() -> Call:
    return Call(spell=lambda token: f'"{token}"')


@mistake("The JWS is a printed Python bytes object")
def python_bytes() -> Call:
    return Call(spell=lambda token: repr(token.encode()))


@mistake("A placeholder was sent in place of the JWS: ${JWS}")
def unfilled_variable() -> Call:
    return Call(spell=lambda _: "${JWS}")


@mistake("The JWS is in the JSON serialization")
def json_serialization() -> Call:
    def spell(token: str) -> str:
        first, payload, last = token.split(".")
        return json.dumps({"payload": payload, "protected": first, "signature": last})

    return Call(spell=spell)


@mistake("The claims were sent as JSON, without being signed")
def bare_claims() -> Call:
    return Call(spell=lambda token: material.unb64url(token.split(".")[1]).decode())


@mistake("The JWS is written in standard base64")
def standard_base64_with_padding() -> Call:
    def spell(token: str) -> str:
        return ".".join(base64.b64encode(material.unb64url(part)).decode() for part in token.split("."))

    return Call(spell=spell)


@mistake("It is a JWE (encrypted, five segments), not a JWS")
def encrypted() -> Call:
    jwe = JWE(b"{}", json.dumps({"alg": "RSA-OAEP-256", "enc": "A256GCM"}))
    jwe.add_recipient(JWK.from_pem(material.public_pem(RSA).encode()))
    return Call(spell=lambda _: jwe.serialize(compact=True))


@mistake("The JWS is base64-encoded a second time")
def encoded_twice() -> Call:
    return Call(spell=lambda token: base64.b64encode(token.encode()).decode())


@mistake("A PEM file was sent in place of a JWS")
def pem_in_place_of_a_jws() -> Call:
    return Call(spell=lambda _: "-----BEGIN CERTIFICATE----- MIIB")


@mistake("The JWS has no signature; it was cut off")
def cut_off() -> Call:
    return Call(spell=lambda token: token.rpartition(".")[0])


@mistake("The signature was cut: its length is none that base64url has")
def last_characters_cut() -> Call:
    return Call(spell=lambda token: token[:-1])


@mistake("The JWS is in header Authorization, where nobody looks for it")
def jws_in_another_header() -> Call:
    return Call(name="Authorization", spell=lambda token: f"Bearer {token}")


@mistake("The JWS is in header Authorization, but without the authentication scheme")
def bearer_missing() -> Call:
    bearer = Source("header", "Authorization", "Bearer")
    return Call(name="Authorization", route=lambda route: replace(route, jws=bearer))


@mistake("The JWS was sent more than once in header jwt")
def header_repeated() -> Call:
    return Call(extra=[(b"jwt", b"x")])


@mistake("The header is called X_IBM_Client_Id, not X-IBM-Client-Id")
def header_with_underscores() -> Call:
    return Call(extra=[(b"X_IBM_Client_Id", b"x")])


@mistake("The JWS is detached (its payload is empty), but the route takes a whole one")
def detached_where_none_is_taken() -> Call:
    return Call(spell=lambda token: token.split(".")[0] + ".." + token.split(".")[2])


def bearer_policy(**call: Any) -> Call:
    """A call to a policy that looks for the JWS after Bearer."""
    bearer = Source("header", "Authorization", "Bearer")
    return Call(name="Authorization", route=lambda route: replace(route, jws=bearer), **call)


@mistake("The word 'Bearer' stands twice in front of the JWS")
def bearer_twice() -> Call:
    return bearer_policy(spell=lambda token: f"Bearer Bearer {token}")


@mistake("The word 'JWT' stands between Bearer and the JWS")
def bearer_and_another_word() -> Call:
    return bearer_policy(spell=lambda token: f"Bearer JWT {token}")


@mistake("The JWS is in header Authorization, but after the word 'Token'")
def another_scheme() -> Call:
    return bearer_policy(spell=lambda token: f"Token {token}")


@mistake("The JWS is in header Authorization, but after the word 'Bearer:'")
def scheme_with_a_colon() -> Call:
    return bearer_policy(spell=lambda token: f"Bearer: {token}")


@mistake("The JWS is abbreviated")
def abbreviated_with_dots() -> Call:
    return Call(spell=lambda token: f"{token[:40]}...{token[-20:]}")


@mistake("The JWS is abbreviated")
def abbreviated_with_an_ellipsis() -> Call:
    return Call(spell=lambda token: sent_as_utf8(f"{token[:40]}…{token[-20:]}"))


@mistake("The JWS stands 2 times in one value, with commas between")
def joined_by_a_comma() -> Call:
    return Call(spell=lambda token: f"{token}, {token}")


@mistake("The JWS stands 2 times in one value, with white space between")
def joined_by_a_blank() -> Call:
    return Call(spell=lambda token: f"{token} {token}")


@mistake("There are 2 JWS in one value, with commas between")
def two_jws_joined() -> Call:
    return Call(spell=lambda token: f"{token},{claims(sub='other').token()}")


@mistake("It is no compact JWS: it has 5 segments in place of three")
def five_segments() -> Call:
    return Call(spell=lambda token: f"{token}.a.b")


@mistake("The JWS is still in a JSON document, as its member access_token")
def whole_response_of_a_token_endpoint() -> Call:
    return Call(spell=lambda token: json.dumps({"access_token": token, "token_type": "Bearer"}))


@mistake("A PRIVATE KEY was sent in place of the JWS")
def private_jwk() -> Call:
    return Call(spell=lambda _: json.dumps({"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "d": "c2VjcmV0"}))


@mistake("A PRIVATE KEY was sent in place of the JWS")
def private_jwk_in_base64() -> Call:
    return Call(spell=lambda _: material.b64url(b'{"kty":"oct","k":"c2VjcmV0"}'))


@mistake("A PRIVATE KEY was sent in place of the JWS")
def private_jwk_as_python_prints_it() -> Call:
    return Call(spell=lambda _: "{'kty': 'oct', 'k': 'c2VjcmV0'}")


@mistake("A PRIVATE KEY was sent in place of the JWS")
def private_pem() -> Call:
    return Call(spell=lambda _: "-----BEGIN PRIVATE KEY----- c2VjcmV0 -----END PRIVATE KEY-----")


@mistake("A PRIVATE KEY was sent in place of the client ID")
def private_jwk_as_client_id() -> Call:
    return Call(client_id=json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}))


@mistake("A public key (JWK) was sent in place of the JWS")
def public_jwk() -> Call:
    return Call(spell=lambda _: '{"kty":"EC","crv":"P-256","x":"x","y":"y"}')


def sent_as_utf8(text: str) -> str:
    """As it is on the wire, an octet a character."""
    return text.encode().decode("latin-1")


@mistake("The JWS has typographic quotes in it, as texts have that were copied from a document or a chat")
def smart_quotes() -> Call:
    return Call(spell=lambda token: sent_as_utf8(f"“{token}”"))


@mistake("The JWS has a no-break space in it")
def no_break_space() -> Call:
    return Call(spell=lambda token: sent_as_utf8(f"\u00a0{token}"))


@mistake("The JWS has a no-break space in it")
def no_break_space_of_latin_1() -> Call:
    return Call(spell=lambda token: f"{token[:30]}\u00a0{token[30:]}")


@mistake("The JWS has a zero-width space in it")
def zero_width_space() -> Call:
    return Call(spell=lambda token: sent_as_utf8(f"{token[:30]}\u200b{token[30:]}"))


@mistake("The JWS has a byte order mark in it")
def byte_order_mark() -> Call:
    return Call(spell=lambda token: sent_as_utf8(f"\ufeff{token}"))


@mistake("There is punctuation behind the JWS")
def full_stop() -> Call:
    return Call(spell=lambda token: f"{token}.")


@mistake("The name of a file was sent in place of the JWS: @token.txt")
def name_of_a_file_after_at() -> Call:
    return Call(spell=lambda _: "@token.txt")


@mistake("The name of a file was sent in place of the JWS: out/my.jwt")
def name_of_a_file() -> Call:
    return Call(spell=lambda _: "out/my.jwt")


@mistake("The JWS is written in hex")
def in_hex() -> Call:
    return Call(spell=lambda token: token.encode().hex())


@mistake("The client ID was sent in place of the JWS")
def client_id_as_jws() -> Call:
    return Call(spell=lambda _: CLIENT_ID)


# Client ID and path


@mistake("differs from 479b3df9-380e-4bda-8cc1-92718c88f9cd in case or dashes")
def client_id_in_capitals() -> Call:
    return Call(client_id=CLIENT_ID.upper())


@mistake("479b3df9-380e-4bda-8cc1-92718c88f9cd is much like it")
def client_id_mistyped() -> Call:
    return Call(client_id=CLIENT_ID[:-1] + "e")


@mistake("No application has the client ID nobody")
def client_id_wrong() -> Call:
    return Call(client_id="nobody")


@mistake("The client ID is in header X-Client-Id, where nobody looks for it")
def client_id_in_another_header() -> Call:
    return Call(client_id="", extra=[(b"X-Client-Id", CLIENT_ID.encode())])


@mistake("The client ID is wrapped in quotes")
def client_id_in_quotes() -> Call:
    return Call(client_id=f"'{CLIENT_ID}'")


@mistake("A placeholder was sent in place of the client ID: $CLIENT_ID")
def client_id_of_an_unset_variable() -> Call:
    return Call(client_id="$CLIENT_ID")


@mistake("A placeholder was sent in place of the client ID: {{client_id}}")
def client_id_of_an_unknown_environment() -> Call:
    return Call(client_id="{{client_id}}")


@mistake("The client ID is URL-escaped")
def client_id_escaped() -> Call:
    return Call(client_id=CLIENT_ID.replace("-", "%2D"))


@mistake("Only a part of the client ID 479b3df9-380e-4bda-8cc1-92718c88f9cd was sent: 479b3df9-380e-4bd")
def half_a_client_id() -> Call:
    return Call(client_id=CLIENT_ID[:17])


@mistake("The client ID stands more than once in one value, with commas between")
def client_id_twice() -> Call:
    return Call(client_id=f"{CLIENT_ID}, {CLIENT_ID}")


@mistake("The client ID has client_id= in front of it")
def client_id_with_its_name() -> Call:
    return Call(client_id=f"client_id={CLIENT_ID}")


@mistake("The client ID is base64-encoded")
def client_id_in_base64() -> Call:
    return Call(client_id=base64.b64encode(CLIENT_ID.encode()).decode())


@mistake("The client ID has a no-break space in it")
def client_id_with_a_no_break_space() -> Call:
    return Call(client_id=f"{CLIENT_ID}\u00a0")


@mistake("It is a browser's CORS preflight for PUT, and the route /orders/{id} ")
def preflight_without_cors() -> Call:
    asks = [(b"Origin", b"https://app.example"), (b"Access-Control-Request-Method", b"PUT")]
    return Call(method="OPTIONS", extra=asks)


@mistake("It is a browser's CORS preflight for GET, and the route /status ")
def preflight_of_a_route_for_any_method() -> Call:
    asks = [(b"Origin", b"https://app.example"), (b"Access-Control-Request-Method", b"GET")]
    return Call(method="OPTIONS", target="/status", client_id="", name="X-No", extra=asks)


@mistake("A JWS was sent in place of the client ID")
def jws_as_client_id() -> Call:
    return Call(client_id=Call().token())


@mistake("The application's name was sent in place of its client ID: Shop")
def name_as_client_id() -> Call:
    return Call(client_id="Shop")


@mistake("The path /orders/17 has no route for the method POST, only for GET, PUT")
def wrong_method() -> Call:
    return Call(method="POST")


@mistake("No route has the path /orders/17/; there is one without a slash at its end")
def slash_too_many() -> Call:
    return Call(target="/orders/17/")


@mistake("No route has the path /v1/orders/17; there is one for /orders/17")
def base_path_too_many() -> Call:
    return Call(target="/v1/orders/17")


@mistake("No route has the path /statuses; the nearest is /status")
def path_mistyped() -> Call:
    return Call(target="/statuses")


# Claims


@mistake("exp is in milliseconds, not seconds")
def milliseconds() -> Call:
    return claims(exp=(NOW + 600) * 1000)


@mistake("exp is a number written as text")
def exp_as_text() -> Call:
    return claims(exp=str(NOW + 600))


@mistake("exp is a text, not a number of seconds")
def exp_as_a_date() -> Call:
    return claims(exp="2030-03-17T17:56:40Z")


@mistake("The claim exp is missing")
def exp_missing() -> Call:
    return claims(exp=None)


@mistake("The claim exp is missing; expires_at stands in its place")
def exp_under_another_name() -> Call:
    return claims(exp=None, expires_at=NOW + 600)


@mistake("The claim exp is missing: it is in the JOSE header, not in the payload")
def exp_in_the_header() -> Call:
    return replace(claims(exp=None), header={"exp": NOW + 600})


@mistake("The JWS expired 3 days ago")
def expired() -> Call:
    return claims(exp=NOW - 3 * DAY, iat=NOW - 3 * DAY - 600)


@mistake("exp is 600: a duration, not the time at which the JWS ends")
def exp_as_a_duration() -> Call:
    return claims(exp=600)


@mistake("it was made 2 hours ago, for 5 minutes: kept too long, or local time was taken for UTC")
def local_time_behind() -> Call:
    return claims(iat=NOW - 7203, exp=NOW - 6903)


@mistake("it was made 10 minutes ago, for 5 minutes: kept too long, or the client's clock is 10 minutes slow")
def clock_behind() -> Call:
    return claims(iat=NOW - 600, exp=NOW - 300)


def payload(octets: bytes) -> Call:
    """A call with another payload than that of the claims, signed as it is."""

    def spell(token: str) -> str:
        signing_input = f"{token.split('.', maxsplit=1)[0]}.{material.b64url(octets)}"
        return f"{signing_input}.{material.b64url(material.signature(RSA, 'RS256', signing_input.encode()))}"

    return Call(spell=spell)


TIMES = f'"iat":{NOW},"exp":{NOW + 600}'


@mistake("The payload is a JSON text holding the claims, which were encoded as JSON twice")
def payload_encoded_twice() -> Call:
    return payload(json.dumps(f"{{{TIMES}}}").encode())


@mistake("The payload is a JSON text")
def payload_of_a_text() -> Call:
    return payload(b'"hello"')


@mistake("The payload is a printed Python dict (single quotes), not JSON")
def payload_of_a_python_dict() -> Call:
    return payload(str({"iat": NOW, "exp": NOW + 600}).encode())


@mistake("The payload begins with a byte order mark")
def payload_with_a_byte_order_mark() -> Call:
    return payload(f"\ufeff{{{TIMES}}}".encode())


@mistake("The payload is UTF-16, not UTF-8")
def payload_in_utf_16() -> Call:
    return payload(f"{{{TIMES}}}".encode("utf-16"))


@mistake("The payload is UTF-16, not UTF-8")
def payload_in_utf_16_without_a_mark() -> Call:
    return payload(f"{{{TIMES}}}".encode("utf-16-le"))


@mistake("The payload is not UTF-8: its octet 8 is 0xe9")
def payload_in_latin_1() -> Call:
    return payload(f'{{"n":"\u00e9",{TIMES}}}'.replace('{"n":"', '{"n": "').encode("latin-1"))


@mistake("The payload has a comma behind its last member")
def payload_with_a_trailing_comma() -> Call:
    return payload(f"{{{TIMES},\n}}".encode())


@mistake("The payload is a list, not an object of claims")
def payload_of_a_list() -> Call:
    return payload(f"[{{{TIMES}}}]".encode())


@mistake("The payload is a single value, not an object of claims")
def payload_of_a_number() -> Call:
    return payload(str(NOW).encode())


@mistake("exp is NaN or Infinity, which JSON does not have")
def payload_with_nan() -> Call:
    return payload(f'{{"iat":{NOW},"exp":NaN}}'.encode())


@mistake("The payload has the member exp more than once")
def payload_with_a_repeated_member() -> Call:
    return payload(f'{{{TIMES},"exp":{NOW + 900}}}'.encode())


@mistake("The payload is a form (name=value), not JSON")
def payload_of_a_form() -> Call:
    return payload(b"iat=1&exp=2")


@mistake("exp is null, not a number of seconds")
def exp_is_null() -> Call:
    return payload(f'{{"iat":{NOW},"exp":null}}'.encode())


@mistake("The claim exp is missing: it is inside of claims, one level too deep")
def claims_within_claims() -> Call:
    return payload(f'{{"claims":{{{TIMES}}}}}'.encode())


@mistake("The claim iat is missing; issued_at stands in its place")
def iat_under_another_name() -> Call:
    return claims(iat=None, issued_at=NOW)


@mistake("The JWS expired before it was made")
def exp_before_iat() -> Call:
    return claims(exp=NOW - 60, iat=NOW - 5)


@mistake("The client's clock is 42 seconds ahead of the gate's")
def clock_skew() -> Call:
    return claims(iat=NOW + 42)


@mistake("iat lies 2 hours ahead: local time was taken for UTC")
def local_time() -> Call:
    return claims(iat=NOW + 7195, exp=NOW + 7800)


@mistake("The JWS lives too long: from iat to exp are 1 day, of which the policy allows 1 hour")
def lives_too_long() -> Call:
    return claims(iat=NOW, exp=NOW + DAY)


@mistake('The claim aud is "https://api.example", which differs from "https://api.example/" only in a slash at its end')
def audience_without_its_slash() -> Call:
    return claims(aud="https://api.example")


@mistake('The claim aud is "https://API.example/", which differs from "https://api.example/" only in case')
def audience_in_another_case() -> Call:
    return claims(aud="https://API.example/")


@mistake('The claim aud is "https://test.example/"; the policy demands "https://api.example/"')
def audience_of_another_stage() -> Call:
    return claims(aud="https://test.example/")


@mistake('The claim iss is "tvo"; the policy demands "my-client"')
def another_issuer() -> Call:
    return claims(iss="tvo")


@mistake('The claim azp is "someone", not the client ID of the request')
def client_id_claim() -> Call:
    return claims(azp="someone")


@mistake('typ is "JWT"; the policy demands "at+jwt"')
def another_typ() -> Call:
    rules = replace(RULES, typ=("at+jwt",))
    return Call(header={"typ": "JWT"}, route=lambda route: replace(route, claims=rules))


@mistake('The JWS was used before: its jti "once" is good once')
def replayed_jti() -> Call:
    replayed = Rejected(Reason.JWS_REPLAYED, "the jti was used before")
    return replace(claims(jti="once"), decided=replayed, route=lambda route: replace(route, single_use=True))


@mistake('The JWS was made for another request: htm is "PUT", not "GET"')
def made_for_another_method() -> Call:
    return replace(claims(htm="PUT"), route=lambda route: replace(route, bindings=Bindings(method="htm")))


@mistake("body_hash is the digest of the body without the line break at its end")
def body_with_a_line_break() -> Call:
    digest = material.b64url(hashlib.sha256(b"body").digest())
    bound = Bindings(body=BodyDigest("body_hash"))
    return replace(claims(body_hash=digest), route=lambda route: replace(route, bindings=bound), body=b"body\n")


@mistake("The JOSE header has zip, which the gate does not take here")
def compressed() -> Call:
    return Call(header={"zip": "DEF"})


# The tests


def test_good_call() -> None:
    """The call that the mistakes spoil is a good one, or they would prove nothing."""
    for key in (RSA, EC):
        assert Call(key=key).explained().outcome == "allowed"


@pytest.mark.parametrize("name", MISTAKES)
def test_first_line_names_the_mistake(name: str) -> None:
    """The first line of the account names it, with the reason; the second says what to do."""
    words, make = MISTAKES[name]
    explanation = make().explained()
    first, second, *_ = render_text(explanation).splitlines()
    assert words in first
    assert f"({explanation.reason})" in first
    assert second.startswith("What to do: ")
    assert second.removeprefix("What to do: ").strip()


def test_enough_mistakes() -> None:
    """What was promised."""
    assert len(MISTAKES) >= 25


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("bearer-left-in", id="scheme"),
        pytest.param("url-escaped", id="escaped"),
        pytest.param("line-wrapped", id="wrapped"),
        pytest.param("line-wrapped-and-folded", id="folded"),
        pytest.param("quoted", id="quoted"),
        pytest.param("python-bytes", id="python"),
        pytest.param("json-serialization", id="json"),
        pytest.param("standard-base64-with-padding", id="standard-base64"),
        pytest.param("encoded-twice", id="twice"),
        pytest.param("bearer-twice", id="scheme-twice"),
        pytest.param("bearer-and-another-word", id="another-word"),
        pytest.param("joined-by-a-comma", id="comma"),
        pytest.param("joined-by-a-blank", id="blank"),
        pytest.param("whole-response-of-a-token-endpoint", id="document"),
        pytest.param("smart-quotes", id="smart-quotes"),
        pytest.param("no-break-space", id="no-break-space"),
        pytest.param("no-break-space-of-latin-1", id="latin-1"),
        pytest.param("zero-width-space", id="zero-width"),
        pytest.param("byte-order-mark", id="byte-order-mark"),
        pytest.param("full-stop", id="full-stop"),
        pytest.param("in-hex", id="hex"),
    ],
)
def test_once_mended(name: str) -> None:
    """Where nobody needs a key to mend it, the account says what comes of the JWS then."""
    assert MISTAKES[name][1]().explained().once_mended == "the request would be allowed"


@pytest.mark.parametrize("name", [name for name in MISTAKES if name.startswith("private-")])
def test_private_key_is_not_shown(name: str) -> None:
    """Who sent a private key is told so, and is not shown it again, in a log perhaps."""
    explanation = MISTAKES[name][1]().explained()
    for told in (render_text(explanation), to_json(explanation)):
        assert "c2VjcmV0" not in told


@pytest.mark.parametrize("place", ["header", "claims"])
def test_private_key_within(place: str) -> None:
    """The same where the key stands in the JOSE header, or in a claim."""
    key = {"kty": "oct", "kid": "mine", "k": "c2VjcmV0"}
    explanation = (Call(header={"jwk": key}) if place == "header" else claims(cnf={"jwks": [key]})).explained()
    for told in (render_text(explanation), to_json(explanation)):
        assert "c2VjcmV0" not in told
        assert "mine" in told


def test_mistakes_on_top_of_each_other() -> None:
    """A quoted, expired JWS after Bearer: mending the one shows the next."""
    call = replace(claims(exp=NOW - 60, iat=NOW - 600), spell=lambda token: f'"Bearer {token}"')
    explanation = call.explained()
    assert explanation.headline == "There are quotes around the JWS"
    assert explanation.once_mended.startswith(
        "jws_malformed: The word 'Bearer' was left in front of the JWS; jws_expired: "
    )


@pytest.mark.parametrize("claims", range(6))
@pytest.mark.parametrize("kid", range(6))
def test_wrong_thumbprint_of_any_length(claims: int, kid: int) -> None:
    """A good signature is never told to be one over something else, whether or not the segments would be padded."""
    told = wrong_thumbprint("m" * claims, "k" * kid).explained().headline
    assert told == "The signature is good, but x5t#S256 or x5c names another certificate than the registered one"


def test_search_is_bounded() -> None:
    """Of a large portal only so many applications are searched; the account then says what is left to suspect."""
    call = another_applications_key()
    told = explain(call.snapshot(), call.facts(), NOW, searched=1)
    assert told.headline.startswith("Signed with a key that none of the first 1 applications has registered")
