"""Enumerations of `values`: those of ``enum`` where it is loaded, else their like; and the cache."""

from __future__ import annotations

import copy
import enum
import json
import pickle
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from dicomnet import errors, status, values
from dicomnet.protocol import messages, peer_profile, states


class Colour(values.LightEnum):
    RED = "red"
    GREEN = "green"

    @property
    def shouted(self):
        return self.value.upper()


class Number(values.LightIntEnum):
    ZERO = 0
    ONE = 1


class Rule(values.LightEnum):
    reason: str

    def __new__(cls, name, reason):
        member = object.__new__(cls)
        member._value_, member.reason = name, reason
        return member

    FIRST = "first", "why"


LIGHT = {"Colour": Colour, "Number": Number, "Rule": Rule}
REAL: dict[str, Any] = {}
exec(  # noqa: S102 - the same declarations over again, under the same names
    """
class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"
    shouted = property(lambda self: self.value.upper())

class Number(enum.IntEnum):
    ZERO = 0
    ONE = 1

class Rule(enum.Enum):
    def __new__(cls, name, reason):
        member = object.__new__(cls)
        member._value_, member.reason = name, reason
        return member
    FIRST = "first", "why"
""",
    {"enum": enum, "__name__": __name__},
    REAL,
)


def outcome(ask: Any, classes: dict[str, Any]) -> object:
    """What comes of a question, as text; or what is raised."""
    try:
        return repr(ask(SimpleNamespace(**classes)))
    except (ValueError, KeyError, AttributeError) as error:
        return type(error).__name__, str(error)


@pytest.mark.parametrize(
    "ask",
    [
        lambda of: list(of.Colour),
        lambda of: list(reversed(of.Colour)),
        lambda of: (len(of.Colour), bool(of.Colour), sorted(of.Colour.__members__), of.Colour),
        lambda of: (of.Colour("red"), of.Colour["GREEN"], of.Colour(of.Colour.RED) is of.Colour.RED),
        lambda of: (str(of.Colour.RED), f"{of.Colour.RED:>12}", of.Colour.RED.name, of.Colour.RED.shouted),
        lambda of: (of.Colour.RED == of.Colour.GREEN, of.Colour.RED == "red", {of.Colour.RED: 1}[of.Colour("red")]),
        lambda of: of.Colour.GREEN in of.Colour,
        lambda of: (copy.copy(of.Colour.RED) is of.Colour.RED, copy.deepcopy([of.Colour.RED])[0] is of.Colour.RED),
        lambda of: of.Colour("blue"),
        lambda of: of.Colour([]),
        lambda of: of.Colour["BLUE"],
        lambda of: [type(one) is of.Colour and isinstance(one, of.Colour) for one in of.Colour],
        lambda of: (list(of.Number), of.Number(0), of.Number["ONE"], of.Number(of.Number.ONE), of.Number(True)),
        lambda of: (str(of.Number.ONE), f"{of.Number.ONE:02}", f"{of.Number.ONE}", json.dumps(of.Number.ONE)),
        lambda of: (of.Number.ONE + 1, of.Number.ONE == 1, of.Number.ZERO < 1, {1: 2}[of.Number.ONE]),
        lambda of: bool(of.Number.ZERO),
        lambda of: of.Number(2),
        lambda of: (list(of.Rule), of.Rule("first"), of.Rule.FIRST.reason, of.Rule.FIRST.value),
    ],
)
def test_they_answer_as_those_of_the_library_do(ask: Any) -> None:
    assert outcome(ask, LIGHT) == outcome(ask, REAL)


@pytest.mark.parametrize("of", [LIGHT, REAL], ids=["ours", "the library's"])
def test_a_member_stays_what_it_is(of: dict[str, Any]) -> None:
    with pytest.raises(AttributeError, match="cannot reassign member 'RED'"):
        of["Colour"].RED = "blue"
    with pytest.raises(AttributeError):
        of["Colour"].RED.value = "blue"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_members_are_pickled_by_their_value(protocol: int) -> None:
    for member in (*Colour, *Number):
        assert pickle.loads(pickle.dumps(member, protocol)) is member


PUBLIC = [errors.InputProblem, errors.OutputProblem, messages.CommandField, messages.DataSet, messages.Priority,
          peer_profile.Relaxation, states.Action, states.Event, states.State, status.Category]  # fmt: skip


@pytest.mark.parametrize("public", PUBLIC, ids=lambda one: one.__name__)
def test_a_program_gets_those_of_the_library(public: Any) -> None:
    assert issubclass(public, enum.Enum)


def test_so_does_one_that_has_not_loaded_them() -> None:
    code = (
        f"import sys; sys.path = {sys.path!r}\n"
        "from dicomnet import errors, states\n"
        "import enum\n"
        "assert issubclass(states.State, enum.IntEnum) and issubclass(errors.InputProblem, enum.Enum)"
    )
    subprocess.run([sys.executable, "-S", "-c", code], check=True, timeout=60)


def test_our_own_program_has_others_with_the_same_members() -> None:
    code = (
        f"import sys; sys.path = {sys.path!r}\n"
        "import dicomnet.cli\n"
        "from dicomnet import errors, messages, peers, states, status\n"
        "assert 'enum' not in sys.modules\n"
        f"print([[repr(member) for member in one] for one in ({', '.join(map(_path, PUBLIC))})])"
    )
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert result.stdout.strip() == repr([[repr(member) for member in one] for one in PUBLIC])


def _path(public: Any) -> str:
    return f"{public.__module__.removeprefix('dicomnet.')}.{public.__name__}"


def test_results_are_remembered_up_to_so_many() -> None:
    asked: list[int] = []

    @values.cached(2)
    def double(number: int) -> int:
        """Twice as much."""
        asked.append(number)
        return 2 * number

    assert [double(number) for number in (1, 2, 1, 2, 3, 2, 1)] == [2, 4, 2, 4, 6, 4, 2]
    assert asked == [1, 2, 3, 1]
    assert double.__doc__ == "Twice as much."
