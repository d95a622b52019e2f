"""``dicomnet conform``: how well does a provider keep the standard, and what does it withstand?"""

from __future__ import annotations

import click

from ..apps.conform import program
from ..apps.conform.session import Target
from ..config import Entity
from .exits import Exit
from .options import AE_TITLE, PLAIN_PEER, SECONDS, output_options
from .output import Output

__all__ = ["command"]


@click.command("conform", short_help="Test how a provider keeps the standard.")
@click.argument("peer", type=PLAIN_PEER, required=False)
@click.option("-aet", "--aet", type=AE_TITLE, default="CONFORM", metavar="ME", help="Our own AE title.")
@click.option(
    "-to", "--timeout", type=SECONDS, default=2.0, metavar="SECONDS", help="What an answer may take.  [default: 2]"
)
@click.option("-k", "pattern", metavar="PATTERN", help="Only cases with an id, or else words, like PATTERN.")
@click.option("--list", "listing", is_flag=True, help="List the cases, run none.")
@click.option("--slow", is_flag=True, help="Also wait for the provider's timers.")
@click.option(
    "--artim", type=SECONDS, default=35.0, metavar="SECONDS", help="What ARTIM may be, for --slow.  [default: 35]"
)
@click.option("--no-store", is_flag=True, help="Leave no objects with the provider.")
@click.option("--jobs", type=click.IntRange(min=1), default=4, metavar="N", help="Cases at a time.  [default: 4]")
@click.option("--junit", type=click.Path(), metavar="FILE", help="Write JUnit XML, too.")
@click.option("--strict", is_flag=True, help="Fail for should and robust cases as well.")
@output_options
def command(
    peer: Entity | None,
    aet: str,
    timeout: float,
    pattern: str | None,
    listing: bool,
    slow: bool,
    artim: float,
    no_store: bool,
    jobs: int,
    junit: str | None,
    strict: bool,
    output: Output,
) -> int:
    """Test how the provider PEER keeps PS3.7 and PS3.8, and what it withstands.

    Each case names its section, and how binding its rule is: "must" by the text, "should" where the text recommends,
    "robust" where it is silent and a hostile network is not. Exits with 0 if every must case passes, else with 69.
    A provider of CT images gets some tiny ones, of patient CONFORM^TEST, unless --no-store is given.
    """
    if listing:
        program.list_cases(pattern)
        return Exit.DONE
    if peer is None:
        raise click.UsageError("PEER is missing")
    target = Target(peer.host, peer.port, peer.ae_title, aet, timeout, artim, not no_store)
    options = program.Options(
        pattern=pattern,
        slow=slow,
        jobs=jobs,
        json=output.json,
        junit=junit,
        verbose=output.verbosity > 0,
        quiet=output.verbosity < 0,
        strict=strict,
    )
    return Exit.DONE if program.test_provider(target, options) else Exit.FAILURES
