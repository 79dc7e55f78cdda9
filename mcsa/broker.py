"""Who may say what on the bus, and the nats-server configuration that enforces it.

The broker is a courier that nobody believes (design, R4), but it does keep order: one account, a user for each
identity, known by its nkey; each publishes and subscribes what its role needs and nothing else. The caller's own token
is in the subjects it may publish to, so nobody can speak in another's place. Every identity has its own inbox,
`_INBOX_<identity>`, which nobody else may read, and nobody may write to but who was asked (`allow_responses`).

Requests go down, events go up, nobody skips a floor (design, R1):

    csm-h publishes to mcsa.v1.msm.h.*        msm-h publishes to mcsa.v1.{authorizer,sd,csm,distributor}.h.*

What an MSM asks of any distributor of a group, an MSM gets only as one that shares the subject with the others: it has
its part of the requests, and can't listen to all of them.

Of JetStream an Authorizer may use the one stream that holds its logs: append, read, purge. It can't make a stream, or
change what one takes in: who can, can have the broker collect what others say. A storekeeper does that, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mcsa.envelope import MAX_LIFETIME
from mcsa.identity import SpiffeId
from mcsa.subjects import AUTHORIZER, CSM, DISTRIBUTOR, GROUP, LOG, MSM, SD, subject

ANY = "*"
STOREKEEPER = "storekeeper"
INBOX = "_INBOX_"
SHARE = "shared"  # the queue of those that share a subject
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_NKEY = re.compile(r"U[A-Z2-7]{55}")  # public user nkey: base32 of prefix, 32 bytes of key, CRC-16
_SUBJECT = re.compile(r"[A-Za-z0-9$_*>.-]{1,255}")
_MICRO_VERBS = ("PING", "INFO", "STATS")  # the discovery protocol of NATS services (NATS ADR-32)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one identity may do.

    `responses`: it may answer, once, whoever sent it a message, until no envelope's deadline could still allow it.
    `share`: subjects that it may subscribe to in the queue `SHARE`, and not otherwise.
    `ValueError` where a part of it could not stand in a configuration file as it is.
    """

    nkey_public: str
    name: str
    publish: Sequence[str]
    subscribe: Sequence[str]
    responses: bool = False
    share: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"not a name on the bus: {self.name!r}")
        if not _NKEY.fullmatch(self.nkey_public):
            raise ValueError(f"not the public nkey of a user: {self.nkey_public!r}")
        for text in (*self.publish, *self.subscribe, *self.share):
            if not _SUBJECT.fullmatch(text):
                raise ValueError(f"not a subject: {text!r}")

    @property
    def inbox_prefix(self) -> str:
        """Where its answers arrive."""
        return inbox_prefix(self.name)


def inbox_prefix(name: str) -> str:
    """The inbox of an identity; only it may subscribe below."""
    return f"{INBOX}{name}"


def bus_name(service: str, token: str) -> str:
    """The identity on the bus of a service on a host, or of the service of that name: `msm-h`."""
    return f"{service}-{token}"


def micro_name(service: str) -> str:
    """Under which operators find it (`$SRV.PING.mcsa-authorizer`)."""
    return f"mcsa-{service}"


def log_stream(authorizer: str) -> str:
    """The JetStream stream of an Authorizer's logs."""
    return f"MCSA_AUTHORIZER_{authorizer}"


def authorizer_grant(token: str, nkey_public: str) -> Grant:
    """An Authorizer (and its replicas): is asked by MSMs, tells groups, keeps its own logs."""
    store = [f"$JS.API.STREAM.{verb}.{log_stream(token)}" for verb in ("INFO", "MSG.GET", "PURGE")]
    publish = [subject(GROUP, token, ANY), subject(LOG, token, ANY), *store]
    return _service_grant(AUTHORIZER, token, nkey_public, publish, [subject(AUTHORIZER, ANY, ANY)])


def subordinate_name(authorizer: SpiffeId) -> str:
    """The identity, on a home's bus, of another domain's Authorizer."""
    return f"subordinate-{authorizer.domain.replace('.', '_')}-{authorizer.token}"


def subordinate_grant(authorizer: SpiffeId, home: str, nkey_public: str) -> Grant:
    """Another domain's Authorizer on the bus of the one named `home`: asks it, and hears its groups."""
    publish = [subject(AUTHORIZER, authorizer.token, ANY)]
    return Grant(nkey_public, subordinate_name(authorizer), publish, [subject(GROUP, home, ANY)])


def sd_grant(token: str, nkey_public: str) -> Grant:
    """A session directory: is asked by MSMs, says nothing by itself."""
    return _service_grant(SD, token, nkey_public, [], [subject(SD, ANY, ANY)])


