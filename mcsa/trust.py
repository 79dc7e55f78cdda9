"""Whom we believe: the own domain's anchors, those of peer domains, and the one door from a chain to an `Identity`.

An anchor speaks for its own domain only: which anchors a chain is held against follows from the domain of the name
that it claims, and what it proves has to be a name of that domain. Identities of peer domains are given only to callers
that ask for them by `peers=True`; without that a peer's chain is as foreign as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from cryptography import x509

from mcsa.anchors import NO_CERTIFICATE, DomainAnchors, check_size
from mcsa.errors import Refused, Rejected
from mcsa.identity import Identity, name_in
from mcsa.v1.types_pb2 import SignedStatement

NO_PEERS: Mapping[str, Iterable[x509.Certificate]] = MappingProxyType({})


class Trust:
    """`peers`: domains beside the own one whose users may be believed, each with its own anchors.

    `Refused("anchors")` where one anchor's key is given for two domains: it would speak for names that are not its own.
    """

    def __init__(
        self,
        domain: str,
        anchors: Iterable[x509.Certificate],
        peers: Mapping[str, Iterable[x509.Certificate]] = NO_PEERS,
    ) -> None:
        self.domain = domain
        self._own = DomainAnchors(domain, anchors)
        self._peers = {name: DomainAnchors(name, given) for name, given in peers.items()}
        self._check_one_domain_each()

    def revoke(self, revocation_list: x509.CertificateRevocationList, domain: str = "") -> None:
        """Takes over a CRL that an anchor of the own domain signed, or of the peer named; it revokes nobody else's.

        `Rejected("revocation-list")` otherwise.
        """
        anchors = self._peers.get(domain) if domain not in ("", self.domain) else self._own
        if anchors is None:
            raise Rejected("revocation-list", f"{domain} is no peer")
        anchors.revoke(revocation_list)

    def verify_chain(
        self, chain: Sequence[bytes], now: float, kinds: Sequence[str] = (), *, peers: bool = False
    ) -> Identity:
        """The identity that a chain (DER, leaf first) proves at time `now`: of this domain, or, where `peers` are
        asked for, of one of them.

        Raises `Rejected`: "certificate" (malformed, wrong path, not valid now), "revoked", "name" (no SPIFFE ID of
        such a domain), "kind" (not one of `kinds`, where some are asked for).
        """
        anchors = self._claimed(chain) if peers and self._peers else self._own
        identity = anchors.find(chain, now)
        if kinds and identity.id.kind not in kinds:
            raise Rejected("kind", str(identity.id))
        return identity

    def open_statement(
        self, signed: SignedStatement, label: str, now: float, kind: str = "user", *, peers: bool = False
    ) -> Identity:
        """Who signed a statement; `Rejected` where the chain or the signature is not good. See `verify_chain`."""
        identity = self.verify_chain(signed.certificate_chain, now, (kind,), peers=peers)
        identity.check_signature(signed.signature, label, signed.statement)
        return identity

    def _claimed(self, chain: Sequence[bytes]) -> DomainAnchors:
        """The anchors of the domain that the leaf names itself of; the own ones where it is none of ours."""
        check_size(chain)
        try:
            name = name_in(x509.load_der_x509_certificate(chain[0]))
        except NO_CERTIFICATE as error:
            raise Rejected("certificate", str(error)) from None
        return self._peers.get(name.domain, self._own)

    def _check_one_domain_each(self) -> None:
        if self.domain in self._peers:
            raise Refused("anchors", "peer", f"{self.domain} is the own domain, and can't be a peer too")
        spoken_for = dict.fromkeys(self._own.keys, self.domain)
        for name, anchors in self._peers.items():
            for key in anchors.keys:
                if (other := spoken_for.setdefault(key, name)) != name:
                    sentence = f"one anchor is given for {other} and for {name}: an anchor speaks for one domain only"
                    raise Refused("anchors", "one-domain", sentence)
