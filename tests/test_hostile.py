"""Commands against crafted archives and hostile providers: a sample; `make hostile` tries thousands."""

from __future__ import annotations

import pytest
from fuzz import hostile


def test_s13_crafted_archives_end_in_a_documented_exit_code() -> None:
    assert set(hostile.archives(150, seed=1)) <= hostile.CODES


def test_point_5_hostile_providers_end_in_a_documented_exit_code() -> None:
    assert set(hostile.providers(24, seed=1)) <= hostile.CODES


@pytest.mark.long
@pytest.mark.deadline(600)
def test_point_5_crafted_archives_by_the_thousand() -> None:
    assert hostile.archives(13_000, seed=1_000_000).total() == 13_000


@pytest.mark.long
@pytest.mark.deadline(900)
def test_point_5_hostile_providers_by_the_hundred() -> None:
    assert hostile.providers(1_000, seed=1_000_000).total() == 1_000
