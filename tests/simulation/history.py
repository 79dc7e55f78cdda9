"""What must hold over all of a domain's past, whoever was killed meanwhile, and whatever became of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mcsa.registration import open_association, open_sending
from mcsa.v1.authorizer_pb2 import GroupSecurityAssociation, SendingAssociation
from services.authorizer import events as authorizer_events
from services.msm import events as msm_events


class Broken(AssertionError):  # noqa: N818
    """One of the promises."""


class History:
    """Each epoch that anybody was given, with its key; each sender ID, with whom it was given to. `Broken` as soon as
    an epoch comes a second time with another key, or a sender ID is somebody else's."""

    def __init__(self) -> None:
        self._keys: dict[tuple[bytes, int], str] = {}
        self._senders: dict[tuple[bytes, int], str] = {}

    def epoch(self, group_id: bytes, epoch: int, key: Any) -> None:
        """Somebody got the key of an epoch."""
        known = self._keys.setdefault((group_id, epoch), key.reveal().hex())
        if known != key.reveal().hex():
            raise Broken(f"epoch {epoch} came twice, with two keys")

    def sender(self, group_id: bytes, sender_id: int, whom: str) -> None:
        """A registration, or a process of the Authorizer, got a sender ID."""
        known = self._senders.setdefault((group_id, sender_id), whom)
        if known != whom:
            raise Broken(f"sender ID {sender_id} was given to {known}, and to {whom}")

    def authorizer(self, process: int, effect: Any) -> None:
        """An Authorizer's process carries out an effect."""
        if isinstance(effect, authorizer_events.InstallSender):
            group_id = effect.group.group_id
            self.epoch(group_id, effect.epoch, effect.key)
            self.sender(group_id, effect.sender_id, f"process {process} of the Authorizer")

    def msm(self, effect: Any) -> None:
        """An MSM carries out an effect."""
        if isinstance(effect, msm_events.InstallEpoch):
            self.epoch(effect.group_id, effect.epoch, effect.key)

    def association(self, request_hash: bytes, gsa: GroupSecurityAssociation) -> None:
        """A registration was answered."""
        if gsa.HasField("sender_id"):
            self.sender(gsa.group.group_id, gsa.sender_id, f"registration {request_hash.hex()}")

    def sending(self, request_hash: bytes, association: SendingAssociation) -> None:
        """A host that is no member was answered: to a registration, where the group is said."""
        if association.HasField("group"):
            self.sender(association.group.group_id, association.sender_id, f"registration {request_hash.hex()}")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Reads along what registrations are answered."""

        def open_and_note(key: Any, request_hash: bytes, sealed: bytes) -> GroupSecurityAssociation:
            gsa = open_association(key, request_hash, sealed)
            self.association(request_hash, gsa)
            return gsa

        def open_and_note_sending(key: Any, request_hash: bytes, sealed: bytes) -> SendingAssociation:
            association = open_sending(key, request_hash, sealed)
            self.sending(request_hash, association)
            return association

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("services.msm.core_joining.open_association", open_and_note)
            patch.setattr("services.msm.sending_only.open_sending", open_and_note_sending)
            yield
