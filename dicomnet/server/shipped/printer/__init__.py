"""The add-in `printer`: a printer of films, which come out as PDF and PNG (PS3.4 Annex H)."""

from .addin import Printer

__all__ = ["Printer"]
