"""What can be asked of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcsa import ckgds
from mcsa.audio.wav import open_wav
from mcsa.domain.drivers import WITH_ADDRESSES, check_driver
from mcsa.errors import Refused
from mcsa.gkm import scheme_named
from mcsa.policy import DEFAULTS, complete_policy, parse_policy
from mcsa.shell.programs import program
from mcsa.source_authentication import mode_named
from mcsa.v1.types_pb2 import GroupPolicy
from services.msm.drivers import driver_named

HOSTS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")
USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy")
LEAST_IN_SUBGROUPS = 4  # two in each of two
LEAST, MOST = 3, len(HOSTS)  # one convenes, one is thrown out, one is to notice neither

PLAYERS = ("ffmpeg",)
OWN_LINES = (
    "The network layer is secured first: every packet of this session is ESP.",
    "On top of that we hold a key that the Authorizer never had.",
    "What is said here is signed: nobody present can deny it.",
)


@dataclass(frozen=True, slots=True)
class Options:
    """`lines` is a file of text, "-" for standard input; `audio` a 16-bit WAV file; empty for the demo's own.

    `Refused` where there is no such protocol, scheme, driver, player or file, or sound that can't be sent. What this
    machine lacks is said by `check_machine`.
    """

    hosts: int = LEAST
    gkm: str = ""
    ckgds: str = ""
    json: Path | None = None
    audio: Path | None = None
    lines: str = ""
    folder: Path | None = None
    policy_texts: tuple[str, ...] = ()  # "name=value", see `mcsa.policy`
    ipv6: bool = False  # the groups
    driver: str = "relay"  # of all hosts' MSMs
    player: str = ""  # the unmodified program that plays and records in place of our own

    def __post_init__(self) -> None:
        driver_named(self.driver)
        self._check_player()
        complete_policy(self.policy)
        if self.ckgds:
            ckgds.scheme_named(self.ckgds)
        if self.lines not in ("", "-") and not Path(self.lines).is_file():
            raise Refused("lines", "file", f"there is no file {self.lines}: give a text file, or - for standard input")
        if self.audio is not None:
            open_wav(self.audio)[0].close()
        if scheme_named(self.gkm_name).subgroups and self.hosts < LEAST_IN_SUBGROUPS:
            object.__setattr__(self, "hosts", LEAST_IN_SUBGROUPS)

    def _check_player(self) -> None:
        if not self.player:
            return
        if self.player not in PLAYERS:
            raise Refused("player", "unknown", f"there is no player '{self.player}'; there are: {', '.join(PLAYERS)}")
        if self.driver not in WITH_ADDRESSES:
            way_out = "add --driver tun, or xfrm"
            raise Refused("player", "driver", f"{self.player} uses the group's own address: {way_out}")

    def check_machine(self) -> None:
        """`Refused` where this machine lacks what is asked for: before anything is started."""
        check_driver(self.driver)
        if self.player:
            program(self.player, "player")

    @property
    def gkm_name(self) -> str:
        """The group key management protocol."""
        return self.gkm or parse_policy(self.policy_texts).gkm or DEFAULTS.gkm

    @property
    def policy(self) -> GroupPolicy:
        """Of the groups. Where the protocol has subgroups, two of them: half of the hosts in each."""
        half = -(-self.hosts // 2)
        policy = GroupPolicy(subgroup_size=half if scheme_named(self.gkm_name).subgroups else 0)
        policy.MergeFrom(parse_policy(self.policy_texts))
        policy.gkm = self.gkm_name
        return policy

    @property
    def heard_after(self) -> float:
        """Seconds for which what was said may be on its way, because of how its source is authenticated."""
        policy = complete_policy(self.policy)
        if mode_named(policy.source_authentication).promises.at_once:
            return 0.0
        return (policy.tesla_disclosure + 1) * policy.tesla_interval_ms / 1000

    @property
    def host_names(self) -> tuple[str, ...]:
        """Hosts of the participants, the Coordinator's first."""
        return HOSTS[: self.hosts]

    @property
    def user_names(self) -> tuple[str, ...]:
        """Their users."""
        return USERS[: self.hosts]
