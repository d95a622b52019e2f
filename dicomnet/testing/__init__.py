"""For tests of code that speaks DICOM: a provider in a thread that behaves as it is told, badly included."""

from .provider import Provider, Received

__all__ = ["Provider", "Received"]
