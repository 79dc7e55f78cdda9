"""Options that name a plug-in: help and completion know those that there are."""

from __future__ import annotations

from typing import Annotated

import typer

from mcsa import ckgds, gkm


def _gkm_names() -> list[str]:
    return list(gkm.schemes())


def _ckgds_names() -> list[str]:
    return list(ckgds.schemes())


GKM_HELP = f"Group key management protocol: {', '.join(_gkm_names())}; else the default."
CKGDS_NAMES = ", ".join(_ckgds_names())

Gkm = Annotated[str, typer.Option(help=GKM_HELP, autocompletion=_gkm_names)]
Ckgds = Annotated[
    str,
    typer.Option(
        help=f"Conference key scheme: {CKGDS_NAMES}; else the Coordinator's floor decides.", autocompletion=_ckgds_names
    ),
]
CkgdsOffered = Annotated[
    list[str] | None,
    typer.Option("--ckgds", help=f"Key schemes offered, best first: {CKGDS_NAMES}.", autocompletion=_ckgds_names),
]
