"""What a router acknowledges arrives at every destination, whatever is killed meanwhile (goal G18)."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import router_soak

SLOWEST_START = 20.0  # seconds, on a machine at work


@pytest.mark.long
@pytest.mark.deadline(1200)
def test_kills_of_router_and_destinations_lose_nothing(tmp_path):
    kills = int(os.environ.get("DICOMNET_ROUTER_KILLS", "50"))
    outcome = router_soak.soak(kills, tmp_path, seed=int(time.time()), say=False, slowest=SLOWEST_START)
    assert outcome.good, outcome
    assert outcome.kills >= kills
    assert outcome.acknowledged > kills


@pytest.mark.deadline(120)
@pytest.mark.long
def test_a_few_kills_lose_nothing(tmp_path):
    outcome = router_soak.soak(3, tmp_path, seed=1, say=False, slowest=SLOWEST_START)
    assert outcome.good, outcome
    assert outcome.acknowledged