def msm_grant(host: str, nkey_public: str) -> Grant:
    """The MSM of a host: asks Authorizer, SD and distributors, tells its CSM, hears groups, may be a distributor."""
    publish = [subject(service, host, ANY) for service in (AUTHORIZER, SD, CSM, DISTRIBUTOR)]
    subscribe = [subject(MSM, host, ANY), subject(GROUP, ANY, ANY)]
    return _service_grant(MSM, host, nkey_public, publish, subscribe, [subject(DISTRIBUTOR, ANY, ANY)])


def csm_grant(host: str, nkey_public: str) -> Grant:
    """The CSM of a host: asks its MSM, hears from it, and from nobody else."""
    return _service_grant(CSM, host, nkey_public, [subject(MSM, host, ANY)], [subject(CSM, host, ANY)])


def storekeeper_grant(authorizers: Iterable[str], nkey_public: str, name: str = STOREKEEPER) -> Grant:
    """Makes the streams of these Authorizers, and changes them; can't read, write or empty them."""
    verbs = ("CREATE", "UPDATE")
    publish = [f"$JS.API.STREAM.{verb}.{log_stream(token)}" for token in authorizers for verb in verbs]
    return Grant(nkey_public, name, publish, [])


def operator_grant(nkey_public: str, name: str = "operator") -> Grant:
    """An operator: finds the services and reads their statistics."""
    return Grant(nkey_public, name, [pattern for verb in _MICRO_VERBS for pattern in _discovery(verb, ">")], [])


def auditor_grant(nkey_public: str, name: str = "auditor") -> Grant:
    """Hears and says everything: a hostile broker, for tests. No configuration has it unless it is asked for."""
    return Grant(nkey_public, name, [">"], [">"])


def broker_configuration(
    grants: Iterable[Grant],
    directory: str,
    *,
    listen: str = "127.0.0.1:-1",
    system_nkeys: Sequence[str] = (),
) -> str:
    """The text of a nats-server configuration file.

    `directory` gets the JetStream store and the ports file (port -1 in `listen` is one that is free). JetStream
    answers only once the disk has what it was given: by default it answers first, and a log that fences
    replicas must not lose its end. `system_nkeys` may use the SYS account, to look at connections and end them.
    """
    users = list(grants)
    if not users:
        raise ValueError("a broker without identities would let everybody in")  # nats-server then asks nobody
    names = [grant.name for grant in users]
    if len(set(names)) != len(names):
        raise ValueError(f"a name is given twice: {sorted(names)}")
    lines = [
        f"listen: {_quoted(listen)}",
        f"ports_file_dir: {_quoted(directory)}",
        'write_deadline: "5s"  # a reader this slow is disconnected',
        "jetstream {",
        f"  store_dir: {_quoted(directory + '/jetstream')}",
        "  sync_interval: always",
        "  max_mem: 64M",
        "  max_file: 1G",
        "}",
        "accounts {",
        "  MCSA {",
        "    jetstream: enabled",
        "    users: [",
        *(line for grant in users for line in _user(grant)),
        "    ]",
        "  }",
        f"  SYS {{ users: [ {' '.join(f'{{ nkey: {nkey} }}' for nkey in system_nkeys)} ] }}",
        "}",
        "system_account: SYS",
    ]
    return "\n".join(lines) + "\n"


def _service_grant(
    service: str,
    token: str,
    nkey_public: str,
    publish: Sequence[str],
    subscribe: Sequence[str],
    share: Sequence[str] = (),
) -> Grant:
    name = micro_name(service)
    found = [pattern for verb in _MICRO_VERBS for pattern in _discovery(verb, name, f"{name}.*")]
    return Grant(nkey_public, bus_name(service, token), publish, [*subscribe, *found], responses=True, share=share)


def _discovery(verb: str, *tails: str) -> list[str]:
    return [f"$SRV.{verb}", *(f"$SRV.{verb}.{tail}" for tail in tails)]


def _user(grant: Grant) -> list[str]:
    shared = [f"{text} {SHARE}" for text in grant.share]  # subject and queue, in nats-server's way to say it
    lines = [
        f"      {{ nkey: {grant.nkey_public}  # {grant.name}",
        "        permissions {",
        f"          publish: {_allowed(grant.publish)}",
        f"          subscribe: {_allowed([f'{grant.inbox_prefix}.>', *grant.subscribe, *shared])}",
    ]
    if grant.responses:
        lines.append(f'          allow_responses: {{ max: 1, expires: "{MAX_LIFETIME:g}s" }}')
    return [*lines, "        }", "      }"]


def _allowed(subjects: Sequence[str]) -> str:
    if not subjects:  # an empty list would allow everything
        return '{ deny: [">"] }'
    return f"{{ allow: [{', '.join(_quoted(text) for text in subjects)}] }}"


def _quoted(text: str) -> str:
    if '"' in text or "\\" in text or not text.isprintable():
        raise ValueError(f"can't stand in a nats-server configuration: {text!r}")
    return f'"{text}"'
