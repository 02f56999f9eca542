"""A structure-aware mutator of compact JWS: it knows where the parts are and what other libraries let through.

Each mutation is a function of a genuine token; those named in RESIGNED sign what they made with the right key,
which is then genuine as well, however odd. Seeds decide everything but the keys.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

import material
from core_gate import ALGORITHM_KEYS, NOW

__all__ = ["MUTATIONS", "RESIGNED", "Genuine", "genuine", "mutated", "twin"]


@dataclass(frozen=True)
class Genuine:
    """A token that the client's own key signed."""

    algorithm: str
    key: material.PrivateKey
    header: bytes
    payload: bytes
    text: str

    @property
    def segments(self) -> list[str]:
        """Header, payload, signature."""
        return self.text.split(".")

    @property
    def signature(self) -> bytes:
        """The octets of the signature, as far as an earlier mutation has left it readable."""
        segment = self.segments[2]
        return material.unb64url(segment[: len(segment) - (len(segment) % 4 == 1)])

    def again(self, header: bytes | None = None, payload: bytes | None = None) -> str:
        """The same key's signature over another header or payload."""
        return material.jws(
            self.key,
            header=self.header if header is None else header,
            payload=self.payload if payload is None else payload,
            algorithm=self.algorithm,
        )


def genuine(random: Random, algorithm: str) -> Genuine:
    """A token that has to be let in: plain header, good claims."""
    key = material.private_key(ALGORITHM_KEYS[algorithm])
    extras: list[dict[str, Any]] = [{}, {"typ": "JWT"}, {"kid": "2018-07"}, {"typ": "JWT", "kid": "k", "ver": 1}]
    header = material.compact_json({"alg": algorithm, **random.choice(extras)})
    claims = {"iss": "tvo", "exp": NOW + random.randrange(1, 10_000), "iat": NOW, "n": random.randrange(10**6)}
    payload = material.compact_json(claims | random.choice([{}, {"t": "ü" * random.randrange(20)}]))
    return Genuine(
        algorithm, key, header, payload, material.jws(key, header=header, payload=payload, algorithm=algorithm)
    )


def twin(token: Genuine) -> str | None:
    """The other spelling that ECDSA gives to everybody: (r, n - s) for (r, s)."""
    if not isinstance(token.key, ec.EllipticCurvePrivateKey):
        return None
    raw = token.signature
    size = len(raw) // 2
    other = (token.key.curve.group_order - int.from_bytes(raw[size:])) % 256 ** (len(raw) - size)
    header, payload, _ = token.segments
    return f"{header}.{payload}.{material.b64url(raw[:size] + other.to_bytes(len(raw) - size))}"


type Mutation = Callable[[Random, Genuine], str | bytes]
MUTATIONS: dict[str, Mutation] = {}
RESIGNED: set[str] = set()


def mutation(make: Mutation) -> Mutation:
    """Enter a mutation under its name."""
    MUTATIONS[make.__name__] = make
    return make


def resigned(make: Mutation) -> Mutation:
    """Enter a mutation whose outcome the right key signs."""
    RESIGNED.add(make.__name__)
    return mutation(make)


def _joined(segments: list[str]) -> str:
    return ".".join(segments)


def _with_signature(token: Genuine, signature: bytes) -> str:
    return _joined([*token.segments[:2], material.b64url(signature)])


def _inserted(random: Random, text: str, what: str) -> str:
    position = random.randrange(len(text) + 1)
    return text[:position] + what + text[position:]


ODD_CHARACTERS = [
    *'\n \t\0!#=+/%,;"~\\\x7f\x1f\x0b.',
    "\r\n",
    "é",
    "\N{ZERO WIDTH SPACE}",
    "\N{FULLWIDTH FULL STOP}",
    "\N{NO-BREAK SPACE}",
    "\N{CYRILLIC SMALL LETTER A}",
]
"""Characters that no token holds and that some decoder skips or takes for others."""


# Characters and segments


@mutation
def character_replaced(random: Random, token: Genuine) -> str:
    """One character becomes another of the alphabet."""
    position = random.choice([index for index, character in enumerate(token.text) if character != "."])
    others = material.BASE64URL.replace(token.text[position], "")
    return material.altered(token.text, position, random.choice(others))


@mutation
def last_character_replaced(random: Random, token: Genuine) -> str:
    """The last character of a segment, whose lowest bits may mean nothing."""
    segments = token.segments
    index = random.choice([index for index in range(3) if segments[index]])
    others = material.BASE64URL.replace(segments[index][-1], "")
    segments[index] = segments[index][:-1] + random.choice(others)
    return _joined(segments)


