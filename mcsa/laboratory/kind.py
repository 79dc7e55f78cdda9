"""Which kind of laboratory this process can have, and how an ordinary user gets one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from mcsa.errors import Refused
from mcsa.laboratory.plan import KindName
from mcsa.laboratory.programs import CODE, program

_INSIDE = "MCSA_USER_NAMESPACE"  # set in the environment of what runs in the user namespace: the user's own uid
_PROBE = "ip link add probe type bridge mcast_snooping 1"

# `ip netns` keeps its namespaces in /run/netns, which an ordinary user can't write: /run gets a file system of its
# own, visible to this process and its children only. The user's own directory there stays where it was.
_PRIVATE_RUN = """
here=$PWD
[ -d "$XDG_RUNTIME_DIR" ] && cd "$XDG_RUNTIME_DIR" || XDG_RUNTIME_DIR=
mount -t tmpfs -o mode=755 mcsa /run || exit 1
case "$XDG_RUNTIME_DIR" in /run/*)
  mkdir -p "$XDG_RUNTIME_DIR" && mount --no-canonicalize --rbind . "$XDG_RUNTIME_DIR" || exit 1
esac
cd "$here"
ip link set lo up
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of laboratory and, in a sentence, why it is that one."""

    name: KindName
    reason: str


def kind() -> Kind:
    """The best kind that this machine allows this process; tries it, and leaves nothing behind.

    "user-namespaces" may need `reexec_in_user_namespace` first.
    """
    if inside_user_namespace():
        return Kind("user-namespaces", "this process is root in a user namespace of its own")
    return _kind(os.geteuid())


@cache
def _kind(user: int) -> Kind:
    refusals = []
    if user == 0:
        refusal = _refusal(["unshare", "--net", "--mount", "sh", "-c", _PROBE])
        if not refusal:
            return Kind("namespaces", "this process is root and may make network namespaces")
        refusals.append(f"root may not make network namespaces ({refusal})")
    refusal = _refusal(_unshare("sh", "-c", _PROBE))
    if not refusal:
        return Kind("user-namespaces", "an ordinary user may make user namespaces here")
    refusals.append(f"user namespaces are refused ({refusal})")
    return Kind("loopback", " and ".join(refusals))


def _unshare(*argv: str) -> list[str]:
    # Without --fork the process keeps its id, and with it its signals and its place in the terminal.
    options = ("--user", "--map-root-user", "--net", "--mount")
    return ["unshare", *options, "--", "sh", "-c", _PRIVATE_RUN, "mcsa", *argv]


def _refusal(argv: list[str]) -> str:
    """Why a command doesn't work here; empty where it does."""
    try:
        program("ip")
        done = subprocess.run([program(argv[0]), *argv[1:]], capture_output=True, text=True, check=False, env=_path())
    except Refused as missing:
        return missing.sentence
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def _path() -> dict[str, str]:
    return os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def inside_user_namespace() -> bool:
    """Whether `reexec_in_user_namespace` has done its work."""
    return _INSIDE in os.environ and os.geteuid() == 0


def reexec_in_user_namespace() -> None:
    """Starts the current program anew, same process id and arguments, as root of a user namespace of its own.

    Returns only where that is done already, where it isn't needed (root) or isn't allowed (then `kind()` says
    "loopback"). Call it first thing: what the process did so far is done again. Inside, the process sees the
    machine's files with the user's own rights, but none of the machine's networks: only the laboratory's.
    """
    if kind().name != "user-namespaces" or inside_user_namespace():
        return
    if not sys.executable:
        raise Refused(CODE, "python", "Python doesn't know its own path: start it by its full path.")
    argv = _unshare(sys.executable, *sys.orig_argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(program("unshare"), argv, _path() | {_INSIDE: str(os.getuid())})  # noqa: S606 - no shell wanted
