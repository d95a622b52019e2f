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
    # Not importlib: with what it loads it would be half a millisecond.
    command: Command | Group = __import__(f"{__package__}.{name}", fromlist=["command"]).command
    return command
