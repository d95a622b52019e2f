"""Fixtures for pytest, which finds them by itself where dicomnet is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from .provider import Provider

__all__ = ["dicom_provider", "make_dicom_provider"]


@pytest.fixture
def make_dicom_provider() -> Iterator[Callable[..., Provider]]:
    """Start providers that behave as they are told: ``make_dicom_provider(status=0xA700)``; they end with the test."""
    with ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> Provider:
            provider = Provider(*arguments, **options)
            stack.enter_context(provider)
            return provider

        yield make


@pytest.fixture
def dicom_provider(make_dicom_provider: Callable[..., Provider]) -> Provider:
    """A provider that takes everything; its ``peer`` says how to call it, its ``received`` what it got."""
    return make_dicom_provider()
