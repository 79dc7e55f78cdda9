"""The files of a domain on one machine: authority, certificates, broker keys, configurations. One folder, 0700."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcsa.authority import CertificationAuthority
from mcsa.broker import (
    Grant,
    authorizer_grant,
    bus_name,
    csm_grant,
    msm_grant,
    operator_grant,
    sd_grant,
    storekeeper_grant,
    subordinate_grant,
)
from mcsa.errors import Refused
from mcsa.identity import Credentials, SpiffeId
from mcsa.key_files import load_authority, load_credentials, save_anchors, save_authority, save_credentials
from mcsa.shell.local import LONGEST_PATH
from mcsa.shell.nkeys import load_or_make_nkey
from mcsa.subjects import AUTHORIZER, CSM, MSM, SD

LONGEST_SOCKET_NAME = 22  # bytes: "/", 16 hexadecimal digits of a group, ".sock"
NETWORKS = ("239.0.0.0/8", "232.0.0.0/8", "ff00::/8")  # that Authorizers may key groups in
AUTHORIZER_NAME = "main"
DIRECTORY_NAME = "sd"
REMARKS = {
    "loop": "  # this laboratory's network gives back what is sent; on any other one take this line out",
    "interval_floor": "  # seconds: for impatient people in a laboratory; on any other network take this line out",
}


class DomainFiles:
    """What is there is kept, what is missing is made."""

    def __init__(self, folder: Path, domain: str) -> None:
        self.folder = folder
        self.domain = domain
        self._peers: dict[str, Path] = {}
        self._subordinates: list[DomainFiles] = []
        self._homes: list[dict[str, Any]] = []
        self._conferences_of: list[str] = []
        _make(folder)
        authority = folder / "authority.pem"
        if authority.exists():
            self.authority = load_authority(authority)
            if self.authority.domain != domain:
                way_out = "name that domain, or another folder"
                raise Refused("domain", str(folder), f"{folder} has the keys of {self.authority.domain}: {way_out}")
        else:
            self.authority = CertificationAuthority.create(domain, time.time())
            save_authority(authority, self.authority)
        self.anchors = folder / "anchors.pem"
        save_anchors(self.anchors, [self.authority.certificate])

    def add_peer(self, peer: DomainFiles, *, take_part: bool = False) -> None:
        """Services configured from here on know the users of another domain. `take_part`: and hosts take part in its
        conferences, through the Authorizer of their own domain."""
        self._peers[peer.domain] = peer.anchors
        if take_part:
            self._conferences_of.append(peer.domain)

    def add_subordinate(self, peer: DomainFiles) -> None:
        """The Authorizer of a peer may key groups of this domain's conferences (scheme `kd`) for hosts of its own."""
        self._subordinates.append(peer)

    def add_home(self, peer: DomainFiles, bus: str) -> None:
        """The other way: this domain's Authorizer does so with groups of a peer, whose broker is there."""
        nkey = self.subordinate_nkey(peer)
        self._homes.append({"authorizer": str(peer.authorizer_id), "bus": [bus], "nkey": nkey})

    @property
    def authorizer_id(self) -> SpiffeId:
        """Of this domain's Authorizer."""
        return SpiffeId(self.domain, "authorizer", AUTHORIZER_NAME)

    def subordinate_nkey(self, home: DomainFiles) -> Path:
        """The key of this domain's Authorizer at a peer's broker, made where there is none."""
        path = self.folder / f"subordinate-at-{home.domain}.nkey"
        load_or_make_nkey(path)
        return path

    def credentials_path(self, kind: str, name: str) -> Path:
        """The key file of that name, issued where there is none."""
        path = self.folder / f"{kind}-{name}.pem"
        if not path.exists():
            save_credentials(path, self.authority.issue(kind, name, time.time()))
        return path

    def credentials(self, kind: str, name: str) -> Credentials:
        """What is in it."""
        return load_credentials(self.credentials_path(kind, name))

    def nkey_path(self, service: str, token: str) -> Path:
        """The broker key of a service, made where there is none."""
        path = self.folder / f"{bus_name(service, token)}.nkey"
        load_or_make_nkey(path)
        return path

    @property
    def storekeeper_nkey(self) -> Path:
        """The broker key of who makes the Authorizer's stream."""
        return self.folder / "storekeeper.nkey"

    def grants(self, hosts: list[str]) -> list[Grant]:
        """What everybody may do on the bus."""
        return [
            authorizer_grant(AUTHORIZER_NAME, self._public(AUTHORIZER, AUTHORIZER_NAME)),
            sd_grant(DIRECTORY_NAME, self._public(SD, DIRECTORY_NAME)),
            operator_grant(load_or_make_nkey(self.folder / "operator.nkey").public),
            storekeeper_grant([AUTHORIZER_NAME], load_or_make_nkey(self.storekeeper_nkey).public),
            *(
                subordinate_grant(
                    peer.authorizer_id, AUTHORIZER_NAME, load_or_make_nkey(peer.subordinate_nkey(self)).public
                )
                for peer in self._subordinates
            ),
            *(msm_grant(host, self._public(MSM, host)) for host in hosts),
            *(csm_grant(host, self._public(CSM, host)) for host in hosts),
        ]

    def _public(self, service: str, token: str) -> str:
        return load_or_make_nkey(self.nkey_path(service, token)).public

    # ---- configurations

    def authorizer_config(self, bus: str, address: str, pool: str, **more: Any) -> Path:
        """`services.authorizer`; `more` as its configuration has it."""
        own = self._common(AUTHORIZER, AUTHORIZER_NAME, "authorizer", AUTHORIZER_NAME, bus)
        subordinates = [str(peer.authorizer_id) for peer in self._subordinates]
        values = {**own, "address": address, "pool": pool, "subordinates": subordinates, "homes": self._homes, **more}
        return self._write("authorizer", values)

    def sd_config(self, bus: str, address: str, **more: Any) -> Path:
        """`services.sd`."""
        own = self._common(SD, DIRECTORY_NAME, "directory", DIRECTORY_NAME, bus)
        return self._write("sd", {**own, "address": address, **more})

    def msm_config(self, host: str, bus: str, address: str, **more: Any) -> Path:
        """`services.msm` of a host; `more` as its configuration has it (`driver = "tun"`)."""
        authorizer = f"spiffe://{self.domain}/authorizer/{AUTHORIZER_NAME}"
        lines = [{"authorizer": f"spiffe://{self.domain}/authorizer/*"}]
        for domain in self._conferences_of:
            lines.append({"authorizer": f"spiffe://{domain}/authorizer/*", "through": authorizer})
        accepts = [{**line, "network": network} for line in lines for network in NETWORKS]
        own = self._common(MSM, host, "host", host, bus)
        values = {
            "address": address,
            "directory": f"spiffe://{self.domain}/directory/{DIRECTORY_NAME}",
            "accepts": accepts,
            "sockets": self.sockets(host),
        }
        return self._write(f"msm-{host}", {**own, **values, **more})

    def csm_config(self, host: str, bus: str) -> Path:
        """`services.csm` of a host."""
        own = self._common(CSM, host, "host", host, bus)
        more = {
            "authorizer": f"spiffe://{self.domain}/authorizer/{AUTHORIZER_NAME}",
            "socket": self.sockets(host) / "csm.sock",
        }
        return self._write(f"csm-{host}", {**own, **more})

    def sockets(self, host: str) -> Path:
        """Folder of a host's local sockets: under the domain's, or, where that is too long for a Unix socket, under
        /tmp with a name that only this domain of this user has."""
        folder = self.folder / host
        if len(os.fsencode(folder)) + LONGEST_SOCKET_NAME <= LONGEST_PATH:
            return folder
        name = f"mcsa-{os.getuid()}-{hashlib.sha256(os.fsencode(self.folder.absolute())).hexdigest()[:12]}"
        own = Path("/tmp") / name  # noqa: S108 - ours alone, or refused
        own.mkdir(mode=0o700, exist_ok=True)
        status = own.lstat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) != 0o700 or not stat.S_ISDIR(status.st_mode):
            raise Refused("local-socket", "directory", f"{own} is not ours alone: shorten {folder}")
        return own / host

    def remove_sockets(self, hosts: list[str]) -> None:
        """The folders of `sockets`, as far as they are empty."""
        for host in hosts:
            folder = self.sockets(host)
            for empty in (folder, folder.parent) if folder.parent != self.folder else (folder,):
                with suppress(OSError):
                    empty.rmdir()

    def _common(self, service: str, token: str, kind: str, name: str, bus: str) -> dict[str, Any]:
        peers = [{"domain": domain, "anchors": anchors} for domain, anchors in self._peers.items()]
        return {
            "domain": self.domain,
            **({"peers": peers} if peers else {}),
            "credentials": self.credentials_path(kind, name),
            "anchors": self.anchors,
            "bus": [bus],
            "nkey": self.nkey_path(service, token),
            "state": self.folder / "state" / bus_name(service, token),
        }

    def _write(self, name: str, values: Mapping[str, Any]) -> Path:
        path = self.folder / f"{name}.toml"
        lines = [f"{key} = {_toml(value)}{REMARKS.get(key, '')}\n" for key, value in values.items()]
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(lines)
        return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        way_out = "choose another, or set XDG_STATE_HOME to a folder of yours"
        raise Refused("folder", str(folder), f"{folder} can't be made ({error.strerror}): {way_out}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Refused("folder", str(folder), f"{folder} is not yours to write in: choose another")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value)  # JSON's strings, numbers and booleans are TOML's
