"""The words of annotations: those of ``typing`` where it is loaded, else words that can be evaluated all the same."""

from __future__ import annotations

import collections.abc
import functools
import subprocess
import sys
import types
import typing

from dicomnet import _typing

EVALUATE_ALL = """
import dicomnet as dn
from dicomnet import _typing, errors
from dicomnet.files import instance_source
from dicomnet.protocol import exchange
assert "typing" not in sys.modules
public = [getattr(dn, name) for name in dn.__all__ if name not in ("aio", "client")]
import typing
assert _typing.Any is not typing.Any
functions = [
    member
    for value in public
    for member in (value, *(vars(value).values() if isinstance(value, type) else ()))
    if callable(member) and hasattr(member, "__annotations__")
]
for function in functions:
    typing.get_type_hints(function)
print(len(functions) > 100)
"""


def test_they_are_those_of_typing_where_it_is_loaded() -> None:
    homes = (collections.abc, collections, functools, types, typing)  # typing has its own names for what is in others
    for name in _typing.__all__:
        assert getattr(_typing, name) is next(getattr(home, name) for home in homes if hasattr(home, name))


def test_annotations_can_be_evaluated_where_it_was_not() -> None:
    code = f"import sys; sys.path = {sys.path!r}\n{EVALUATE_ALL}"
    # Without site, which loads what the environment wants.
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("True\n", "")
