"""Several series side by side: layouts, reference lines, synchronised scrolling, and cine."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pages import VIEW
from PIL import Image

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

COMMAND = "([name, options]) => commandsManager.run({commandName: name, commandOptions: options})"
# Where a point of the patient is on the page, and where the viewport begins.
ON_PAGE = """v => {
  const box = v.canvas.getBoundingClientRect(), at = v.worldToCanvas(%s);
  return [box.left + at[0], box.top + at[1], box.top];
}"""
# A line of reference is drawn where it is expected, by its height in the viewport.
LINE = f"""([id, height]) => [...({VIEW}).element.querySelectorAll('svg line')].some(
  line => ['y1', 'y2'].every(name => Math.abs(line.getAttribute(name) - height) < 1.5))"""
PLAYED = f"""id => {{
  window.played = new Set();
  ({VIEW}).element.addEventListener(
    cornerstone.EVENTS.STACK_NEW_IMAGE, event => played.add(event.detail.imageIdIndex));
}}"""
PAUSED = "() => !Object.values(services.cineService.getState().cines).some(one => one.isPlaying)"


def test_each_place_of_a_layout_shows_its_series(viewer, planes):
    viewer.open(planes[0])
    views = viewer.split(2, 2, 1, 2, 3, 1)
    assert len(set(views)) == 4
    for view, number in zip(views, (1, 2, 3, 1), strict=True):
        phantom = planes[number - 1]
        viewer.jump(len(phantom.volume) // 3, view)
        viewer.expect(phantom, viewer.shown(phantom, view), view)


def test_reference_lines_are_where_the_planes_cut(viewer, planes):
    """The axial slice as a line in the sagittal one: at its height, and not at the height mirrored."""
    viewer.open(planes[0])
    axial, sagittal = viewer.split(1, 2, 1, 2)
    page = viewer.page
    page.evaluate(COMMAND, ["setToolEnabled", {"toolName": "ReferenceLines"}])
    page.evaluate(COMMAND, ["setViewportForToolConfiguration", {"toolName": "ReferenceLines", "viewportId": axial}])
    for image in (3, 14):
        viewer.jump(image, axial)
        height = float(planes[0].world(np.array([[viewer.shown(planes[0], axial), 0, 0]]))[0][2])
        assert abs(height) > planes[0].slice, "the middle is where its mirror image is"
        x = viewer.value("v.getCamera().focalPoint[0]", sagittal)
        left, top, start = viewer.value(f"({ON_PAGE % [x, 0, height]})(v)", sagittal)
        mirrored = viewer.value(f"({ON_PAGE % [x, 0, -height]})(v)", sagittal)[1]
        page.wait_for_function(LINE, arg=[sagittal, top - start])
        picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
        assert is_green(picture, left, top)
        assert not is_green(picture, left, mirrored)


def is_green(picture: np.ndarray, column: float, row: float) -> bool:
    """Whether a green line crosses the place."""
    around = picture[round(row) - 2 : round(row) + 3, round(column) - 30 : round(column) + 30]
    return bool((around[..., 1] - np.maximum(around[..., 0], around[..., 2]) > 60).any())


def test_scrolling_one_series_scrolls_the_other_to_the_same_place(viewer, planes):
    viewer.open(planes[0])
    thick, thin = viewer.split(1, 2, 1, 3)
    viewer.page.evaluate(COMMAND, ["toggleSynchronizer", {"type": "imageSlice"}])
    for image in (4, 13):
        viewer.jump(image, thick)
        number = viewer.shown(planes[0], thick)
        viewer.expect(planes[0], number, thick)
        viewer.expect(planes[2], 2 * number, thin)  # slices half as thick, from the same height on


def test_cine_plays_and_stops(viewer, planes):
    viewer.open(planes[0])
    (view,) = viewer.split(1, 1, 1)
    page = viewer.page
    page.evaluate(COMMAND, ["toggleCine", {}])
    page.evaluate(PLAYED, view)
    button = page.locator('[data-cy="cine-player-play-pause"]').first
    button.click()
    page.wait_for_function("count => played.size === count", arg=len(planes[0].volume))  # every slice, by itself
    button.click()
    page.wait_for_function(PAUSED)
    viewer.ready(1)
    viewer.jump(len(planes[0].volume) // 3, view)  # it may stop at a slice that is its own mirror image
    viewer.expect(planes[0], viewer.shown(planes[0], view), view)
