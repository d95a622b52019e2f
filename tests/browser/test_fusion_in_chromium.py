"""PET over CT: the hot spot has its colour where it is, the CT shows through, and uptake is in standardised units."""

from __future__ import annotations

import numpy as np
import pytest
from pages import telling_points
from phantoms import windowed

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

FUSION = "() => window.services?.hangingProtocolService?.getActiveProtocol?.().protocol?.id.includes('ptCT')"
UPTAKE = "cornerstone.cache.getVolume(v.getAllVolumeIds()[0]).voxelManager.getAtIJK({2}, {1}, {0})"
#: The share of the CT in the picture, and of the PET's colour.
CT_SHARE = 0.75


def standardised(uptake: float) -> float:
    """The standardised uptake value by body weight, g/ml, for what the phantom says of its tracer."""
    decayed = 370e6 * 2 ** (-3600 / 6586.2)
    return uptake * 70_000 / decayed


def test_uptake_is_over_the_tissue_that_has_it(viewer, fused):
    ct, pet = fused
    viewer.page.goto(f"{viewer.url}viewer/tmtv?StudyInstanceUIDs={ct.study}")
    viewer.page.wait_for_function(FUSION)
    viewer.ready(10)

    view = "fusionCoronal"
    number = ct.index(1, viewer.value("v.getCamera().focalPoint", view)[1])
    tissue, uptake = np.take(ct.volume, number, 1), np.take(pet.volume, number, 1)
    hot = uptake > 30000
    assert hot.any()
    assert not (hot & (hot[::-1] | hot[:, ::-1])).any(), "the spot has to be elsewhere in a mirror"
    even = np.zeros(hot.shape, bool)
    even[1:-1, 1:-1] = np.ptp(np.lib.stride_tricks.sliding_window_view(uptake, (3, 3)), (2, 3)) == 0
    for spot in (hot, hot[::-1], hot[:, ::-1], hot[::-1, ::-1]):
        places = np.argwhere(spot & even)
        seen = viewer.colour(ct.world(np.insert(places, 1, number, axis=1)), view)
        # Red where it is hot, and where it is not a magenta as faint as the air's.
        violet = seen[:, 2] - seen[:, 1]
        assert (np.median(violet) < 12) == (spot is hot), (violet, spot is hot)

    chosen = telling_points(tissue, 90)
    seen = viewer.colour(ct.world(np.insert(chosen, 1, number, axis=1)), view)[:, 1]
    assert np.abs(seen - CT_SHARE * windowed(tissue[tuple(chosen.T)])).mean() < 12

    for place in (np.argwhere(pet.volume > 30000)[0], np.argwhere(pet.volume == 2000)[0]):
        value = viewer.value(UPTAKE.format(*place), "ptCORONAL")
        assert value == pytest.approx(standardised(pet.volume[tuple(place)]), rel=0.01)
