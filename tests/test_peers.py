"""Trust across domains: an anchor speaks for its own domain; a peer's identity is given only where it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from mcsa.authority import CertificationAuthority
from mcsa.errors import Refused, Rejected
from mcsa.trust import Trust
from tests.world import NOW, World


class Pair:
    """Domain A, which has B as a peer."""

    def __init__(self) -> None:
        self.a, self.b = World("a.example"), World("b.example")
        self.a.peers.append(self.b)
        self.trust = self.a.trust()


@pytest.fixture
def pair() -> Pair:
    return Pair()


def cause(call: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(Rejected) as caught:
        call(*args, **more)
    return caught.value.cause


def issued_as(authority: CertificationAuthority, domain: str, kind: str, name: str) -> tuple[bytes, ...]:
    """A chain that this authority issued under another domain's name."""
    return CertificationAuthority(domain, authority.key, authority.certificate).issue(kind, name, NOW).chain


def cross_signed(subject: CertificationAuthority, issuer: CertificationAuthority) -> bytes:
    """`subject`'s name and key as an authority's, in a certificate that `issuer` signed."""
    own = subject.certificate
    builder = x509.CertificateBuilder().subject_name(own.subject).issuer_name(issuer.certificate.subject)
    builder = builder.public_key(own.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(own.not_valid_before_utc).not_valid_after(own.not_valid_after_utc)
    for extension in own.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            value = x509.BasicConstraints(ca=True, path_length=0)
        builder = builder.add_extension(value, critical=extension.critical)
    key = issuer.certificate.public_key()
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key), critical=False)  # type: ignore[arg-type]
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_peers_identity_is_given_only_to_who_asks_for_it(pair: Pair) -> None:
    bob = pair.b.user("bob")
    assert cause(pair.trust.verify_chain, bob.chain, NOW) == "certificate"
    assert str(pair.trust.verify_chain(bob.chain, NOW, peers=True).id) == "spiffe://b.example/user/bob"
    assert cause(pair.trust.verify_chain, bob.chain, NOW) == "certificate"  # also once it is known
    signed = bob.sign_statement("label", b"words")
    assert cause(pair.trust.open_statement, signed, "label", NOW) == "certificate"
    assert pair.trust.open_statement(signed, "label", NOW, peers=True).id == bob.id
    assert cause(pair.trust.open_statement, signed, "other", NOW, peers=True) == "signature"


def test_own_identities_are_the_same_with_and_without_peers(pair: Pair) -> None:
    alice = pair.a.user("alice")
    assert pair.trust.verify_chain(alice.chain, NOW).id == pair.trust.verify_chain(alice.chain, NOW, peers=True).id
    assert pair.b.trust().verify_chain(pair.b.user("bob").chain, NOW, peers=True).id.name == "bob"


def test_without_peers_asking_for_them_gives_nobody(pair: Pair) -> None:
    assert cause(pair.b.trust().verify_chain, pair.a.user("alice").chain, NOW, peers=True) == "certificate"


def test_a_domain_that_is_no_peer_stays_foreign(pair: Pair) -> None:
    stranger = World("c.example").user("carol")
    assert cause(pair.trust.verify_chain, stranger.chain, NOW, peers=True) == "certificate"


def test_the_kind_of_a_peers_identity_is_checked(pair: Pair) -> None:
    assert cause(pair.trust.verify_chain, pair.b.host("beta").chain, NOW, ("user",), peers=True) == "kind"


def test_a_peers_anchor_certifies_no_name_of_ours(pair: Pair) -> None:
    chain = issued_as(pair.b.authority, "a.example", "user", "alice")
    assert cause(pair.trust.verify_chain, chain, NOW) == "certificate"
    assert cause(pair.trust.verify_chain, chain, NOW, peers=True) == "certificate"


def test_our_anchor_certifies_no_name_of_a_peer(pair: Pair) -> None:
    chain = issued_as(pair.a.authority, "b.example", "user", "bob")
    assert cause(pair.trust.verify_chain, chain, NOW) == "name"
    assert cause(pair.trust.verify_chain, chain, NOW, peers=True) == "certificate"


def test_a_peers_anchor_certifies_no_name_of_another_peer(pair: Pair) -> None:
    pair.a.peers.append(World("c.example"))
    chain = issued_as(pair.b.authority, "c.example", "user", "carol")
    assert cause(pair.a.trust().verify_chain, chain, NOW, peers=True) == "certificate"


