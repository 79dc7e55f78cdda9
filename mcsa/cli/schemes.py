"""Options that name a plug-in or a policy: help and completion know those that there are."""

from __future__ import annotations

from typing import Annotated

import typer

from mcsa import ckgds, gkm
from mcsa.cli.usage import checked, each
from mcsa.policy import complete_policy, parse_policy
from mcsa.source_authentication import mode_named, modes
from mcsa.v1.types_pb2 import GroupPolicy


def _gkm_names() -> list[str]:
    return list(gkm.schemes())


def _ckgds_names() -> list[str]:
    return list(ckgds.schemes())


def _check_driver_name(name: str) -> None:
    from services.msm.drivers import driver_named  # it needs the services, which other commands do without

    driver_named(name)


GKM_HELP = f"Group key management protocol: {', '.join(_gkm_names())}; else the default."
CKGDS_NAMES = ", ".join(_ckgds_names())

_POLICY_NAMES = [field.name for field in GroupPolicy.DESCRIPTOR.fields]

Policy = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        "-p",
        metavar="NAME=VALUE",
        help="Group policy, such as wire=esp or suite=aes-128-gcm; give it several times. "
        f"Names: {', '.join(_POLICY_NAMES)}.",
        autocompletion=lambda: [f"{name}=" for name in _POLICY_NAMES],
        callback=checked(lambda texts: complete_policy(parse_policy(texts))),
    ),
]
SourceAuthentication = Annotated[
    str,
    typer.Option(
        help=f"How a member can tell which member said it: {', '.join(modes())}; else the default.",
        autocompletion=lambda: list(modes()),
        callback=checked(mode_named),
    ),
]
Driver = Annotated[
    str,
    typer.Option(
        help="What carries the packets on each host: relay; where hosts are network namespaces, tun; where the "
        "kernel has IPsec and you are root, xfrm.",
        callback=checked(_check_driver_name),
    ),
]
Gkm = Annotated[str, typer.Option(help=GKM_HELP, autocompletion=_gkm_names, callback=checked(gkm.scheme_named))]
Ckgds = Annotated[
    str,
    typer.Option(
        help=f"Conference key scheme: {CKGDS_NAMES}; else the Coordinator's floor decides.",
        autocompletion=_ckgds_names,
        callback=checked(ckgds.scheme_named),
    ),
]
CkgdsOffered = Annotated[
    list[str] | None,
    typer.Option(
        "--ckgds",
        help=f"Key schemes offered, best first: {CKGDS_NAMES}.",
        autocompletion=_ckgds_names,
        callback=checked(each(ckgds.scheme_named)),
    ),
]


def with_source_authentication(texts: list[str] | None, name: str) -> list[str]:
    """What `--policy` and `--source-authentication` say together, the latter last."""
    return [*(texts or ()), *([f"source_authentication={name}"] if name else ())]


def asked_policy(texts: list[str] | None, gkm_name: str, source_authentication: str = "") -> GroupPolicy | None:
    """What `--policy`, `--gkm` and `--source-authentication` say together; None where they say nothing.
    `Refused("policy")` where it can't be."""
    policy = parse_policy(with_source_authentication(texts, source_authentication))
    policy.gkm = gkm_name or policy.gkm
    complete_policy(policy)
    return policy if policy.ListFields() else None
