"""Group updates on their way: sealed so that only members can make members work, numbered, signed.

    GroupUpdate -> Envelope (signed by the Authorizer, recipient the group) -> SealedUpdate (AES-256-GCM under the
    update key of the epoch before)

A member checks in this order: does it open, is the number the next one, is the signature the Authorizer's (RFC 6407,
section 7.3.5). The update key derives from the group key of its epoch, so an ejected member can open the update that
ejects it, which tells it nothing that helps; what leads to the new key is inside, wrapped by the GKM plug-in.

Updates and beacons go out as `GroupMessage`, on the bus and on the multicast alike; `update_parts.py` cuts updates for
the latter.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from mcsa.encoding import encode_parts
from mcsa.envelope import REQUEST_ID_SIZE, Expected, Received, Types, parse_envelope, type_name, write_envelope
from mcsa.errors import Rejected
from mcsa.identity import Credentials, SpiffeId
from mcsa.keys import GroupKey, Random, UpdateKey
from mcsa.trust import Trust
from mcsa.v1.authorizer_pb2 import Beacon, GroupMessage, GroupUpdate, SealedUpdate

LABEL = "mcsa group update v1"
KEY_LABEL = "mcsa update key v1"
UPDATE_TYPE = type_name(GroupUpdate)
NONCE_SIZE = 12
UPDATE_LIFETIME = 60.0  # seconds that a beacon stays believable; an update is numbered, and stays
PORT = 848  # inner UDP port of every GroupMessage inside the group itself; IANA's of GDOI and G-IKEv2


def update_key(group_key: GroupKey, group_id: bytes, epoch: int) -> UpdateKey:
    """The key that protects the updates sent in this epoch."""
    return UpdateKey.derive(group_key, KEY_LABEL, group_id, epoch)


def group_recipient(group_id: bytes) -> str:
    """How an envelope names all members of a group."""
    return f"group:{group_id.hex()}"


def update_message(sealed: bytes) -> bytes:
    """A `GroupMessage` with a whole `SealedUpdate`, both serialised."""
    return GroupMessage(update=sealed).SerializeToString()


def beacon_message(envelope: bytes) -> bytes:
    """A `GroupMessage` with a beacon's `Envelope`, both serialised."""
    return GroupMessage(beacon=envelope).SerializeToString()


def parse_message(raw: bytes) -> GroupMessage:
    """What the Authorizer may have said to a group: has a body. `Rejected("malformed")`."""
    try:
        message = GroupMessage.FromString(raw)
    except DecodeError:
        raise Rejected("malformed", "group message") from None
    if message.WhichOneof("body") is None:
        raise Rejected("malformed", "group message without a body that we know")
    return message


def seal_update(
    update: GroupUpdate, under_epoch: int, key: UpdateKey, signer: Credentials, random: Random, now: float
) -> bytes:
    """A `SealedUpdate`, serialised."""
    recipient, request_id, nonce = group_recipient(update.group_id), random(REQUEST_ID_SIZE), random(NONCE_SIZE)
    payload = update.SerializeToString()
    envelope = write_envelope(signer, UPDATE_TYPE, payload, recipient, request_id, now + UPDATE_LIFETIME)
    bound = encode_parts(LABEL, update.group_id, update.number, under_epoch)
    sealed = SealedUpdate(
        group_id=update.group_id,
        number=update.number,
        under_epoch=under_epoch,
        nonce=nonce,
        ciphertext=AESGCM(key.reveal()).encrypt(nonce, envelope, bound),
    )
    return sealed.SerializeToString()


def parse_update(raw: bytes) -> SealedUpdate:
    """What can be read without a key; `Rejected("malformed")`."""
    try:
        sealed = SealedUpdate.FromString(raw)
    except DecodeError:
        raise Rejected("malformed", "update") from None
    if len(sealed.nonce) != NONCE_SIZE or len(sealed.group_id) != 16:
        raise Rejected("malformed", "update")
    return sealed


def open_update(sealed: SealedUpdate, key: UpdateKey, trust: Trust, authorizer: str, now: float) -> GroupUpdate:
    """The update, once it opened and its signature is the Authorizer's, however old it is: what it leads to is the next
    number and nothing else, and whether there is a later one, beacons tell.

    Raises `Rejected`: "integrity" (another key, or changed on the way), and those of `mcsa.envelope`.
    """
    bound = encode_parts(LABEL, sealed.group_id, sealed.number, sealed.under_epoch)
    try:
        envelope = AESGCM(key.reveal()).decrypt(sealed.nonce, sealed.ciphertext, bound)
    except InvalidTag:
        raise Rejected("integrity", "update") from None
    expected = _expected(sealed.group_id, {UPDATE_TYPE: GroupUpdate}, trust, authorizer)
    received = parse_envelope(envelope)
    verified = received.verify(trust, expected, min(now, received.deadline_at))
    if str(verified.sender.id) != authorizer:
        raise Rejected("sender", "not this group's Authorizer")
    update = verified.message
    assert isinstance(update, GroupUpdate)
    if update.group_id != sealed.group_id or update.number != sealed.number:
        raise Rejected("malformed", "update is of another group or number")
    return update


def _expected(group_id: bytes, types: Types, trust: Trust, authorizer: str) -> Expected:
    """From this Authorizer, which may be a peer domain's where a membership says so: it is named, not any of them."""
    domain = SpiffeId.parse(authorizer).domain
    peers = {} if domain == trust.domain else {domain: ("authorizer",)}
    return Expected([group_recipient(group_id)], types, ["authorizer"], peers=peers)


def open_beacon(raw: bytes, group_id: bytes, trust: Trust, authorizer: str, now: float) -> Beacon:
    """A beacon that the Authorizer signed for this group; `Rejected` otherwise."""
    return _open_beacon(parse_envelope(raw), group_id, trust, authorizer, now)


def open_old_beacon(raw: bytes, group_id: bytes, trust: Trust, authorizer: str, now: float) -> Beacon:
    """The same, however long ago it was signed: evidence of what was said then. `Rejected` also where it is of the
    future."""
    received = parse_envelope(raw)
    return _open_beacon(received, group_id, trust, authorizer, min(now, received.deadline_at))


def _open_beacon(received: Received, group_id: bytes, trust: Trust, authorizer: str, now: float) -> Beacon:
    expected = _expected(group_id, {type_name(Beacon): Beacon}, trust, authorizer)
    verified = received.verify(trust, expected, now)
    if str(verified.sender.id) != authorizer:
        raise Rejected("sender", "not this group's Authorizer")
    beacon = verified.message
    assert isinstance(beacon, Beacon)
    return beacon
