"""Source authentication in a simulated domain: who said it, though everybody has the group key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mcsa.esp.relayed import Origin
from mcsa.source_authentication import ClockBound, Setting, modes
from mcsa.source_authentication.tesla_wire import CONTENT, MacKey, Timed, parse
from mcsa.v1.msm_pb2 import DescribeGroupsRequest, GroupState
from mcsa.v1.types_pb2 import GroupPolicy
from services.msm.events import ClockSet
from tests.simulation.domain import Domain
from tests.simulation.insider import forge, reopen
from tests.simulation.network import Weather

MODES = [name for name, mode in modes().items() if mode.promises.authenticates]
EACH = pytest.mark.parametrize("mode", MODES)
USERS = {"alpha": "alice", "beta": "bob", "gamma": "carol"}
CALM = Weather(jitter=0.0)
ROUGH = Weather(loss=0.2, duplication=0.2, delay=0.001, jitter=0.03)


class Story:
    """Three hosts in one group; beta is the one that may turn out to be an insider."""

    def __init__(self, mode: str, weather: Weather | None = None, seed: int = 1, hosts: tuple[str, ...] = ()) -> None:
        self.domain = Domain(seed, weather or CALM, tuple(USERS))
        self.network = self.domain.network
        policy = GroupPolicy(source_authentication=mode)
        self.created = self.domain.create(policy=policy, acceptable=tuple(USERS.values()), senders=("dave",))
        self.group = self.created.groups[0]
        self.group_id = self.group.group_id
        for host in hosts or tuple(USERS):
            self.join(host)
        self.network.run_for(1.0)

    def join(self, host: str) -> None:
        outcome = self.domain.csm[host].join(self.group, self.created.conference_id, USERS[host])
        assert outcome.refused is None, outcome.refused

    def talk(self, host: str, words: list[bytes], each: float = 0.01) -> None:
        for word in words:
            assert self.domain.msm[host].send(self.group_id, word)
            self.network.run_for(each)
        self.network.run_for(1.0)

    def heard(self, host: str) -> list[bytes]:
        return [item.payload for item in self.domain.msm[host].received[self.group_id]]

    def counters(self, host: str) -> dict[str, int]:
        return self.domain.msm[host].paths[self.group_id].counters

    def sender_id(self, host: str) -> int:
        sender_id = self.domain.msm[host].core.memberships[self.group_id].sender_id
        assert sender_id is not None
        return sender_id

    def forge(self, sequence: int, payload: bytes, epoch: int = 0) -> bytes:
        """By beta, in alpha's name."""
        path = self.domain.msm["beta"].paths[self.group_id]
        name = self.domain.world.domain
        return forge(path, name, self.sender_id("alpha"), sequence, payload, self.group.port, epoch)

    def inject(self, packet: bytes) -> None:
        self.network.send(self.domain.msm["alpha"].address, self.group.address, packet)

    def state(self, host: str) -> GroupState:
        state = self.domain.csm[host].ask("describe-groups", DescribeGroupsRequest()).message.groups[0]
        assert isinstance(state, GroupState)
        return state

    def sent_by(self, host: str) -> list[bytes]:
        source = self.domain.msm[host].address
        return [each.raw for each in self.network.frames if (each.way, each.source) == ("multicast", source)]


def words(name: str, count: int = 60) -> list[bytes]:
    return [f"{name} {number}".encode() for number in range(count)]


@EACH
def test_everybody_is_heard_as_himself(mode: str):
    story = Story(mode)
    story.talk("alpha", words("alpha"))
    story.talk("beta", words("beta"))
    assert story.heard("gamma") == words("alpha") + words("beta")
    senders = {item.sender_id for item in story.domain.msm["gamma"].received[story.group_id][:60]}
    assert senders == {story.sender_id("alpha")}
    assert not [cause for cause in story.counters("gamma") if cause.startswith("source-")]


