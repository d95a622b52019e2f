"""OHIF over our archive, by the pixels on the screen."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pages import BRIGHT, NEAR, likeness, telling_points
from phantoms import CENTER, WIDTH, windowed

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

# Each slice's position and a sum that depends on the place of each value.
DECODED = """async () => {
  const set = services.displaySetService.getActiveDisplaySets().find(d => d.Modality === 'CT');
  const sums = [];
  for (const id of set.imageIds ?? set.images.map(i => i.imageId)) {
    const image = await cornerstone.imageLoader.loadAndCacheImage(id);
    const position = cornerstone.metaData.get('imagePlaneModule', id).imagePositionPatient;
    let sum = 0, weight = 1;
    for (const value of image.getPixelData()) { sum += value * weight; weight = (weight % 251) + 1; }
    sums.push([position[2], sum]);
  }
  return sums;
}"""


def test_the_list_of_studies_finds_and_opens(viewer, chest, block):
    page = viewer.page
    page.goto(viewer.url)  # the archive's own start page leads to the viewer
    row = page.get_by_text("Phantom, Chest").or_(page.get_by_text("Phantom^Chest")).first
    row.wait_for()
    assert page.get_by_text(re.compile(r"Phantom.+Block")).count() >= 1
    page.locator("input").first.fill("chest")  # the first filter is the patient's name
    page.get_by_text(re.compile(r"Phantom.+Block")).first.wait_for(state="detached")
    assert row.is_visible()


def test_decoded_pixels_are_the_stored_ones(viewer, chest):
    viewer.open(chest)
    weights = np.arange(chest.volume[0].size) % 251 + 1
    sums = viewer.page.evaluate(DECODED)
    assert len(sums) == len(chest.volume)
    for position, total in sums:
        plane = chest.volume[chest.index(2, position)]
        assert total == int((plane.ravel() * weights).sum())


def test_below_a_path_of_its_own(viewer, chest):
    viewer.url += "hospital/pacs/"
    viewer.page.goto(viewer.url)
    viewer.page.get_by_text(re.compile(r"Phantom.+Chest")).first.wait_for()
    viewer.open(chest)
    assert viewer.page.evaluate(DECODED)


def test_a_stack_has_the_right_grey_and_no_mirror(viewer, chest):
    viewer.open(chest)
    number = viewer.scroll_to(14, chest)
    indices = np.insert(telling_points(chest.volume[number], 150), 0, number, axis=1)
    wanted = windowed(chest.volume[tuple(indices.T)])
    assert np.abs(viewer.grey(chest.world(indices)) - wanted).mean() < 6


def test_window_and_level_by_the_mouse(viewer, chest):
    viewer.open(chest)
    number = viewer.scroll_to(14, chest)
    lower, upper = viewer.window()
    assert (lower, upper) == pytest.approx((CENTER - WIDTH / 2, CENTER + WIDTH / 2 - 1), abs=1.5)
    viewer.drag(40, 30)
    new_lower, new_upper = viewer.window()
    assert new_upper - new_lower > upper - lower
    assert new_lower + new_upper > lower + upper
    indices = np.insert(telling_points(chest.volume[number], 150), 0, number, axis=1)
    wanted = windowed(chest.volume[tuple(indices.T)], (new_lower + new_upper + 1) / 2, new_upper - new_lower + 1)
    viewer.page.wait_for_function(NEAR, arg=["", chest.world(indices).tolist(), wanted.tolist(), 6])


def test_mpr_equals_numpy_and_a_slab_has_true_millimetres(viewer, chest):
    viewer.open(chest)
    viewer.layout("mpr", 3)
    for view, axis in (("mpr-sagittal", 0), ("mpr-coronal", 1)):
        number = chest.index(axis, viewer.value("v.getCamera().focalPoint", view)[axis])
        plane = np.take(chest.volume, number, 2 - axis)
        indices = np.insert(telling_points(plane, 150), 2 - axis, number, axis=1)
        wanted = windowed(chest.volume[tuple(indices.T)])
        assert np.abs(viewer.grey(chest.world(indices), view) - wanted).mean() < 5

    viewer.run("dicomnetSlab", "mpr-coronal", viewportId="mpr-coronal", thickness=60)
    middle = viewer.value("v.getCamera().focalPoint", "mpr-coronal")[1] / chest.pixel + chest.volume.shape[1] / 2
    half = 30 / chest.pixel
    slab = chest.volume[:, int(np.ceil(middle - half)) : int(np.floor(middle + half)) + 1].max(1)
    points = telling_points(slab, 150, margin=2)
    indices = np.insert(points, 1, round(middle), axis=1)
    error = np.abs(viewer.grey(chest.world(indices), "mpr-coronal") - windowed(slab[tuple(points.T)]))
    assert error.mean() < 12


@pytest.mark.parametrize("by", ["browser", "server"])
def test_a_surface_has_the_outline_of_the_bone(viewer, block, by):
    viewer.open(block)
    viewer.layout("mpr", 3)
    viewer.layout("only3D", 1)
    result = viewer.run("dicomnetSurface", level=300, color=[230, 200, 160], by=by)
    assert result["triangles"] > 1000
    assert result["by"] == by
    viewer.page.wait_for_function(BRIGHT, arg=["", 120])
    expect_bone(viewer.canvas() > 20, block, 0.85)


def test_a_volume_is_rendered_from_in_front(viewer, block):
    viewer.open(block)
    viewer.layout("mpr", 3)
    viewer.layout("only3D", 1)
    viewer.run("setViewportPreset", viewportId=viewer.value("v.id"), preset="CT-Bones")
    viewer.page.wait_for_function(BRIGHT, arg=["", 200])
    expect_bone(viewer.canvas() > 100, block, 0.9)


def expect_bone(seen: np.ndarray, block, least: float) -> None:
    """What is seen is the bone from the front, head up, the patient's right on the left; and no reflection of it."""
    wanted = (block.volume > 300).any(1)[::-1]
    assert likeness(seen, wanted) > least
    assert max(likeness(seen, wanted[::-1]), likeness(seen, wanted[:, ::-1])) < least - 0.15
