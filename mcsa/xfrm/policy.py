"""A policy of the kernel's IPsec: what may go to a group and come from it, and what it has to be wrapped in."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from mcsa.errors import Rejected
from mcsa.xfrm import layout
from mcsa.xfrm.layout import Selector
from mcsa.xfrm.netlink import encode_attribute, parse_attributes

Direction = Literal["in", "out"]
_DIRECTIONS: dict[str, int] = {"in": 0, "out": 1}
_ALLOW, _BLOCK = 0, 1
_XFRMA_TMPL = 5
_EVERY_ALGORITHM = 0xFFFFFFFF  # iproute2 sets this too; the state decides
INFO_SIZE = 168  # struct xfrm_userpolicy_info
_DIRECTION_AT = layout.SELECTOR_SIZE + layout.LIFETIME_SIZE + layout.CURRENT_SIZE + 8
_TEMPLATE_SIZE = 64
_REQID_AT = layout.ID_SIZE + 4 + layout.ADDRESS_SIZE


@dataclass(frozen=True, slots=True)
class Template:
    """Demands ESP in transport mode by a state with this `reqid`, and with this `spi` (0: whichever); or says only
    that it may be (`may_be_left_out`)."""

    reqid: int
    spi: int = 0
    may_be_left_out: bool = False


@dataclass(frozen=True, slots=True)
class KernelPolicy:
    """Packets that `selector` names: need what `template` says, pass as they are (None), or don't pass (`blocks`).

    Of policies that fit a packet that with the lowest `priority` decides. One that blocks may have a template
    that the kernel doesn't look at: it says whose the policy is.
    """

    direction: Direction
    selector: Selector
    priority: int
    template: Template | None = None
    blocks: bool = False

    def encode(self) -> bytes:
        """Body of XFRM_MSG_NEWPOLICY and XFRM_MSG_UPDPOLICY: struct xfrm_userpolicy_info and its template.

        168 bytes: selector 56, limits 64, current values 32, priority 4, index 4, direction, action, flags, share,
        4 of padding.
        """
        if self.template is None:
            return self._info()
        return self._info() + encode_attribute(_XFRMA_TMPL, self._template(self.template))

    def encode_for_socket(self) -> bytes:
        """Value of the socket option IP_XFRM_POLICY or IPV6_XFRM_POLICY: the same without an attribute's header."""
        return self._info() if self.template is None else self._info() + self._template(self.template)

    def _info(self) -> bytes:
        action = _BLOCK if self.blocks else _ALLOW
        return (
            self.selector.encode()
            + layout.pack_lifetime()
            + b"\0" * layout.CURRENT_SIZE
            + struct.pack("=IIBBBB4x", self.priority, 0, _DIRECTIONS[self.direction], action, 0, 0)
        )

    def encode_id(self) -> bytes:
        """Body of XFRM_MSG_DELPOLICY, struct xfrm_userpolicy_id, 64 bytes: selector 56, index 4, direction, 3 of
        padding."""
        return self.selector.encode() + struct.pack("=IB3x", 0, _DIRECTIONS[self.direction])

    def _template(self, template: Template) -> bytes:
        """struct xfrm_user_tmpl, 64 bytes: id 24, family 2, 2 of padding, source 16, reqid 4, mode, share, whether
        it may be left out, 1 of padding, three sets of algorithms. Transport mode takes no addresses of it."""
        family = layout.family_of(self.selector.destination)
        return (
            layout.pack_id(None, template.spi)
            + struct.pack("=H2x16x", family)
            + struct.pack("=IBBBx", template.reqid, layout.MODE_TRANSPORT, 0, template.may_be_left_out)
            + struct.pack("=3I", *[_EVERY_ALGORITHM] * 3)
        )


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """A policy that the kernel has: enough to say whose it is, and to delete it."""

    reqid: int | None  # of its first template
    id: bytes  # body of XFRM_MSG_DELPOLICY

    @property
    def destination(self) -> layout.Address:
        """Of its selector."""
        (family,) = struct.unpack_from("=H", self.id, layout.SELECTOR_FAMILY_AT)
        return layout.parse_address(self.id[: layout.ADDRESS_SIZE], family)


def parse_policy(body: bytes) -> PolicyReport:
    """Of XFRM_MSG_NEWPOLICY, as answers to XFRM_MSG_GETPOLICY come. `Rejected` where it is too short."""
    if len(body) < INFO_SIZE:
        raise Rejected("netlink", "half a policy")
    direction = body[_DIRECTION_AT]
    templates = parse_attributes(body[INFO_SIZE:]).get(_XFRMA_TMPL, b"")
    reqid = struct.unpack_from("=I", templates, _REQID_AT)[0] if len(templates) >= _TEMPLATE_SIZE else None
    return PolicyReport(reqid, body[: layout.SELECTOR_SIZE] + struct.pack("=IB3x", 0, direction))
