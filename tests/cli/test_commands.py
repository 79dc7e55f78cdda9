"""The `mcsa` command: help, exit codes, JSON, the certification authority, records."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mcsa import __version__, ckgds, gkm
from mcsa.domain.files import DomainFiles
from mcsa.key_files import load_credentials, save_anchors
from mcsa.source_authentication import modes
from tests.record.parts import whole
from tests.record.test_domains import held
from tests.world import World

COMMANDS = [
    [],
    ["ca"],
    ["ca", "init"],
    ["ca", "issue"],
    ["ca", "show"],
    ["up"],
    ["status"],
    ["down"],
    ["exec"],
    ["sessions"],
    ["groups"],
    ["send-only"],
    ["doctor"],
    ["demo"],
    ["record", "show"],
    ["record", "verify"],
    ["store", "prepare"],
    *(
        ["conference", verb]
        for verb in ("start", "list", "show", "join", "call", "say", "listen", "eject", "move", "leave")
    ),
]


def mcsa(*arguments: str, folder: Path, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200", **environment}
    command = [sys.executable, "-m", "mcsa.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=variables, input=text, check=False, timeout=60)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_helps(command: list[str], tmp_path: Path) -> None:
    done = mcsa(*command, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "Usage" in done.stdout and len(done.stdout) > 200


def test_version_and_completion(tmp_path: Path) -> None:
    assert mcsa("--version", folder=tmp_path).stdout == f"MCSA {__version__}\n"
    assert "--install-completion" in mcsa("--help", folder=tmp_path).stdout


@pytest.mark.parametrize("command", [("demo",), ("conference", "start")])
def test_help_names_every_plug_in_that_there_is(command: tuple[str, ...], tmp_path: Path) -> None:
    told = mcsa(*command, "--help", folder=tmp_path).stdout
    assert f"protocol: {', '.join(gkm.schemes())};" in told
    assert f": {', '.join(ckgds.schemes())}" in told
    assert f"said it: {', '.join(modes())}; else" in told


def test_wrong_usage_is_2_and_a_refusal_is_1_with_the_way_out(tmp_path: Path) -> None:
    assert mcsa("conference", "dance", folder=tmp_path).returncode == 2
    assert mcsa("demo", "--hosts", "1", folder=tmp_path).returncode == 2
    nobody = mcsa("conference", "start", "Budget", folder=tmp_path)
    assert nobody.returncode == 2 and "--open" in nobody.stderr
    for command in (["sessions"], ["conference", "list"], ["conference", "show", "Budget"]):
        done = mcsa(*command, folder=tmp_path)
        assert done.returncode == 1
        assert "mcsa up" in done.stderr and not done.stdout


def test_an_authority_is_made_once_and_issues_keys_that_only_their_owner_reads(tmp_path: Path) -> None:
    place = ["--folder", str(tmp_path / "ca")]
    assert mcsa("ca", "init", "example.org", *place, folder=tmp_path).returncode == 0
    assert mcsa("ca", "init", "example.org", *place, folder=tmp_path).returncode == 1
    assert mcsa("ca", "issue", "user", "alice", *place, folder=tmp_path).returncode == 0
    again = mcsa("ca", "issue", "user", "alice", *place, folder=tmp_path)
    assert again.returncode == 1 and "there already" in again.stderr
    assert mcsa("ca", "issue", "user", "Not A Name", *place, folder=tmp_path).returncode == 1
    assert mcsa("ca", "issue", "wizard", "alice", *place, folder=tmp_path).returncode == 2
    for name in ("authority.pem", "user-alice.pem"):
        assert stat.S_IMODE((tmp_path / "ca" / name).stat().st_mode) == 0o600
    shown = mcsa("ca", "show", str(tmp_path / "ca" / "user-alice.pem"), "--json", folder=tmp_path)
    (told,) = json.loads(shown.stdout)
    assert told["name"] == "spiffe://example.org/user/alice"
    assert all(name.isidentifier() for name in told) and isinstance(told["bytes"], int)
    assert (
        "spiffe://example.org/user/alice"
        in mcsa("ca", "show", str(tmp_path / "ca" / "user-alice.pem"), folder=tmp_path).stdout
    )


def test_a_key_file_may_have_a_passphrase(tmp_path: Path) -> None:
    place = ["--folder", str(tmp_path)]
    mcsa("ca", "init", "example.org", *place, folder=tmp_path)
    mcsa("ca", "issue", "user", "alice", *place, folder=tmp_path, MCSA_PASSPHRASE="correct horse")
    assert b"ENCRYPTED" in (tmp_path / "user-alice.pem").read_bytes()
    assert str(load_credentials(tmp_path / "user-alice.pem", b"correct horse").id).endswith("/user/alice")


def test_a_user_file_without_a_key_is_told_as_such(tmp_path: Path) -> None:
    save_anchors(tmp_path / "anchors.pem", [World("example.org").authority.certificate])
    start = ["conference", "start", "Budget", "-a", "bob", "--user", str(tmp_path / "anchors.pem")]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as csm:
        csm.bind(str(tmp_path / "csm.sock"))
        csm.listen()
        done = mcsa(*start, folder=tmp_path, MCSA_CSM_SOCKET=str(tmp_path / "csm.sock"))
    assert done.returncode == 1
    assert "holds no private key" in done.stderr and "chmod" not in done.stderr


def test_status_and_down_where_nothing_runs(tmp_path: Path) -> None:
    assert json.loads(mcsa("status", "--json", folder=tmp_path).stdout) == {"running": False, "note": None}
    assert "mcsa up" in mcsa("status", folder=tmp_path).stdout
    assert "nothing to end" in mcsa("down", folder=tmp_path).stdout


def test_status_tells_what_a_killed_one_left_and_down_cleans_it(tmp_path: Path) -> None:
    note = tmp_path / "state" / "mcsa" / "running.json"
    note.parent.mkdir(parents=True)
    left = {"process": 2**22 + 1, "started": 1, "services": {"sd": 2**22 + 2}, "sockets": {"alpha": "/nowhere"}}
    note.write_text(json.dumps(left))
    done = mcsa("status", folder=tmp_path)
    assert done.returncode == 1
    assert "was killed" in done.stdout and "gone" in done.stdout and "missing" in done.stdout
    assert mcsa("down", folder=tmp_path).returncode == 0
    assert not note.exists()


def test_doctor_takes_the_groups_of_one_network(tmp_path: Path) -> None:
    told = mcsa("doctor", "--interface", "lo", "--groups", "239.193.0.0/16", folder=tmp_path).stdout
    assert "239.193.0.0/16" in told
    wrong = mcsa("doctor", "--groups", "10.0.0.0/8", folder=tmp_path)
    assert wrong.returncode == 2 and "no prefix of multicast addresses" in wrong.stdout + wrong.stderr


def test_doctor_gives_json_and_tells_what_mends(tmp_path: Path) -> None:
    told = json.loads(mcsa("doctor", "--json", folder=tmp_path).stdout)
    assert {"interface", "multicast route", "clock", "broker", "privileges"} <= {check["name"] for check in told}
    assert all(check["state"] in ("ok", "warn", "fail") for check in told)
    (broker,) = [check["what"] for check in told if check["name"] == "broker"]
    assert "whether one runs was not looked at" in broker
    dead = mcsa("doctor", "--broker", "nats://127.0.0.1:9", folder=tmp_path)
    assert dead.returncode == 1 and "nobody answers" in dead.stdout


# ---- records


@pytest.fixture
def record(tmp_path: Path) -> tuple[Path, Path]:
    """A record and its anchors."""
    one = whole()
    save_anchors(tmp_path / "anchors.pem", [one.world.authority.certificate])
    (tmp_path / "one.record").write_bytes(one.writer.serialised())
    return tmp_path / "one.record", tmp_path / "anchors.pem"


def test_a_record_is_verified_and_shown(record: tuple[Path, Path], tmp_path: Path) -> None:
    file, anchors = record
    done = mcsa("record", "verify", str(file), "--anchors", str(anchors), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "verified: unchanged, countersigned, whole" in done.stdout and "alice" in done.stdout
    told = json.loads(mcsa("record", "show", str(file), "--anchors", str(anchors), "--json", folder=tmp_path).stdout)
    assert told["countersigned"] is True
    assert {one["user"].rsplit("/", 1)[1] for one in told["participants"]} >= {"alice", "bob"}


def test_a_record_with_one_byte_changed_is_refused(record: tuple[Path, Path], tmp_path: Path) -> None:
    file, anchors = record
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    done = mcsa("record", "verify", str(file), "--anchors", str(anchors), folder=tmp_path)
    assert done.returncode == 1 and "not to be believed" in done.stderr and not done.stdout


def test_a_record_of_two_domains_needs_the_anchors_of_both(tmp_path: Path) -> None:
    a, b = World("a.example"), World("b.example")
    one = held(a, b)
    one.countersign(b.authorizer)
    (tmp_path / "one.record").write_bytes(one.writer.serialised())
    for name, world in (("a", a), ("b", b)):
        save_anchors(tmp_path / f"{name}.pem", [world.authority.certificate])
    verify = ["record", "verify", str(tmp_path / "one.record"), "--anchors", str(tmp_path / "a.pem")]
    done = mcsa(*verify, folder=tmp_path)
    assert done.returncode == 1 and "not to be believed" in done.stderr
    done = mcsa(*verify, "--anchors", str(tmp_path / "b.pem"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bob (b.example)" in done.stdout and "by main (b.example)" in done.stdout and "alice (" not in done.stdout
    done = mcsa(*verify, "--anchors", str(tmp_path / "a.pem"), folder=tmp_path)
    assert done.returncode == 1 and "speaks for a.example, and so does another" in done.stderr


def test_a_record_of_another_domain_is_refused(record: tuple[Path, Path], tmp_path: Path) -> None:
    file, anchors = record
    save_anchors(anchors, [World("example.net").authority.certificate])
    for verb in ("verify", "show"):
        done = mcsa("record", verb, str(file), "--anchors", str(anchors), folder=tmp_path)
        assert done.returncode == 1
        assert f"{anchors} isn't what its domains were certified by" in done.stderr


def test_anchors_that_are_not_those_of_the_domain_are_suspected(record: tuple[Path, Path], tmp_path: Path) -> None:
    file, anchors = record
    domain = whole().world.domain
    save_anchors(anchors, [World(domain).authority.certificate])
    done = mcsa("record", "verify", str(file), "--anchors", str(anchors), folder=tmp_path)
    assert done.returncode == 1
    assert f"no anchor of {domain} proves the certificate" in done.stderr and str(anchors) in done.stderr


def test_a_socket_in_the_environment_is_not_asked_for_again(tmp_path: Path) -> None:
    done = mcsa("sessions", "--host", "alpha", folder=tmp_path, MCSA_CSM_SOCKET="/run/mcsa/csm.sock")
    assert done.returncode == 1
    assert "leave the host out, MCSA_CSM_SOCKET is set" in done.stderr


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("wire=pigeon", "'pigeon' is none of udp, esp"),
        ("wier=esp", "no policy has that name; there are: suite, gkm"),
        ("lease_s=soon", "'soon' is no number"),
        ("keep_key_on_join=perhaps", "'perhaps' is no true or false"),
    ],
)
def test_a_policy_that_can_not_be_is_refused_before_anything_is_started(tmp_path: Path, policy: str, why: str) -> None:
    for command in (["demo"], ["conference", "start", "Budget", "-a", "bob"]):
        done = mcsa(*command, "--policy", policy, folder=tmp_path)
        assert done.returncode == 2
        assert why in done.stderr


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (["up", "--driver", "pigeon"], "there is no driver 'pigeon'; there are: relay, tun, xfrm"),
        (["up", "--hosts", ""], "no host is named"),
        (["up", "--hosts", "a b"], "'a b' can't be a host's name"),
        (["up", "--hosts", "alpha,alpha"], "two hosts are called 'alpha'"),
        (["up", "--hosts", "infra"], "two hosts are called 'infra'"),
        (["up", "--domain", "No Domain"], "'No Domain' can't be a domain"),
        (["conference", "start", ""], "not empty"),
        (["conference", "start", "two\nlines"], "one line of printable characters"),
        (["conference", "start", "Budget", "-a", ""], "'' can't be a user"),
        (["conference", "start", "Budget", "-a", "bob carol"], "'bob carol' can't be a user"),
        (["conference", "start", "Budget", "-a", "spiffe://a.example/host/bob"], "can't be a user"),
        (["conference", "start", "Budget", "--open", "--wait", "-3"], "'--wait'"),
        (["conference", "start", "Budget", "--open", "--audio", "99999"], "'--audio'"),
        (["conference", "start", "Budget", "--open", "--gkm", "rot13"], "there is no group key management protocol"),
        (["conference", "start", "Budget", "--open", "--ckgds", "rot13"], "there is no key scheme 'rot13'"),
        (["conference", "start", "Budget", "--open", "--from", "soon"], "'soon' is no moment"),
        (["conference", "start", "Budget", "--open", "--every", "soon"], "'soon' is no repetition"),
        (["conference", "start", "Budget", "--open", "--until", "2020-01-01"], "it would end before it begins"),
        (["conference", "start", "Budget", "--open", "-p", "activation_ms=5000"], "must outlive the activation delay"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_a_value_that_can_not_be_is_wrong_usage_and_starts_nothing(tmp_path: Path, asked: list[str], why: str) -> None:
    done = mcsa(*asked, folder=tmp_path)
    assert done.returncode == 2
    assert why in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "state" / "mcsa").exists()


@pytest.mark.parametrize("command", [[], ["conference"], ["conference", "start"], ["demo"], ["doctor"]], ids=" ".join)
def test_help_is_short_too(command: list[str], tmp_path: Path) -> None:
    assert mcsa(*command, "-h", folder=tmp_path).stdout == mcsa(*command, "--help", folder=tmp_path).stdout


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = mcsa("up", "--folder", str(tmp_path / "file" / "domain"), folder=tmp_path)
    assert done.returncode == 1
    assert "can't be made (Not a directory): choose another" in done.stderr and "Traceback" not in done.stderr
    done = mcsa("up", "--folder", str(tmp_path / "domain"), folder=tmp_path / "file")
    assert done.returncode == 1
    assert "Set XDG_STATE_HOME to a directory of yours" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_of_another_domain_is_refused(tmp_path: Path) -> None:
    DomainFiles(tmp_path / "domain", "mcsa.example")
    done = mcsa("up", "--domain", "other.example", "--folder", str(tmp_path / "domain"), folder=tmp_path)
    assert done.returncode == 1
    assert "has the keys of mcsa.example: name that domain, or another folder" in done.stderr
