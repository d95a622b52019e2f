"""The kinds of columns that tables of an index, of work and of a router have, alike in SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, Text

__all__ = ["BIG", "TEXT", "seconds", "text"]

# Compared byte by byte, as UIDs are and as folded names have to be: PostgreSQL would ask the locale.
TEXT = Text().with_variant(Text(collation="C"), "postgresql")
BIG = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up rows in a column of this type alone


def text(name: str, default: str = "") -> Column[str]:
    """Text that is never NULL."""
    return Column(name, TEXT, nullable=False, server_default=default)


def seconds(name: str) -> Column[float]:
    """Seconds since 1970, never NULL."""
    return Column(name, Float, nullable=False, server_default="0")
