"""`mcsa`: all commands. See `mcsa/cli/__init__.py` for the exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mcsa import __version__
from mcsa.cli import ca, conference, doctor, domain, execute, groups, record, send_only, sessions, store
from mcsa.cli.execute import AS_IT_IS
from mcsa.cli.schemes import Ckgds, Driver, Gkm, Policy, SourceAuthentication, with_source_authentication
from mcsa.cli.showing import complaints, refuse
from mcsa.cli.usage import check_new_file, checked, usage
from mcsa.errors import Refused, Rejected

REFUSED, INTERRUPTED = 1, 130

app = typer.Typer(
    name="mcsa",
    help="Secure multicast conferencing. Begin with `mcsa demo`, or `mcsa up` and another terminal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(ca.app, name="ca")
app.add_typer(conference.app, name="conference")
app.add_typer(record.app, name="record")
app.add_typer(store.app, name="store")
app.command("sessions")(sessions.sessions)
app.command("send-only")(send_only.send_only)
app.command("groups")(groups.groups)
app.command("doctor")(doctor.doctor)
app.command("up")(domain.up)
app.command("status")(domain.status)
app.command("exec", context_settings=AS_IT_IS)(execute.execute)
app.command("down")(domain.down)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"MCSA {__version__}")
        raise typer.Exit


@app.callback()
def _mcsa(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Secure multicast conferencing."""


@app.command()
def demo(
    hosts: Annotated[int, typer.Option(min=3, max=10, help="Participants, each on a host of its own.")] = 3,
    gkm: Gkm = "",
    ckgds: Ckgds = "",
    json: Annotated[
        Path | None, typer.Option(help="Write steps and figures to this file.", callback=checked(check_new_file))
    ] = None,
    audio: Annotated[Path | None, typer.Option(help="16-bit PCM WAV file to play.", exists=True)] = None,
    lines: Annotated[str, typer.Option(help='File of lines to say, or "-" for standard input.')] = "",
    source_authentication: SourceAuthentication = "",
    policy: Policy = None,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="Groups of IPv6.")] = False,
    driver: Driver = "relay",
    player: Annotated[str, typer.Option(help="Unmodified program to play and record: ffmpeg; takes tun or xfrm.")] = "",
) -> None:
    """Hold a conference on this machine, told step by step: hosts in network namespaces, every service a process."""
    from mcsa.demo.command import run_demo  # it needs the services, which other commands do without
    from mcsa.demo.options import Options

    with usage():
        asked = Options(
            hosts,
            gkm,
            ckgds,
            json,
            audio,
            lines,
            policy_texts=tuple(with_source_authentication(policy, source_authentication)),
            ipv6=ipv6,
            driver=driver,
            player=player,
        )
    raise typer.Exit(run_demo(asked))


def main() -> None:
    """The command; turns refusals into a sentence and exit code 1."""
    try:
        app(standalone_mode=True)
    except Refused as error:
        refuse(error)
        sys.exit(REFUSED)
    except Rejected as error:
        complaints.print(f"mcsa: not accepted: {error}", markup=False, style="red")
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
