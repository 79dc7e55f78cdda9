"""The configuration says what it should; that the server enforces it is in tests/shell/test_least_privilege.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mcsa.broker import (
    Grant,
    auditor_grant,
    authorizer_grant,
    broker_configuration,
    bus_name,
    csm_grant,
    inbox_prefix,
    msm_grant,
    operator_grant,
    sd_grant,
    storekeeper_grant,
)
from mcsa.shell.broker_process import find_server
from mcsa.shell.nkeys import NkeySeed

NKEY = NkeySeed.draw(os.urandom).public


def test_the_server_accepts_what_all_roles_together_give(tmp_path: Path) -> None:
    keys = [NkeySeed.draw(os.urandom).public for _ in range(8)]
    grants = [
        authorizer_grant("main", keys[0]),
        sd_grant("main", keys[1]),
        msm_grant("a", keys[2]),
        csm_grant("a", keys[3]),
        operator_grant(keys[4]),
        auditor_grant(keys[5]),
        storekeeper_grant(["main", "other"], keys[7]),
    ]
    configuration = tmp_path / "nats-server.conf"
    configuration.write_text(broker_configuration(grants, str(tmp_path), system_nkeys=[keys[6]]))
    checked = subprocess.run([find_server(), "-t", "-c", configuration], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "is valid" in checked.stderr


def test_jetstream_answers_only_what_the_disk_has() -> None:
    assert "sync_interval: always" in broker_configuration([operator_grant(NKEY)], "/somewhere")


def test_a_configuration_without_identities_is_a_mistake() -> None:
    """nats-server takes it as one that lets everybody in."""
    with pytest.raises(ValueError, match="would let everybody in"):
        broker_configuration([], "/somewhere")


def test_nobody_skips_a_floor() -> None:
    assert csm_grant("a", NKEY).publish == ["mcsa.v1.msm.a.*"]
    assert sorted(msm_grant("a", NKEY).publish) == [
        "mcsa.v1.authorizer.a.*",
        "mcsa.v1.csm.a.*",
        "mcsa.v1.distributor.a.*",
        "mcsa.v1.sd.a.*",
    ]
    assert [s for s in authorizer_grant("main", NKEY).publish if not s.startswith("$JS.")] == [
        "mcsa.v1.group.main.*",
        "mcsa.v1.log.main.*",
    ]
    assert sd_grant("main", NKEY).publish == []


def test_the_store_is_the_authorizers_alone_and_its_shape_is_not():
    of_stream = [text for text in authorizer_grant("main", NKEY).publish if text.startswith("$JS.")]
    assert sorted(of_stream) == [
        "$JS.API.STREAM.INFO.MCSA_AUTHORIZER_main",
        "$JS.API.STREAM.MSG.GET.MCSA_AUTHORIZER_main",
        "$JS.API.STREAM.PURGE.MCSA_AUTHORIZER_main",
    ]
    others = [csm_grant("a", NKEY), msm_grant("a", NKEY), sd_grant("main", NKEY), operator_grant(NKEY)]
    assert not [text for grant in others for text in grant.publish if text.startswith("$JS.") or ".log." in text]
    assert sorted(storekeeper_grant(["main"], NKEY).publish) == [
        "$JS.API.STREAM.CREATE.MCSA_AUTHORIZER_main",
        "$JS.API.STREAM.UPDATE.MCSA_AUTHORIZER_main",
    ]


def test_what_distributors_are_asked_can_be_shared_and_not_listened_to():
    grant = msm_grant("a", NKEY)
    assert not [text for text in grant.subscribe if "distributor" in text]
    text = broker_configuration([grant], "/somewhere")
    assert '"mcsa.v1.distributor.*.* shared"' in text and '"mcsa.v1.distributor.*.*"' not in text
    others = [authorizer_grant("main", NKEY), csm_grant("a", NKEY), sd_grant("main", NKEY), operator_grant(NKEY)]
    assert "distributor" not in "".join(
        text for other in others for text in (*other.publish, *other.subscribe, *other.share)
    )


def test_each_identity_has_an_inbox_of_its_own() -> None:
    text = broker_configuration([csm_grant("a", NKEY)], "/somewhere")
    assert bus_name("csm", "a") == "csm-a"
    assert f'"{inbox_prefix("csm-a")}.>"' in text
    assert text.count("_INBOX_") == 1


def test_who_may_publish_nothing_is_denied_everything() -> None:
    text = broker_configuration([Grant(NKEY, "mute", [], [])], "/somewhere")
    assert 'publish: { deny: [">"] }' in text


def test_an_auditor_is_there_only_when_asked_for() -> None:
    without = broker_configuration([msm_grant("a", NKEY), operator_grant(NKEY)], "/somewhere")
    assert '[">"]' not in without
    assert '">"' in broker_configuration([auditor_grant(NKEY)], "/somewhere")


def test_two_identities_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="twice"):
        broker_configuration([csm_grant("a", NKEY), csm_grant("a", NKEY)], "/somewhere")


@pytest.mark.parametrize(
    ("nkey", "name", "subject"),
    [
        ("UNOKEY", "fine", "fine"),
        (NKEY, 'a" }', "fine"),
        (NKEY, "", "fine"),
        (NKEY, "fine", 'x" ] } } ,'),
        (NKEY, "fine", "two words"),
    ],
    ids=["nkey", "quote", "empty", "quote-in-subject", "blank-in-subject"],
)
def test_nothing_gets_into_the_configuration_but_names_and_subjects(nkey: str, name: str, subject: str) -> None:
    with pytest.raises(ValueError, match="not "):
        Grant(nkey, name, [subject], [])


def test_a_folder_that_would_end_the_quotes_is_refused() -> None:
    with pytest.raises(ValueError, match="can't stand"):
        broker_configuration([operator_grant(NKEY)], 'a"b')