@EACH
@pytest.mark.parametrize("seed", range(3))
def test_on_a_rough_network_what_is_heard_was_said_once_and_by_whom_it_says(mode: str, seed: int):
    story = Story(mode, ROUGH, seed)
    said = words("alpha", 200)
    story.talk("alpha", said)
    heard = story.heard("gamma")
    assert len(heard) == len(set(heard)) and set(heard) <= set(said)
    assert len(heard) > 0.6 * len(said)
    assert not story.state("gamma").forgeries
    if mode != "tesla":  # it alone needs more than the packet itself
        assert not [cause for cause in story.counters("gamma") if cause.startswith("source-")]


@EACH
def test_keys_of_sources_outlive_the_groups_key(mode: str):
    story = Story(mode)
    said = words("alpha", 90)
    for number in range(3):
        story.talk("alpha", said[30 * number : 30 * number + 30])
        story.domain.age_key(story.group_id)
        story.network.run_for(1.0)
    assert story.heard("gamma") == said


@EACH
def test_the_authorizer_gives_the_keys_of_sources_also_after_a_restart(mode: str):
    story = Story(mode, hosts=("alpha", "beta"))
    story.domain.restart_authorizer()
    story.network.run_for(3.0)
    story.join("gamma")
    story.network.run_for(1.0)
    story.talk("alpha", words("alpha"))
    assert story.heard("gamma") == words("alpha")


@EACH
def test_who_registers_anew_has_a_key_of_its_own_again(mode: str):
    story = Story(mode)
    before = story.domain.msm["beta"].core.memberships[story.group_id].roster[story.sender_id("alpha")]
    story.join("alpha")
    story.network.run_for(1.0)
    after = story.domain.msm["beta"].core.memberships[story.group_id].roster[story.sender_id("alpha")]
    assert len(before.source_key) == len(after.source_key) == 33 and before.source_key != after.source_key
    story.talk("alpha", words("alpha"))
    assert story.heard("gamma") == words("alpha")


@EACH
def test_a_newcomer_hears_who_is_talking_already(mode: str):
    story = Story(mode, hosts=("alpha", "beta"))
    sending = story.domain.msm["alpha"]
    numbers = iter(range(10_000))

    def speak() -> None:
        sending.send(story.group_id, f"alpha {next(numbers)}".encode())
        story.network.at(story.network.now + 0.02, speak)

    speak()
    story.network.run_for(2.0)
    story.join("gamma")
    joined = next(numbers)
    story.network.run_for(3.0)
    heard = [int(word.split()[1]) for word in story.heard("gamma")]
    assert heard == sorted(heard) and len(heard) > 100
    assert heard[0] - joined < 70  # a bootstrap of `tesla` comes within a second


# ---- insiders


@EACH
def test_an_insider_that_speaks_in_anothers_name_is_found_and_silences_nobody(mode: str):
    story = Story(mode)
    story.talk("alpha", words("alpha", 20))
    story.inject(forged := story.forge(1_000_000, bytes(400)))
    story.network.run_for(1.0)
    story.talk("alpha", words("more", 20))  # far below the forged number: the window has not moved
    assert story.heard("gamma") == words("alpha", 20) + words("more", 20)
    assert sum(story.counters("gamma")[cause] for cause in ("source-signature", "source-malformed", "source-late"))
    if mode == "tesla":
        return  # bytes that are no packet of its own time; see the next test for its MAC
    told = [each.forgery for each in story.domain.csm["gamma"].core.told if each.change == "forgery"]
    (evidence,) = story.state("gamma").forgeries
    assert told == [evidence]
    assert (evidence.packet, evidence.sender_id) == (forged, story.sender_id("alpha"))
    assert evidence.host == str(story.domain.world.host("alpha").id)
    assert evidence.sequence == 1_000_000 and evidence.cause.startswith("source-")
    path = story.domain.msm["beta"].paths[story.group_id]
    assert bytes(400) in reopen(path, story.domain.world.domain, evidence.packet)


