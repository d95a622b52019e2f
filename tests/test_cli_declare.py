"""Command lines that are read without click: they mean what click would make of them, or are left to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnet.cli import commands, declare, explain
from dicomnet.errors import InvalidArgument


def every_command() -> Iterator[declare.Command]:
    for name in commands.NAMES:
        found = commands.load(name)
        yield from found.commands.values() if isinstance(found, declare.Group) else [found]


COMMANDS = list(every_command())
WORDS = (
    "AET@host:104", "[::1]:11112", "127.0.0.1:0", "study", "a/b.dcm", "30", "500ms", "16k", "7", "0", "", "DOE*", "A=1",
    "required", "completed", __file__, ".",
    "-", "--", "-x", "+x", "--nonsense", "-r-q", "--count=3", "--aet=ME", "-kA=1", "-vq", "-h",
)  # fmt: skip


def echoing(command: declare.Command) -> declare.Command:
    """The same parameters over a body that gives what it was called with."""
    return declare.Command(command.name, dict, command.short_help, command.parameters)  # type: ignore[arg-type]


def by_click(command: declare.Command, words: list[str]) -> dict[str, Any] | None:
    """What click makes of it; None where it refuses, or helps."""
    try:
        with explain._command(echoing(command)).make_context(command.name, list(words)) as context:
            return context.params
    except (click.ClickException, click.exceptions.Exit):
        return None


@st.composite
def lines(draw: st.DrawFn) -> tuple[declare.Command, list[str]]:
    command = draw(st.sampled_from(COMMANDS))
    spellings = [word for one in command.parameters for word in one.spellings]
    return command, draw(st.lists(st.sampled_from([*spellings, *WORDS, *WORDS[:10]]), max_size=8))


@given(lines())
def test_a_plain_line_means_what_click_makes_of_it(line):
    command, words = line
    plain = echoing(command).plain(words)
    if plain is not None:
        assert plain() == by_click(command, words)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_option_is_read_alone(command):
    places = ["AET@host:104", "study"] if command.name in ("find", "get", "move") else ["127.0.0.1:104", "file"]
    places = places[: sum(not one.is_option for one in command.parameters)]
    needed = [w for one in command.parameters if one.is_option and one.is_required for w in (one.spellings[0], "DIR")]
    read = 0
    for one in command.parameters:
        for spelling in one.spellings:
            words = [*needed, *places, spelling] + ([] if one.is_flag else ["7" if one.kind else "text"])
            plain = echoing(command).plain(words)
            read += plain is not None
            assert plain is None or plain() == by_click(command, words)
    assert read >= 6


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["host:104"],
        ["no peer", "file"],
        ["host:104", "file", "--associations", "0"],
        ["host:104", "file", "--associations"],
        ["host:104", "file", "--associations", "-1"],
        ["host:104", "file", "--timeout", "soon"],
        ["host:104", "file", "--halt=1"],
        ["host:104", "file", "--hal"],
        ["host:104", "file", "-vq"],
        ["host:104", "file", "--help"],
        ["host:104", "--", "-file"],
        ["host:104", "file", "--tls-ca", "no such file"],
        ["host:104", "file", "--tls-ca", "."],
    ],
)
def test_what_wants_a_word_is_left_to_click(words):
    assert commands.load("store").plain(words) is None


def test_a_line_of_store():
    plain = echoing(commands.load("store")).plain(
        ["A@host:104", "one", "-aet", "ME", "+r", "two", "--associations", "3", "+sd", "-to", "2m", "--json", "-q"]
    )
    found = plain()
    assert str(found["peer"]) == "A@host:104"
    assert found["paths"] == ("one", "two")
    assert (found["aet"], found["recurse"], found["associations"], found["timeout"]) == ("ME", True, 3, 120.0)
    assert (found["json"], found["quiet"], found["verbose"], found["halt"]) == (True, True, False, False)
    assert found["aec"] is None
    assert "scan_directories" not in found


def test_the_commands_of_a_group():
    cert = commands.load("cert")
    assert cert.plain([]) is cert.plain(["shew", "file"]) is None
    assert cert.plain(["show", "file"]) is not None


def test_a_value_that_cannot_be_read_gets_the_words_of_whoever_read_it():
    def refuse(text: str) -> int:
        raise InvalidArgument(f"{text} is none")

    command = declare.Command("try", dict, "", [declare.Parameter(True, ("--it",), declare.Kind("it", refuse), {})])
    assert command.plain(["--it", "seven"]) is None
    with pytest.raises(click.BadParameter, match="seven is none"):
        explain._command(command).make_context("try", ["--it", "seven"])
