"""``dicomnet cert``: certificates to try TLS with, and when those in use expire."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from .certificates import Facts, facts_of, make, read_certificates
from .exits import Exit
from .options import DIR, PATH, output_options
from .output import Output

__all__ = ["command"]

_FILES = click.argument("files", type=PATH, nargs=-1, required=True, metavar="FILE...")


@click.group("cert")
def command() -> None:
    """Make certificates to try TLS with, show what certificates say, and check when they expire."""


@command.command("make", short_help="Make a small authority, a server and a client.")
@DIR
@click.option(
    "--host", "hosts", multiple=True, default=("localhost", "127.0.0.1", "::1"), metavar="NAME",
    help="A name or address of the server; can be given again.  [default: localhost]",
)  # fmt: skip
@click.option("--client", default="dicomnet", metavar="NAME", help="The name of the client.  [default: dicomnet]")
@click.option(
    "--days", type=click.IntRange(min=1, max=36500), default=825, metavar="N",
    help="How long they are valid.  [default: 825]",
)  # fmt: skip
@output_options
def make_command(directory: str, hosts: tuple[str, ...], client: str, days: int, output: Output) -> int:
    """Make ca.pem, server.pem and client.pem in DIR, with their keys.

    An authority that is in DIR already is used again. Its key vouches for every holder: this is for trying things
    out, and for places without an authority of their own.
    """
    make(directory, hosts, client, days, output)
    return Exit.DONE


@command.command("show", short_help="Show what certificates say.")
@_FILES
@output_options
def show_command(files: tuple[str, ...], output: Output) -> int:
    """Show the subject, names, issuer, dates, key and fingerprint of every certificate in FILEs, PEM or DER."""
    now = datetime.now(UTC)
    for path in files:
        for certificate in read_certificates(path):
            _show(path, facts_of(certificate), now, output)
    return Exit.DONE


def _show(path: str, facts: Facts, now: datetime, output: Output) -> None:
    output.say(f"{path}: {facts.subject}{' (an authority)' if facts.authority else ''}")
    for label, value in (
        ("names", ", ".join(facts.names) or "none"),
        ("issuer", facts.issuer),
        ("valid", f"{facts.begins:%Y-%m-%d} to {facts.ends:%Y-%m-%d}: {_left(facts, now)}"),
        ("key", facts.key),
        ("SHA-256", facts.fingerprint),
    ):
        output.say(f"  {label:8}{value}")
    output.record(
        path=path,
        subject=facts.subject,
        names=list(facts.names),
        issuer=facts.issuer,
        authority=facts.authority,
        valid_from=facts.begins.isoformat(),
        valid_to=facts.ends.isoformat(),
        days_left=facts.days_left(now),
        key=facts.key,
        fingerprint=facts.fingerprint,
    )


@command.command("check", short_help="Check when certificates expire.")
@_FILES
@click.option(
    "--days", type=click.IntRange(min=0), default=30, metavar="N", help="Warn when fewer are left.  [default: 30]"
)
@output_options
def check_command(files: tuple[str, ...], days: int, output: Output) -> int:
    """Check that every certificate in FILEs is valid today, and for some days to come.

    Exits with 0 where all are, with 68 where one expires soon, with 69 where one has expired or is not valid yet.
    """
    now = datetime.now(UTC)
    code = Exit.DONE
    for path in files:
        for certificate in read_certificates(path):
            facts = facts_of(certificate)
            code = max(code, _check(f"{path}: {facts.subject}", facts, now, days, output))
    return code


def _check(label: str, facts: Facts, now: datetime, days: int, output: Output) -> Exit:
    line = f"{label}: {_left(facts, now)}"
    valid = facts.begins <= now < facts.ends
    left = facts.days_left(now)
    output.record(certificate=label, valid=valid, days_left=left)
    if not valid:
        output.error(line)
        return Exit.FAILURES
    if left < days:
        output.warn(line)
        return Exit.WARNINGS
    output.say(line)
    return Exit.DONE


def _left(facts: Facts, now: datetime) -> str:
    if now < facts.begins:
        return f"not valid before {facts.begins:%Y-%m-%d %H:%M} UTC"
    if now >= facts.ends:
        return f"expired {facts.ends:%Y-%m-%d %H:%M} UTC"
    return f"{facts.days_left(now)} days left"
