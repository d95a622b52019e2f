"""The version of dicomnet, for those below the package's root who tell it to others."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