def test_without_source_authentication_the_same_insider_is_believed_and_silences_the_other():
    """So the test before can fail."""
    story = Story("none")
    story.talk("alpha", words("alpha", 20))
    story.inject(story.forge(1_000_000, b"forged"))
    story.network.run_for(1.0)
    story.talk("alpha", words("more", 20))
    assert story.heard("gamma") == [*words("alpha", 20), b"forged"]
    assert story.counters("gamma")["replay"] == 20
    assert not story.state("gamma").forgeries


@EACH
def test_an_insider_that_alters_what_another_said_is_found(mode: str):
    """It takes the honest packet, its proof and number, changes one byte and seals it again; the honest one is lost."""
    story = Story(mode)
    story.talk("alpha", words("alpha", 20))
    path, name = story.domain.msm["beta"].paths[story.group_id], story.domain.world.domain
    altered: list[bytes] = []

    def alter(raw: bytes) -> bytes:
        inside = bytearray(reopen(path, name, raw))
        size = int.from_bytes(inside[4:6], "big")
        inside[size - 1] ^= 1  # the last byte of what was said
        return story.forge(int.from_bytes(raw[4:8], "big"), bytes(inside[8:size]))

    def drop(frame: object, host: str) -> bool:
        raw: bytes = frame.raw  # type: ignore[attr-defined]
        if host != story.domain.msm["gamma"].address or raw in altered:
            return False
        if frame.source != story.domain.msm["alpha"].address:  # type: ignore[attr-defined]
            return False
        altered.append(alter(raw))
        story.network.at(story.network.now, lambda: story.inject(altered[-1]))
        return True

    story.network.drops.append(drop)
    story.talk("alpha", words("altered", 10), each=0.03)
    story.network.drops.clear()
    story.talk("alpha", words("more", 10))
    assert altered
    assert story.heard("gamma") == words("alpha", 20) + words("more", 10)
    failed = story.counters("gamma")
    assert failed["source-signature"] + failed["source-mac"] + failed["source-key"] >= 1
    assert story.state("gamma").forgeries


@EACH
def test_whatever_is_played_again_is_heard_once(mode: str):
    story = Story(mode)
    story.talk("alpha", words("alpha", 40))
    for raw in story.sent_by("alpha"):
        story.inject(raw)
    story.network.run_for(2.0)
    assert story.heard("gamma") == words("alpha", 40)
    assert story.heard("beta") == words("alpha", 40)
    assert story.counters("gamma")["replay"] >= 40 or mode == "tesla"


@EACH
def test_forgeries_are_all_counted_and_shown_once_a_second(mode: str):
    story = Story(mode)
    story.talk("alpha", words("alpha", 5))
    for number in range(500):
        story.inject(story.forge(500 + number, b"\x09" + bytes(200)))
        story.network.run_for(0.01)
    assert sum(count for cause, count in story.counters("gamma").items() if cause.startswith("source-")) == 500
    assert 4 <= len(story.state("gamma").forgeries) <= 6


# ---- clocks


@pytest.mark.parametrize("errors", [(0, 0, 0), (20, 0, -20), (-20, 0, 20), (0, 0, 25)])
def test_hosts_whose_clocks_are_wrong_hear_each_other_by_the_authorizers(errors: tuple[float, float, float]):
    story = Story("tesla", hosts=("beta",))
    for host, error in zip(USERS, errors):
        story.domain.msm[host].clock_error = error
    for host in ("alpha", "gamma"):
        story.join(host)
    story.network.run_for(2.0)
    story.talk("alpha", words("alpha"))
    assert story.heard("gamma") == words("alpha")