@mutation
def case_swapped(random: Random, token: Genuine) -> str:
    """One letter in the other case."""
    position = random.choice([index for index, character in enumerate(token.text) if character.isalpha()])
    return material.altered(token.text, position, token.text[position].swapcase())


@mutation
def character_inserted(random: Random, token: Genuine) -> str:
    """One more character of the alphabet."""
    return _inserted(random, token.text, random.choice(material.BASE64URL))


@mutation
def odd_character_inserted(random: Random, token: Genuine) -> str:
    """A character that does not belong there."""
    return _inserted(random, token.text, random.choice(ODD_CHARACTERS))


@mutation
def odd_character_at_an_end(random: Random, token: Genuine) -> str:
    """At the ends of segments, where lenient decoders stop or strip."""
    segments = token.segments
    index = random.randrange(3)
    odd = random.choice(ODD_CHARACTERS) * random.randrange(1, 4)
    segments[index] = random.choice([segments[index] + odd, odd + segments[index]])
    return _joined(segments)


@mutation
def characters_removed(random: Random, token: Genuine) -> str:
    """Some characters missing."""
    start = random.randrange(len(token.text))
    return token.text[:start] + token.text[start + random.randrange(1, 6) :]


@mutation
def octets_at_random(random: Random, token: Genuine) -> bytes:
    """Octets that need not be text at all."""
    octets = bytearray(token.text.encode())
    for _ in range(random.randrange(1, 4)):
        octets[random.randrange(len(octets))] = random.randrange(256)
    return bytes(octets)


@mutation
def padded(random: Random, token: Genuine) -> str:
    """Base64 padding on one segment or all."""
    segments = token.segments
    for index in random.choice([[0], [1], [2], [0, 1, 2]]):
        segments[index] += "=" * random.randrange(1, 5)
    return _joined(segments)


@mutation
def standard_alphabet(random: Random, token: Genuine) -> str:
    """`+` and `/` for `-` and `_`."""
    segments = token.segments
    index = random.randrange(3)
    segments[index] = segments[index].replace("-", "+").replace("_", "/")
    return _joined(segments)


@mutation
def percent_encoded(random: Random, token: Genuine) -> str:
    """One character as a URL would write it."""
    position = random.randrange(len(token.text))
    return f"{token.text[:position]}%{ord(token.text[position]):02X}{token.text[position + 1 :]}"


@mutation
def dots(random: Random, token: Genuine) -> str:
    """Dots added, removed or moved."""
    parts = token.segments
    for _ in range(random.randrange(1, 3)):
        if random.random() < 0.3:
            parts = parts[:-1]
        else:
            parts.insert(random.randrange(len(parts) + 1), "")
    return _joined(parts)


@mutation
def segments_shuffled(random: Random, token: Genuine) -> str:
    """The same segments in another order, some of them twice."""
    return _joined(random.choices(token.segments, k=random.choice([1, 2, 3, 3, 3, 4, 5])))


@mutation
def five_parts(random: Random, token: Genuine) -> str:
    """The shape of a JWE."""
    extra = [material.b64url(random.randbytes(12)) for _ in range(2)]
    header, payload, signature = token.segments
    return _joined(random.choice([[header, *extra, payload, signature], [header, payload, signature, *extra]]))


@mutation
def json_serialization(random: Random, token: Genuine) -> str:
    """The same JWS, flattened or general (RFC 7515 section 7.2)."""
    header, payload, signature = token.segments
    one = {"protected": header, "signature": signature}
    if random.random() < 0.5:
        one["header"] = {"alg": token.algorithm}  # type: ignore[assignment]
    both: list[dict[str, Any]] = [{"payload": payload, **one}, {"payload": payload, "signatures": [one]}]
    return json.dumps(random.choice(both), separators=random.choice([(",", ":"), (", ", ": ")]))


AROUND = [
    *[("Bearer ", ""), ("bearer ", ""), ("jwt=", ""), ('"', '"'), ("", ","), ("", ", x"), ("<", ">"), ("{", "}")],
    *[("", "#"), ("", "?a=b"), ("data:,", ""), ("", "~"), ("", "\0"), (" . ", ""), ("\N{BYTE ORDER MARK}", "")],
]
"""What may stand before and after a token."""


@mutation
def dressed(random: Random, token: Genuine) -> str:
    """Something around the token."""
    before, after = random.choice(AROUND)
    return f"{before}{token.text}{after}"


@mutation
def doubled(random: Random, token: Genuine) -> str:
    """Twice the same, as a proxy joins repeated headers."""
    return random.choice(["", ",", ", ", " ", ".", "\n", ";"]).join([token.text] * 2)


