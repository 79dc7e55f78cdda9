"""What every service is assembled from: credentials, trust, telemetry, a place on the bus."""

from __future__ import annotations

from pathlib import Path

from mcsa.errors import Refused, Rejected
from mcsa.key_files import load_anchors, load_credentials, load_revocation_list
from mcsa.shell.bus import Bus
from mcsa.shell.nkeys import load_nkey
from mcsa.shell.run import crash
from mcsa.shell.settings import ServiceSettings
from mcsa.shell.telemetry import set_up_telemetry
from mcsa.trust import Trust


class Assembly:
    """Loaded from the settings; `Refused` says which file is wrong and what mends it."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        self._settings = settings
        self.credentials = load_credentials(settings.credentials, settings.passphrase.encode() or None)
        self.trust = load_trust(settings)
        self.telemetry = set_up_telemetry(service, self.credentials.id.name)

    def bus(self, name: str) -> Bus:
        """This identity's place on the bus, not yet connected."""
        return Bus(self._settings.bus, name, load_nkey(self._settings.nkey), on_crash=crash)

    def close(self) -> None:
        """Sends what spans are left."""
        self.telemetry.close()


def load_trust(settings: ServiceSettings) -> Trust:
    """The own domain's anchors and revocations, and those of its peers; `Refused` names the file that is wrong."""
    peers = {peer.domain: load_anchors(peer.anchors) for peer in settings.peers}
    trust = Trust(settings.domain, load_anchors(settings.anchors), peers)
    for domain, path in [(settings.domain, settings.revocations), *((p.domain, p.revocations) for p in settings.peers)]:
        if path is not None:
            _revoke(trust, path, domain)
    return trust


def _revoke(trust: Trust, path: Path, domain: str) -> None:
    try:
        trust.revoke(load_revocation_list(path), domain)
    except Rejected:
        sentence = f"{path} is signed by no anchor of {domain}: take the list that its own authority made"
        raise Refused("anchors", "revocation-list", sentence) from None