def test_an_equal_subject_name_gives_a_peers_anchor_nothing(pair: Pair) -> None:
    """B's authority calls itself exactly what A's does, and is configured as B's."""
    impostor = CertificationAuthority.create("a.example", NOW)
    trust = Trust("a.example", [pair.a.authority.certificate], {"b.example": [impostor.certificate]})
    assert impostor.certificate.subject == pair.a.authority.certificate.subject
    assert cause(trust.verify_chain, impostor.issue("user", "alice", NOW).chain, NOW, peers=True) == "certificate"
    assert trust.verify_chain(issued_as(impostor, "b.example", "user", "bob"), NOW, peers=True).id.domain == "b.example"


def test_an_authority_that_a_peer_cross_signed_certifies_no_name_of_ours(pair: Pair) -> None:
    """B signs a certificate for an authority with A's name, and for A's very key: neither leads from A's anchor."""
    impostor = CertificationAuthority.create("a.example", NOW)
    chain = [*impostor.issue("user", "alice", NOW).chain, cross_signed(impostor, pair.b.authority)]
    assert cause(pair.trust.verify_chain, chain, NOW, peers=True) == "certificate"
    named_b = [*issued_as(impostor, "b.example", "user", "bob"), cross_signed(impostor, pair.b.authority)]
    assert pair.trust.verify_chain(named_b, NOW, peers=True).id.domain == "b.example"  # B's own affair
    ours = [*pair.a.user("alice").chain, cross_signed(pair.a.authority, pair.b.authority)]
    only_b = Trust("b.example", [pair.b.authority.certificate])
    assert cause(only_b.verify_chain, ours, NOW) == "name"  # a path there is, and a name of A doesn't follow from it


def test_a_revocation_list_revokes_in_its_own_domain_only(pair: Pair) -> None:
    alice, bob = pair.a.user("alice"), pair.b.user("bob")
    serials = [alice.certificate.serial_number, bob.certificate.serial_number]
    pair.trust.verify_chain(bob.chain, NOW, peers=True)
    pair.trust.revoke(pair.b.authority.revoke(serials, NOW), "b.example")
    assert cause(pair.trust.verify_chain, bob.chain, NOW, peers=True) == "revoked"
    assert pair.trust.verify_chain(alice.chain, NOW).id.name == "alice"
    pair.trust.revoke(pair.a.authority.revoke(serials, NOW), "a.example")
    assert cause(pair.trust.verify_chain, alice.chain, NOW) == "revoked"


def test_a_revocation_list_is_taken_from_the_domain_that_it_is_given_for(pair: Pair) -> None:
    listed = pair.b.authority.revoke([1], NOW)
    assert cause(pair.trust.revoke, listed) == "revocation-list"
    assert cause(pair.trust.revoke, pair.a.authority.revoke([1], NOW), "b.example") == "revocation-list"
    assert cause(pair.trust.revoke, listed, "c.example") == "revocation-list"


def test_garbage_is_rejected_where_peers_are_asked_for(pair: Pair) -> None:
    chain = pair.b.user("bob").chain
    for garbage in ([], [b""], [b"x" * 100], [b"x" * 5000], [chain[0][:-5]], [chain[0]] * 5):
        assert cause(pair.trust.verify_chain, garbage, NOW, peers=True) == "certificate"
    nameless = pair.b.authority.certificate.public_bytes(Encoding.DER)
    assert cause(pair.trust.verify_chain, [nameless], NOW, peers=True) == "name"


def test_a_certificate_that_names_itself_twice_is_rejected(pair: Pair) -> None:
    """Which anchors it is held against must not be a matter of taste."""
    names = [x509.UniformResourceIdentifier(f"spiffe://{domain}.example/user/alice") for domain in "ab"]
    own = pair.b.user("bob")
    builder = x509.CertificateBuilder().subject_name(own.certificate.subject)
    builder = builder.issuer_name(pair.b.authority.certificate.subject).public_key(own.certificate.public_key())
    builder = builder.serial_number(1).not_valid_before(own.certificate.not_valid_before_utc)
    builder = builder.not_valid_after(own.certificate.not_valid_after_utc)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    chain = [builder.sign(pair.b.authority.key, hashes.SHA256()).public_bytes(Encoding.DER)]
    assert cause(pair.trust.verify_chain, chain, NOW, peers=True) == "name"


def test_one_anchor_for_two_domains_is_refused(pair: Pair) -> None:
    own, other = pair.a.authority.certificate, pair.b.authority.certificate
    with pytest.raises(Refused) as refused:
        Trust("a.example", [own], {"b.example": [own]})
    assert refused.value.rule == "one-domain" and "a.example and for b.example" in refused.value.sentence
    with pytest.raises(Refused):
        Trust("a.example", [own], {"b.example": [other], "c.example": [other]})
    with pytest.raises(Refused) as refused:
        Trust("a.example", [own], {"a.example": [other]})
    assert refused.value.rule == "peer"
