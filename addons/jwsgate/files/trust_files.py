"""Works out the chain states of registered certificates from a CA bundle and revocation lists.

Path validation is cryptography's (RFC 5280 section 6); here are only the demands on it, and the lists.
"""

import datetime
import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from jwsgate.core.certificates import RegisteredCertificate, Thumbprint
from jwsgate.core.trust import ChainState, Trust

from .problems import Unfit

__all__ = ["build_trust", "read_ca_bundle", "read_revocation_lists"]


def read_ca_bundle(pem: bytes) -> list[x509.Certificate]:
    """The CA certificates of a PEM file; raises `Unfit`."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        certificates = []
    if not certificates:
        raise Unfit("holds no CA certificate in PEM", "concatenate the CA certificates as PEM")
    return certificates


def read_revocation_lists(octets: bytes) -> list[x509.CertificateRevocationList]:
    """The lists of a PEM file, or the one of a DER file; raises `Unfit`."""
    end = b"-----END X509 CRL-----"
    try:
        if b"-----BEGIN" not in octets:
            lists = [x509.load_der_x509_crl(octets)]
        else:
            *parts, rest = octets.split(end)
            if b"-----BEGIN X509 CRL" in rest:
                raise ValueError
            lists = [x509.load_pem_x509_crl(part + end) for part in parts]
    except ValueError:
        lists = []
    if not lists:
        raise Unfit("holds no certificate revocation list", "write it as PEM or DER (RFC 5280)")
    if any(extension.critical for revocations in lists for extension in revocations.extensions):
        raise Unfit("holds a list with a critical extension, such as a delta or partial one", "give full lists")
    if any(revocations.next_update_utc is None for revocations in lists):
        raise Unfit("holds a list without nextUpdate", "issue it with one, as RFC 5280 section 5.1.2.5 asks")
    return lists


def _must_be_ca(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("not a CA")


def _must_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("keyUsage without keyCertSign")


def _known_names(_policy: Policy, _certificate: x509.Certificate, names: x509.NameConstraints | None) -> None:
    if names is not None and any(
        isinstance(name, x509.DirectoryName)
        for name in (*(names.permitted_subtrees or ()), *(names.excluded_subtrees or ()))
    ):
        raise ValueError("name constraints on subjects are not applied")


# Private CAs leave out much of what the Web PKI demands; what makes a CA a CA stays demanded.
_CA_POLICY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _must_be_ca)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _must_sign)
    .may_be_present(x509.NameConstraints, Criticality.AGNOSTIC, _known_names)
)
_LEAF_POLICY: Final = ExtensionPolicy.permit_all()


def _revocation_state(
    chain: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList]
) -> tuple[str | None, list[float], list[float]]:
    starts: list[float] = []
    ends: list[float] = []
    for certificate, issuer in itertools.pairwise(chain):
        covering = [
            revocations
            for revocations in lists
            if revocations.issuer == certificate.issuer and revocations.is_signature_valid(issuer.public_key())  # type: ignore[arg-type] # any other key fails
        ]
        if not covering:
            return "is covered by no revocation list of its issuer", [], []
        newest = max(covering, key=lambda revocations: revocations.last_update_utc)
        if newest.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            return "or a CA above it is revoked", [], []
        starts.append(newest.last_update_utc.timestamp())
        if newest.next_update_utc is not None:
            ends.append(newest.next_update_utc.timestamp())
    return None, starts, ends


def _chain_state(
    registered: RegisteredCertificate,
    store: Store,
    lists: Sequence[x509.CertificateRevocationList] | None,
    now: float,
    intermediates: Sequence[x509.Certificate] = (),
) -> ChainState:
    leaf, *others = (x509.load_der_x509_certificate(der) for der in registered.chain)
    # The leaf's own dates are asked about at each request; here only the chain above it counts.
    at = min(max(now, registered.not_before), registered.not_after)
    verifier = (
        PolicyBuilder()
        .store(store)
        .time(datetime.datetime.fromtimestamp(at, datetime.UTC))
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
        .build_client_verifier()
    )
    try:
        chain = verifier.verify(leaf, [*intermediates, *others]).chain
    except (VerificationError, ValueError):
        return ChainState("does not chain to the CA of the policy")
    starts = [certificate.not_valid_before_utc.timestamp() for certificate in chain]
    ends = [certificate.not_valid_after_utc.timestamp() for certificate in chain]
    if lists is not None:
        fault, list_starts, list_ends = _revocation_state(chain, lists)
        if fault is not None:
            return ChainState(fault)
        starts += list_starts
        ends += list_ends
    return ChainState(None, max(starts), min(ends))


def build_trust(
    ca: Sequence[x509.Certificate],
    lists: Sequence[x509.CertificateRevocationList] | None,
    certificates: Iterable[RegisteredCertificate],
    now: float,
) -> Trust:
    """The trust in certificates as of `now` (Unix seconds); `lists` None asks about no revocation."""
    ca = sorted(ca, key=lambda c: c.not_valid_after_utc, reverse=True)
    subjects = {c.subject for c in ca}
    middle = [c for c in ca if c.issuer != c.subject and c.issuer in subjects]
    store = Store([c for c in ca if c not in middle])
    states: dict[Thumbprint, ChainState] = {}
    for certificate in certificates:
        known = states.get(certificate.thumbprint)
        if known is None or known.fault is not None:
            states[certificate.thumbprint] = _chain_state(certificate, store, lists, now, middle)
    return Trust(states)
