"""Private keys in a token (PKCS #11): a smart card, an HSM, SoftHSM. The key never leaves it.

Needs python-pkcs11: `pip install 'jwsgate[pkcs11]'`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from jwsgate.core.algorithms import ALGORITHMS_BY_KEY
from jwsgate.core.public_keys import PublicKeyError, check_public_key
from jwsgate.files.problems import Unfit
from jwsgate.files.signing_keys import SigningKey

__all__ = ["token_key"]

_EXAMPLE: Final = "write pkcs11:token=NAME;object=NAME?module-path=/usr/lib/softhsm/libsofthsm2.so"
_DIGESTS: Final = {"256": "SHA256", "384": "SHA384", "512": "SHA512"}


def _attributes(uri: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The path and the query attributes of a PKCS #11 URI (RFC 7512)."""
    path, _, query = uri.removeprefix("pkcs11:").partition("?")
    return _pairs(path.split(";")), _pairs(query.split("&"))


def _pairs(texts: Sequence[str]) -> Mapping[str, str]:
    split = (text.partition("=") for text in texts)
    return {name: unquote(value) for name, equals, value in split if equals}


def _sign(private: Any, alg: str, signing_input: bytes) -> bytes:
    from pkcs11 import MGF, Mechanism  # noqa: PLC0415 - an optional extra

    bits = alg[2:]
    if alg == "EdDSA":
        signature = private.sign(signing_input, mechanism=Mechanism.EDDSA)
    elif alg.startswith("ES"):
        # The token gives r and s one after the other, as JOSE wants them.
        signature = private.sign(hashlib.new(f"sha{bits}", signing_input).digest(), mechanism=Mechanism.ECDSA)
    elif alg.startswith("PS"):
        digest = getattr(Mechanism, _DIGESTS[bits])
        parameters = digest, getattr(MGF, _DIGESTS[bits]), int(bits) // 8
        mechanism = getattr(Mechanism, f"{_DIGESTS[bits]}_RSA_PKCS_PSS")
        signature = private.sign(signing_input, mechanism=mechanism, mechanism_param=parameters)
    else:
        signature = private.sign(signing_input, mechanism=getattr(Mechanism, f"{_DIGESTS[bits]}_RSA_PKCS"))
    return bytes(signature)


def _told_sign(private: Any, alg: str, signing_input: bytes) -> bytes:
    import pkcs11  # noqa: PLC0415 - an optional extra

    try:
        return _sign(private, alg, signing_input)
    except pkcs11.PKCS11Error as error:
        what = f"refuses to sign by {alg} ({type(error).__name__})"
        raise Unfit(what, "use another --alg, or allow the key to sign") from None


def _public_key(session: Any, label: str) -> tuple[Any, x509.Certificate | None]:
    from pkcs11 import Attribute, KeyType, ObjectClass  # noqa: PLC0415 - an optional extra
    from pkcs11.util.ec import encode_ec_public_key  # noqa: PLC0415
    from pkcs11.util.rsa import encode_rsa_public_key  # noqa: PLC0415

    named = {Attribute.LABEL: label}
    for found in session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE, **named}):
        certificate = x509.load_der_x509_certificate(bytes(found[Attribute.VALUE]))
        return certificate.public_key(), certificate
    for public in session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, **named}):
        if public.key_type is KeyType.EC_EDWARDS:
            return Ed25519PublicKey.from_public_bytes(bytes(public[Attribute.EC_POINT])[-32:]), None
        encode = encode_rsa_public_key if public.key_type is KeyType.RSA else encode_ec_public_key
        return load_der_public_key(encode(public)), None
    raise Unfit(f"has neither a certificate nor a public key {label!r}", "store one of them beside the private key")


def _session(uri: str, pin: Callable[[], bytes]) -> tuple[Any, str]:
    """An open session, and the label of the key; raises `Unfit`."""
    try:
        import pkcs11  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise Unfit("needs python-pkcs11", "pip install 'jwsgate[pkcs11]'") from None
    where, how = _attributes(uri)
    if "pin-value" in how:
        raise Unfit("holds the PIN, which others can read on the command line", "give it with --password-file")
    module, label = how.get("module-path"), where.get("object")
    if not module or not label:
        raise Unfit("names no module-path or no object", _EXAMPLE)
    try:
        token = pkcs11.lib(module).get_token(token_label=where.get("token"))
        return token.open(user_pin=pin().decode("utf-8")), label
    except (pkcs11.PKCS11Error, RuntimeError, OSError, UnicodeDecodeError) as error:
        why = str(error) or type(error).__name__
        raise Unfit(f"cannot be opened: {why}", "check module, token and PIN") from None


def _key(session: Any, label: str) -> SigningKey:
    from pkcs11 import Attribute, ObjectClass, PKCS11Error  # noqa: PLC0415 - an optional extra

    try:
        found = list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: label}))
        if len(found) != 1:
            raise Unfit(f"has not exactly one private key {label!r}", _EXAMPLE)
        public_key, certificate = _public_key(session, label)
        kind, _ = check_public_key(public_key)
    except PublicKeyError as error:
        raise Unfit(str(error), error.remedy) from None
    except PKCS11Error as error:
        raise Unfit(f"cannot be read: {type(error).__name__}", "pkcs11-tool --list-objects lists its keys") from None
    return SigningKey(ALGORITHMS_BY_KEY[kind], partial(_told_sign, found[0]), public_key, certificate)


@contextmanager
def token_key(uri: str, pin: Callable[[], bytes]) -> Iterator[SigningKey]:
    """The private key that a PKCS #11 URI names, while the session with its token is open.

    Raises:
        Unfit: when it cannot be used.
    """
    session, label = _session(uri, pin)
    with session:
        yield _key(session, label)