@mutation
def encoded_once_more(random: Random, token: Genuine) -> str:
    """Base64 of the token, or of one segment."""
    if random.random() < 0.5:
        return base64.b64encode(token.text.encode()).decode()
    segments = token.segments
    index = random.randrange(3)
    segments[index] = material.b64url(segments[index].encode())
    return _joined(segments)


# Signatures


@mutation
def signature_octets_changed(random: Random, token: Genuine) -> str:
    """Bits of the signature flipped."""
    octets = bytearray(token.signature)
    octets[random.randrange(len(octets))] ^= 1 << random.randrange(8)
    return _with_signature(token, bytes(octets))


@mutation
def signature_length_changed(random: Random, token: Genuine) -> str:
    """Zeros before, between or after, octets missing, the whole twice."""
    raw = token.signature
    half = len(raw) // 2
    first, second = raw[:half], raw[half:]
    zeros = bytes(random.choice([1, 2, 32, 934]))
    longer = [zeros + raw, raw + zeros, zeros + first + zeros + second, first + zeros + second, raw + raw]
    shorter = [raw[:-1], raw[1:], first, second, b"\0"]
    return _with_signature(token, random.choice([*longer, *shorter, bytes(len(raw)), b"\xff" * len(raw)]))


@mutation
def signature_as_der(random: Random, token: Genuine) -> str:
    """ECDSA's two numbers as X.509 writes them; other signatures inside an OCTET STRING."""
    raw = token.signature
    half = len(raw) // 2
    if isinstance(token.key, ec.EllipticCurvePrivateKey):
        return _with_signature(token, encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:])))
    return _with_signature(token, b"\4" + bytes([min(len(raw), 127)]) + raw)


@mutation
def signature_twin(random: Random, token: Genuine) -> str:
    """(r, n - s), or for other keys the two halves swapped."""
    raw = token.signature
    half = len(raw) // 2
    return twin(token) or _with_signature(token, raw[half:] + raw[:half])


@mutation
def signature_numbers_shifted(random: Random, token: Genuine) -> str:
    """The same number modulo the order or the modulus, where it fits into the octets."""
    raw = token.signature
    if isinstance(token.key, ec.EllipticCurvePrivateKey):
        half = len(raw) // 2
        numbers = [int.from_bytes(raw[:half]), int.from_bytes(raw[half:])]
        numbers[random.randrange(2)] += token.key.curve.group_order
        return _with_signature(token, b"".join((number % 256**half).to_bytes(half) for number in numbers))
    if token.algorithm == "EdDSA":
        order = 2**252 + 27742317777372353535851937790883648493
        number = (int.from_bytes(raw[32:], "little") + order) % 256**32
        return _with_signature(token, raw[:32] + number.to_bytes(32, "little"))
    modulus = token.key.public_key().public_numbers().n  # type: ignore[union-attr]
    return _with_signature(token, ((int.from_bytes(raw) + modulus) % 256 ** len(raw)).to_bytes(len(raw)))


@mutation
def signature_removed(random: Random, token: Genuine) -> str:
    """No signature, with the header as it was or saying none."""
    none = material.b64url(json.dumps({"alg": random.choice(["none", "None", "NONE", "nOnE", ""])}).encode())
    header, payload, _ = token.segments
    return _joined([random.choice([header, none]), payload, random.choice(["", "AA"])])


@mutation
def signature_of_another_token(random: Random, token: Genuine) -> str:
    """The same key's signature over something else."""
    header = material.compact_json({"alg": token.algorithm, "kid": f"other {random.random()}"})
    other = token.again(header, material.compact_json({"exp": NOW + 600, "n": random.random()})).split(".")
    mask = random.randrange(1, 7)
    return _joined([(other if mask >> index & 1 else token.segments)[index] for index in range(3)])


@mutation
def signed_by_another_key(random: Random, token: Genuine) -> str:
    """A foreign key of any kind, under this algorithm's name or its own."""
    algorithm = random.choice(list(ALGORITHM_KEYS))
    foreign = material.private_key(ALGORITHM_KEYS[algorithm], "foreign")
    header = random.choice([token.header, material.compact_json({"alg": algorithm})])
    return material.jws(foreign, header=header, payload=token.payload, algorithm=algorithm)


