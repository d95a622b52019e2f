"""The kinds of columns that tables of an index, of work and of a router have, alike in SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, Text
from sqlalchemy.types import TypeEngine

__all__ = ["BIG", "TEXT", "seconds", "text"]

# Compared byte by byte, as UIDs are and as folded names have to be: PostgreSQL would ask the locale.
TEXT: TypeEngine[str] = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite counts up rows in a column of this type alone.
BIG: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


def text(name: str, default: str = "") -> Column[str]:
    """Text that is never NULL."""
    return Column(name, TEXT, nullable=False, server_default=default)


def seconds(name: str) -> Column[float]:
    """Seconds since 1970, never NULL."""
    return Column(name, Float, nullable=False, server_default="0")
