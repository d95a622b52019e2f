"""Keys of queries as people type them: ``-k Keyword=value``, a tag instead, a path into a sequence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click

from ..dataset.codec import private_tag
from ..errors import InvalidArgument
from .options import Decorator

__all__ = ["attribute_option", "key_option", "parse_keys"]

_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?").fullmatch
_INDEX = re.compile(r"\[0?\]")


def parse_keys(texts: Iterable[str]) -> dict[str, Any]:
    """Values by keyword; ``Sequence.Keyword=value`` is a key in the one item of a sequence, as DCMTK's ``[0]`` is.

    A private key goes by its tag, with that of its creator beside it: ``7777,0010=ACME``, ``7777,1037=SRC*``.

    Raises:
        InvalidArgument: one cannot be read.
    """
    keys: dict[str, Any] = {}
    for text in texts:
        path, _, value = text.partition("=")
        *sequences, last = [_keyword(part, text) for part in _INDEX.sub("", path).split(".")]
        item = keys
        for sequence in sequences:
            item = item.setdefault(sequence, [{}])[0]
        item[last] = value or None
    return keys


def _keyword(part: str, text: str) -> str:
    if private_tag(part.strip()) is not None:
        return part.strip().strip("()").upper()
    tag = _TAG(part.strip())
    if tag is None:
        if not part.strip().isalnum():
            raise InvalidArgument(f'"{text}" is not a key', hint='Write it like "PatientName=DOE*" or "0010,0010=D*".')
        return part.strip()
    from pydicom.datadict import keyword_for_tag

    keyword: str = keyword_for_tag(int(tag[1] + tag[2], 16))
    if not keyword:
        raise InvalidArgument(f'"{text}": there is no such attribute in the standard')
    return keyword


#: The option -k of what is asked for, which may be given many times.
key_option: Decorator = click.option(
    "-k", "--key", "keys", multiple=True, metavar="KEY[=VALUE]", help="PatientName=DOE*; without a value: returned."
)
#: The option -k of what is said, which may be given many times.
attribute_option: Decorator = click.option(
    "-k", "--key", "keys", multiple=True, metavar="KEY=VALUE", help="An attribute: PatientName=DOE^JANE. Repeat it."
)