@mutation
def signed_by_another_key_that_comes_along(random: Random, token: Genuine) -> str:
    """A foreign key that brings itself as `jwk`, `x5c`, `jku`, `x5u` or `kid`."""
    foreign = material.private_key(ALGORITHM_KEYS[token.algorithm], "foreign")
    pem = material.certificate(foreign)
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    extras: list[dict[str, Any]] = [
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jwk": public_jwk(foreign)},
        {"x5c": [base64.b64encode(der).decode()]},
        {"jku": "https://evil.example/jwks", "kid": "1"},
        {"x5u": "data:," + base64.b64encode(der).decode()},
        {"kid": pem},
    ]
    header = material.compact_json({"alg": token.algorithm, **random.choice(extras)})
    return material.jws(foreign, header=header, payload=token.payload, algorithm=token.algorithm)


@mutation
def hmac_with_public_material(random: Random, token: Genuine) -> str:
    """The public key or the certificate as shared secret."""
    certificate = material.certificate(token.key)
    secret = random.choice(
        [
            material.public_pem(token.key).encode(),
            material.public_pem(token.key).strip().encode(),
            material.public_der(token.key),
            certificate.encode(),
            certificate.replace("\n", "").encode(),
            x509.load_pem_x509_certificate(certificate.encode()).public_bytes(serialization.Encoding.DER),
            b"",
        ]
    )
    algorithm = random.choice(["HS256", "HS384", "HS512"])
    header = material.compact_json({"alg": random.choice([algorithm, token.algorithm])})
    return material.jws(secret, header=header, payload=token.payload, algorithm=algorithm)


def public_jwk(key: material.PrivateKey) -> dict[str, str]:
    """The public half as JWK (RFC 7517), written by hand."""
    public: Any = key.public_key()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = public.public_numbers()
        size = (key.curve.key_size + 7) // 8
        curve = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
        x, y = (material.b64url(value.to_bytes(size)) for value in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": curve, "x": x, "y": y}
    if hasattr(public, "public_bytes_raw"):
        return {"kty": "OKP", "crv": "Ed25519", "x": material.b64url(public.public_bytes_raw())}
    numbers = public.public_numbers()
    return {"kty": "RSA", "n": material.b64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)), "e": "AQAB"}


# Headers and payloads, changed without the key


@mutation
def header_replaced(random: Random, token: Genuine) -> str:
    """Another header over the same payload and signature."""
    return _joined([material.b64url(_odd_header(random, token)), *token.segments[1:]])


@mutation
def payload_replaced(random: Random, token: Genuine) -> str:
    """Another payload under the same header and signature."""
    claims = (json.loads(token.payload) if token.payload[:1] == b"{" else {}) | random.choice(
        [{"exp": NOW + 10**6}, {"n": -1}, {"iss": "root"}, {}]
    )
    payload = json.dumps(claims, indent=random.choice([None, 1])).encode()
    return _joined([token.segments[0], material.b64url(payload), token.segments[2]])


# Headers and payloads that the right key signs


def _odd_header(random: Random, token: Genuine) -> bytes:
    alg = token.algorithm
    other = random.choice([name for name in ALGORITHM_KEYS if name != alg])
    choices: list[bytes] = [
        b'{"alg":"%s","alg":"none"}' % alg.encode(),
        b'{"alg":"none","alg":"%s"}' % alg.encode(),
        b'{"alg":"%s","\\u0061lg":"%s"}' % (alg.encode(), other.encode()),
        b'{"alg":"%s","kid":"a","kid":"b"}' % alg.encode(),
        b'{"alg":"%s","x":NaN}' % alg.encode(),
        b'{"alg":"%s","x":1e400}' % alg.encode(),
        b'{"alg":"%s","kid":"\\ud800"}' % alg.encode(),
        b'{"alg":"%s","x":%s}' % (alg.encode(), b"[" * 33 + b"]" * 33),
        b'{"alg":"%s","x":%s}' % (alg.encode(), b"9" * 4301),
        b'\xef\xbb\xbf{"alg":"%s"}' % alg.encode(),
        f'{{"alg":"{alg}"}}'.encode(random.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])),
        b'{"alg":"%s"}\0' % alg.encode(),
        b'{"alg":"%s"}{"alg":"%s"}' % (alg.encode(), alg.encode()),
        b'["%s"]' % alg.encode(),
        b'"%s"' % alg.encode(),
        b"null",
        b"",
        b"{}",
        b'{"Alg":"%s"}' % alg.encode(),
        b'{"alg":["%s"]}' % alg.encode(),
        b'{"alg":null}',
        b'{"alg":"%s"}' % other.encode(),
        b'{"alg":"%s "}' % alg.encode(),
        b'{"alg":"%s"}' % alg.lower().encode(),
        b'{"alg":"%s","typ":5}' % alg.encode(),
        b'{"alg":"%s","kid":{}}' % alg.encode(),
        b'{"alg":"%s",}' % alg.encode(),
        b"{'alg':\"%s\"}" % alg.encode(),
        b'{"alg":"%s"/**/}' % alg.encode(),
        b'{"alg":"%s","a":"\xff"}' % alg.encode(),
    ]
    for name in ("crit", "b64", "zip", "enc"):
        value: Any = random.choice([[], {}, ["alg"], ["b64"], ["exp"], "DEF", None, False, True, 1])
        choices.append(material.compact_json({"alg": alg, name: value}))
    choices.append(material.compact_json({"alg": alg, "b64": False, "crit": ["b64"]}))
    for name in ("x5c", "x5t#S256"):
        value = random.choice([[], "", "AAAA", ["AAAA"], [5], None, material.b64url(random.randbytes(32))])
        choices.append(material.compact_json({"alg": alg, name: value}))
    return random.choice(choices)


