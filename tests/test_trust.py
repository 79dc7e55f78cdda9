import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mcsa.authority import CertificationAuthority
from mcsa.errors import Rejected
from mcsa.identity import SpiffeId
from tests.world import NOW, World

DAY = 86_400.0


def cause(call, *args):
    with pytest.raises(Rejected) as caught:
        call(*args)
    return caught.value.cause


def test_a_chain_proves_a_name(world: World):
    identity = world.trust().verify_chain(world.host("alpha").chain, NOW)
    assert str(identity.id) == "spiffe://example.org/host/alpha"
    assert identity.certificate.subject.rfc4514_string() == "CN=alpha,OU=host,O=example.org"


def test_a_signature_is_checked(world: World):
    alpha = world.host("alpha")
    signature = alpha.sign("label", b"x", 1)
    alpha.identity.check_signature(signature, "label", b"x", 1)
    assert cause(alpha.identity.check_signature, signature, "label", b"x", 2) == "signature"
    assert cause(alpha.identity.check_signature, signature, "other label", b"x", 1) == "signature"
    assert cause(alpha.identity.check_signature, signature[:-1], "label", b"x", 1) == "signature"
    assert cause(world.host("beta").identity.check_signature, signature, "label", b"x", 1) == "signature"


def test_an_expired_certificate_is_rejected_also_when_it_was_verified_before(world: World):
    trust, chain = world.trust(), world.authority.issue("host", "old", NOW, days=1).chain
    trust.verify_chain(chain, NOW)
    assert cause(trust.verify_chain, chain, NOW + 2 * DAY) == "certificate"
    assert cause(world.trust().verify_chain, chain, NOW + 2 * DAY) == "certificate"
    assert cause(world.trust().verify_chain, chain, NOW - DAY) == "certificate"


def test_a_certificate_of_another_authority_is_rejected(world: World):
    impostor = CertificationAuthority.create("example.org", NOW)
    assert cause(world.trust().verify_chain, impostor.issue("host", "alpha", NOW).chain, NOW) == "certificate"


def test_an_anchor_speaks_for_its_domain_only(world: World):
    world.authority.domain = "else.where"
    chain = world.authority.issue("host", "alpha", NOW).chain
    world.authority.domain = "example.org"
    assert cause(world.trust().verify_chain, chain, NOW) == "name"


def test_the_kind_is_checked(world: World):
    assert cause(world.trust().verify_chain, world.user("bob").chain, NOW, ("host",)) == "kind"


def test_garbage_is_rejected(world: World):
    trust, chain = world.trust(), world.host("alpha").chain
    for garbage in ([], [b""], [b"x" * 100], [b"x" * 5000], [chain[0][:-5]], [chain[0]] * 5):
        assert cause(trust.verify_chain, garbage, NOW) == "certificate"


def test_a_revoked_certificate_is_rejected_at_once(world: World):
    trust, alpha, beta = world.trust(), world.host("alpha"), world.host("beta")
    trust.verify_chain(alpha.chain, NOW)
    trust.revoke(world.authority.revoke([alpha.certificate.serial_number], NOW))
    assert cause(trust.verify_chain, alpha.chain, NOW) == "revoked"
    assert trust.verify_chain(beta.chain, NOW).id.name == "beta"


def test_a_revocation_list_of_somebody_else_is_rejected(world: World):
    other = CertificationAuthority.create("example.org", NOW)
    assert cause(world.trust().revoke, other.revoke([1], NOW)) == "revocation-list"


def test_a_statement_is_a_users_own(world: World):
    trust, bob = world.trust(), world.user("bob")
    signed = bob.sign_statement("label", b"words")
    assert trust.open_statement(signed, "label", NOW).id.name == "bob"
    assert cause(trust.open_statement, signed, "other", NOW) == "signature"
    signed.statement = b"other words"
    assert cause(trust.open_statement, signed, "label", NOW) == "signature"
    assert cause(trust.open_statement, world.host("alpha").sign_statement("label", b"words"), "label", NOW) == "kind"


@pytest.mark.parametrize(
    "text",
    ["", "spiffe://", "spiffe://d/host/", "spiffe://d/dog/x", "spiffe://d/host/a/b", "http://d/host/a", "spiffe://d/host/a*",
     "spiffe://d/host/A", "spiffe://d/host/" + "a" * 64, "spiffe://d/host/a b"],
)  # fmt: skip
def test_names_that_are_none(text: str):
    assert cause(SpiffeId.parse, text) == "name"


def test_a_name_is_a_token():
    assert SpiffeId.parse("spiffe://d/host/a.b-c").token == "a_b-c"


def test_the_anchor_itself_is_nobody(world: World):
    assert cause(world.trust().verify_chain, [world.authority.certificate.public_bytes(Encoding.DER)], NOW)


@pytest.mark.parametrize("moment", [1e30, -1e30, float("inf"), float("nan"), 2.0**63])
def test_a_time_that_is_none_is_rejected(world: World, moment: float):
    with pytest.raises(Rejected) as caught:
        world.trust().verify_chain(world.user("alice").chain, moment)
    assert caught.value.cause == "certificate"
