"""The CSM as a process: its core on the bus, applications on one local socket, its MSM's relays on others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import structlog

from mcsa import subjects
from mcsa.broker import bus_name
from mcsa.endpoint import Endpoint
from mcsa.envelope import type_name
from mcsa.errors import Refused, Rejected
from mcsa.key_files import load_credentials
from mcsa.shell.assembly import Assembly
from mcsa.shell.service import RunningService
from mcsa.v1.msm_pb2 import GroupChanged
from services.csm.applications import Applications
from services.csm.config import CsmSettings
from services.csm.core import CsmCore
from services.csm.events import (
    AnswerApplication,
    CloseRelay,
    KeepKey,
    LoadUser,
    OpenRelay,
    Recovered,
    Remember,
    SendControl,
    TellApplication,
    UserLoaded,
    WriteRecord,
)
from services.csm.relays import Relays
from services.csm.setting import Setting
from services.csm.storage import Storage

log = structlog.get_logger()


class CsmService:
    """See the module."""

    def __init__(self, settings: CsmSettings) -> None:
        self._assembly = assembly = Assembly("csm", settings)
        self._storage = Storage(settings.state / "csm")
        credentials = assembly.credentials
        setting = Setting(
            str(credentials.id),
            settings.authorizer,
            assembly.trust,
            os.urandom,
            settings.ckgds,
            str(self._storage.records),
            assembly.telemetry,
        )
        endpoint = Endpoint(
            subjects.CSM,
            credentials.id.token,
            credentials,
            assembly.trust,
            CsmCore(setting),
            os.urandom,
            publications={type_name(GroupChanged): GroupChanged},
            publishers=("host",),
            telemetry=assembly.telemetry,
        )
        bus = assembly.bus(bus_name(subjects.CSM, endpoint.caller))
        self._running = RunningService(endpoint, bus, self._perform)
        self._relays = Relays(self._running.feed)
        self._applications = Applications(
            settings.socket, self._running.feed, settings.application_users, assembly.telemetry
        )

    async def start(self) -> None:
        """Takes up what an earlier process left, and serves."""
        await self._running.start()
        await self._running.listen(
            subjects.subject(subjects.CSM, self._running.endpoint.caller, subjects.GROUP_CHANGED)
        )
        found, broken = self._storage.recall()
        for name in broken:
            log.warning("participation can't be opened; join anew", file=name)
        if found:
            self._running.feed(Recovered(found))
        await self._applications.start()

    async def close(self) -> None:
        """Ends; participations are taken up again by the next process."""
        await self._applications.close()
        self._relays.close_all()
        await self._running.close()
        self._assembly.close()

    def _perform(self, effect: Any) -> None:
        match effect:
            case AnswerApplication():
                self._applications.answer(effect)
            case TellApplication():
                self._applications.tell(effect)
            case SendControl():
                self._relays.send(effect.group_id, effect.port, effect.datagram)
            case OpenRelay():
                self._relays.open(effect.group_id, effect.path)
            case CloseRelay():
                self._relays.close(effect.group_id)
            case LoadUser():
                self._load(effect)
            case KeepKey():
                self._storage.keep_key(effect.conference_id, effect.user, effect.key_epoch, effect.key)
            case Remember():
                self._storage.remember(effect.conference_id, effect.user, effect.participation)
            case WriteRecord():
                refused = self._storage.write_record(effect.name, effect.record)
                if refused is not None:
                    log.error("record not written", file=effect.name, reason=refused.sentence)
            case _:
                raise TypeError(effect)

    def _load(self, effect: LoadUser) -> None:
        key = effect.key
        try:
            user = load_credentials(Path(key.path), key.passphrase.encode() or None)
        except Refused as refused:
            self._running.feed(UserLoaded(effect.then, refusal=refused))
        except Rejected as rejected:
            sentence = f"{key.path} is no user's key file: {rejected}"
            self._running.feed(UserLoaded(effect.then, refusal=Refused("user", "key-file", sentence)))
        else:
            self._running.feed(UserLoaded(effect.then, user))
