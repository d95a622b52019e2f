"""What `dicomnet store` is to send: paths become instances, and instances lots that one association can carry."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..config import DESCRIBE_BUFFER
from ..errors import InputFileError, InputProblem
from ..files.instance_source import Source, open_source
from ..protocol.negotiation import ProposedContext
from ..services import presentation_contexts

__all__ = ["Item", "Lot", "files_in", "gather", "name_of"]

# Small files are read once, when they are looked over, and held until they are sent: how small, and how much in all.
HELD_FILE = 64 << 10
HELD_BYTES = 64 << 20

Item = str | Source


class Lot:
    """What one association carries.

    Attributes:
        contexts: what it proposes, at most 128.
        items: what is to be sent, each with its context; taken from the left.
        instances, size: how many items there were at the start, and the bytes of their data sets.
    """

    def __init__(self, contexts: list[ProposedContext], items: deque[tuple[Item, ProposedContext]], size: int) -> None:
        self.contexts = contexts
        self.items = items
        self.instances = len(items)
        self.size = size


def name_of(item: object) -> str:
    """How people know an item."""
    return str(getattr(item, "name", item))


def files_in(paths: Iterable[str], recurse: bool, refuse: Callable[[InputFileError], None]) -> Iterator[str]:
    """The files that paths mean: themselves, and the files of directories, in the order of their names.

    Args:
        paths: as they were given.
        recurse: also those of the directories in directories.
        refuse: gets what cannot be read.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _walk(path, recurse, refuse)
        else:
            yield path


def _walk(directory: str, recurse: bool, refuse: Callable[[InputFileError], None]) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        refuse(
            InputFileError(
                f"cannot be read: {error.strerror}",
                problem=InputProblem.CANNOT_READ,
                path=error.filename,
                errno=error.errno,
            )
        )

    for parent, directories, names in os.walk(directory, onerror=unreadable):
        prefix = os.path.join(parent, "")
        for name in sorted(names):
            yield prefix + name
        directories.sort()
        if not recurse:
            break


def gather(files: Iterable[str], refuse: Callable[[InputFileError], None]) -> list[Lot]:
    """Look every file over, and sort them into lots.

    Each pair of SOP class and transfer syntax wants a presentation context of its own, since the acceptor chooses one
    transfer syntax per context; past 128 of them another association is needed (PS3.8 Section 9.3.2).

    Args:
        files: their paths.
        refuse: gets those that cannot be sent.
    """
    pairs: dict[tuple[str, str], list[Item]] = {}
    sizes: dict[tuple[str, str], int] = {}
    free = HELD_BYTES
    buffer = bytearray(DESCRIBE_BUFFER)
    small = False
    for path in files:
        # Files of one directory are much alike: how long this one is need not be asked.
        whole = small and free > 0
        try:
            source = open_source(path, buffer=None if whole else buffer)
        except InputFileError as error:
            refuse(error)
            continue
        source.close()
        small = source.size <= HELD_FILE
        held = small and whole
        free -= source.size if held else 0
        pair = source.sop_class_uid, source.transfer_syntax_uid
        pairs.setdefault(pair, []).append(source if held else path)
        sizes[pair] = sizes.get(pair, 0) + source.size
    return [
        _lot(contexts, pairs, sizes)
        for contexts in presentation_contexts.split(presentation_contexts.for_instances(pairs))
    ]


def _lot(
    contexts: list[ProposedContext], pairs: dict[tuple[str, str], list[Item]], sizes: dict[tuple[str, str], int]
) -> Lot:
    own = {(context.abstract_syntax, context.transfer_syntaxes[0]): context for context in contexts}
    items = deque((item, context) for pair, context in own.items() for item in pairs[pair])
    return Lot(contexts, items, sum(sizes[pair] for pair in own))