@resigned
def odd_header_signed(random: Random, token: Genuine) -> str:
    """An odd header that the right key has signed."""
    return token.again(header=_odd_header(random, token))


@resigned
def harmless_header_signed(random: Random, token: Genuine) -> str:
    """An unusual header in which nothing is wrong."""
    alg = token.algorithm
    return token.again(
        header=random.choice(
            [
                b'{ "typ" : "JWT" ,\r\n "alg" : "%s" }' % alg.encode(),
                b'{"alg":"%s","jku":"https://evil.example","x5t":"AAAA"}' % alg.encode(),
                b'{"\\u0061lg":"%s"}' % alg.encode(),
                f'{{"alg":"{alg}","kid":"ключ"}}'.encode(),
                material.compact_json({"alg": alg, "nested": {"a": [1, None, {"b": []}]}}),
                material.compact_json({"alg": alg, "jwk": public_jwk(material.private_key("p256", "foreign"))}),
            ]
        )
    )


@resigned
def odd_payload_signed(random: Random, token: Genuine) -> str:
    """Claims in which something is wrong, signed by the right key."""
    number = random.choice(
        ["true", "null", '"9999999999"', "[9999999999]", "1e400", "-1", "0", "9" * 4301, "{}", "NaN"]
    )
    choices = [
        b"",
        b"text",
        b"[]",
        b"null",
        b"5",
        b"{}",
        b'{"exp":%s}' % number.encode(),
        b'{"exp":9999999999,"nbf":%s}' % number.encode(),
        b'{"exp":9999999999,"iat":%s}' % number.encode(),
        b'{"exp":1,"exp":9999999999}',
        b'{"exp":9999999999,"e\\u0078p":1}',
        b'\xef\xbb\xbf{"exp":9999999999}',
        '{"exp":9999999999}'.encode("utf-16"),
        b'{"exp":9999999999,"aud":[5]}',
        b'{"exp":9999999999,"sub":"\\udfff"}',
        b'{"exp":9999999999,"a":%s}' % (b"[" * 40 + b"]" * 40),
        b'{"exp":%d}' % NOW,
        b'{"exp":%d,"nbf":%d}' % (NOW + 60, NOW + 1),
    ]
    return token.again(payload=random.choice(choices))


@resigned
def harmless_payload_signed(random: Random, token: Genuine) -> str:
    """Unusual claims in which nothing is wrong."""
    choices = [
        b'{"exp":%d}' % (NOW + 1),
        b'{"exp":%d.5}' % (NOW + 1),
        b' { "exp" : 9999999999 } \n',
        b'{"exp":9999999999,"aud":["a","b"],"nbf":0}',
        '{"exp":9999999999,"имя":"€"}'.encode(),
        b'{"exp":9999999999,"a":"\\ud83d\\ude00"}',
    ]
    return token.again(payload=random.choice(choices))


@resigned
def oversized_signed(random: Random, token: Genuine) -> str:
    """Larger than the limit, and otherwise good."""
    return token.again(payload=b'{"exp":9999999999,"fill":"%s"}' % (b"x" * random.randrange(12_400, 20_000)))


def mutated(random: Random, token: Genuine, names: list[str]) -> bytes:
    """A token after one or more mutations; those that sign come first, since they start anew."""
    text: str | bytes = token.text
    for name in sorted(names, key=lambda name: name not in RESIGNED):
        if isinstance(text, bytes):
            break
        parts = text.split(".")
        if name not in RESIGNED and (len(parts) != 3 or not all(parts)):
            break
        if name not in RESIGNED and not set(text) <= {*material.BASE64URL, "."}:
            break
        current = token if name in RESIGNED else Genuine(token.algorithm, token.key, token.header, token.payload, text)
        text = MUTATIONS[name](random, current)
    return text if isinstance(text, bytes) else text.encode()
