"""Many cases in one test: what would otherwise be thousands of tests, each of which costs more than its case."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest

WITH_ID = type(pytest.param())
MOST_SHOWN = 20  # of the cases that fail; the others are counted


class TooLate(pytest.fail.Exception):
    """A test is past its deadline: what comes after in it has none."""


def every(names: str, cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `pytest.mark.parametrize`, in one test that goes on after a case that fails, and names each of those.

    The test's fixtures are made once for all cases.

    Args:
        names: the parameters that a case gives, separated by commas; of one, the case is the value.
        cases: the values, or `pytest.param` for some that have a name.
    """
    listed, parameters = list(cases), names.replace(" ", "").split(",")
    assert listed, f"no case gives {names}"

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        def test(*args: Any, **fixtures: Any) -> None:
            failed: list[str] = []
            for number, case in enumerate(listed, 1):
                name, values = repr(case), [case] if len(parameters) == 1 else case
                if isinstance(case, WITH_ID):
                    name, values = str(case.id), case.values
                try:
                    check(*args, **fixtures, **dict(zip(parameters, values, strict=True)))
                except TooLate as error:
                    failed.insert(0, f"{name}: {error}; {len(listed) - number} cases were not run")
                    break
                except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:  # none may leave others out
                    failed.append(f"{name}: {type(error).__name__}: {error}")
            if failed:
                pytest.fail("\n".join([f"{len(failed)} of {len(listed)} cases:", *failed[:MOST_SHOWN]]), pytrace=False)

        signature = inspect.signature(check)
        kept = [one for one in signature.parameters.values() if one.name not in parameters]
        assert len(kept) == len(signature.parameters) - len(parameters), f"{check.__name__} does not take {names}"
        test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
        test.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        test.pytestmark = getattr(check, "pytestmark", [])  # type: ignore[attr-defined]
        return test

    return decorate