def late_forgery(story: Story, mislead: Callable[[float], None] = lambda at: None) -> None:
    """What alpha says never comes to gamma; the insider waits until the keys are disclosed, and speaks with them."""
    path, name = story.domain.msm["beta"].paths[story.group_id], story.domain.world.domain
    gamma = story.domain.msm["gamma"]
    story.network.drops.append(lambda frame, host: host == gamma.address)
    story.talk("alpha", words("alpha", 60))
    keys: dict[int, bytes] = {}
    for raw in story.sent_by("alpha"):
        inside = reopen(path, name, raw)
        packet = parse(inside[8 : int.from_bytes(inside[4:6], "big")])
        if isinstance(packet, Timed):
            keys[packet.interval - story.group.policy.tesla_disclosure] = packet.disclosed
    interval = sorted(keys)[-2]
    timed = Timed(CONTENT, interval, b"", keys[interval - 1], b"too late")
    setting = Setting(name, story.group_id, story.group.policy)
    begin = setting.bind("tesla", Origin(story.sender_id("alpha"), max(path._keys), 5_000))
    mac = MacKey(keys[interval], begin).mac(CONTENT, interval, 5_000, (story.group.port,) * 2, timed.payload)
    forged = timed._replace(mac=mac)
    story.network.drops.clear()
    right = gamma.paths[story.group_id]._clock.bound
    mislead((interval + 0.5) * story.group.policy.tesla_interval_ms / 1000)
    story.inject(story.forge(5_000, forged.encode()))
    story.network.run_for(0.02)
    gamma.paths[story.group_id]._clock.bound = right
    story.talk("alpha", words("more", 40), each=0.02)


def test_what_is_made_with_a_disclosed_key_is_too_late():
    story = Story("tesla")
    late_forgery(story)
    assert story.heard("gamma") == words("more", 40)
    assert story.counters("gamma")["source-late"] == 1


def test_a_receiver_that_believed_a_wrong_time_would_take_it():
    """So the test before can fail."""
    story = Story("tesla")
    clock = story.domain.msm["gamma"].paths[story.group_id]._clock

    def mislead(at: float) -> None:
        clock.bound = ClockBound.by(story.network.now, story.network.now, at)

    late_forgery(story, mislead)
    assert story.heard("gamma") == [b"too late"]
    assert story.counters("gamma")["replay"] >= 40  # what alpha says itself has lower numbers


# ---- hosts that send and are no members


@EACH
def test_a_host_that_is_no_member_is_heard_as_itself(mode: str):
    story = Story(mode)
    domain = story.domain
    domain.add_host("delta")
    outcome = domain.csm["delta"].send_only(story.group, story.created.conference_id, "dave")
    assert outcome.refused is None, outcome.refused
    story.network.run_for(1.0)
    story.talk("delta", words("delta"))
    assert story.heard("gamma") == words("delta")
    sending = domain.msm["delta"].core.sending_only.groups[story.group_id]
    assert {item.sender_id for item in domain.msm["gamma"].received[story.group_id]} == {sending.sender_id}
    domain.age_key(story.group_id)
    story.network.run_for(2.0)
    story.talk("delta", words("more"))
    assert story.heard("gamma") == words("delta") + words("more")


@pytest.mark.parametrize("error", [-10.0, 10.0])
def test_a_host_whose_clock_is_set_asks_the_authorizer_at_once_and_is_heard_again(error: float):
    story = Story("tesla")
    alpha = story.domain.msm["alpha"]
    before = alpha.core.memberships[story.group_id].clock
    alpha.clock_error = error
    alpha.paths[story.group_id].forget_clock()  # as the engine does, which compares two clocks
    alpha.event(ClockSet(story.group_id))
    assert not alpha.send(story.group_id, b"nobody knows what time it is")
    story.network.run_for(0.5)
    after = alpha.core.memberships[story.group_id].clock
    assert after is not None and before is not None and not set(after.samples) & set(before.samples)
    story.talk("alpha", words("alpha"))
    assert story.heard("gamma") == words("alpha")


def test_an_answer_that_came_before_it_was_asked_for_tells_nothing():
    """This host's clock was set back meanwhile."""
    story = Story("tesla")
    membership = story.domain.msm["alpha"].core.memberships[story.group_id]
    now, clock = story.network.now, membership.clock
    assert membership.clock_heard(now + 5, round(now * 1000), now) == [] and membership.clock is clock
    assert membership.clock_heard(now - 5, round(now * 1000), now) != []
