"""The commands of the program, each the ``command`` of the module of its name, loaded when it is asked for."""

from __future__ import annotations

from .declare import Command, Group

__all__ = ["NAMES", "load"]

# In the order of `dicomnet --help`.
NAMES = (
    "echo", "store", "find", "get", "move", "retrieve", "recv", "plan", "peers", "mpps", "commit", "dump", "doctor",
    "conform", "bench", "cert", "demo",
)  # fmt: skip


def load(name: str) -> Command | Group | None:
    """The command of this name; None where there is none."""
    if name not in NAMES:
        return None
    from importlib import import_module

    command: Command | Group = import_module(f".{name}", __package__).command
    return command
