"""Planes that are turned by their lines: oblique once, then twice."""

from __future__ import annotations

import numpy as np
import pytest
from pages import telling_points
from phantoms import windowed

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

CROSSHAIRS = """commandsManager.run(
  { commandName: 'setToolActive', commandOptions: { toolName: 'Crosshairs', toolGroupId: 'mpr' } })"""
LINES_DRAWN = "() => document.querySelectorAll('.viewport-element svg line').length >= 12"
# The handles that turn a line, on the page; they are there while the mouse is near the line.
HANDLES = """([view, colour]) => {
  const svg = document.querySelectorAll('.viewport-element')[view].querySelector('svg');
  const box = svg.getBoundingClientRect();
  const found = [...svg.querySelectorAll('circle[r="3"]')].filter(one => one.getAttribute('stroke') === colour);
  const place = one => [box.left + +one.getAttribute('cx'), box.top + +one.getAttribute('cy')];
  return found.length === 2 && found.map(place);
}"""
LINE = """([view, colour]) => {
  const svg = document.querySelectorAll('.viewport-element')[view].querySelector('svg');
  const box = svg.getBoundingClientRect();
  const line = [...svg.querySelectorAll('line')].find(one => one.getAttribute('stroke') === colour);
  return ['x1', 'y1', 'x2', 'y2'].map((name, at) => [box.left, box.top][at % 2] + +line.getAttribute(name));
}"""
SAGITTAL, CORONAL = "rgb(200, 200, 0)", "rgb(0, 200, 0)"


ACTIVATE = """view => {
  const grid = services.viewportGridService;
  grid.setActiveViewportId([...grid.getState().viewports.keys()][view]);
}"""


def turn(viewer, view: int, colour: str, degrees: float) -> None:
    """Turn a line of a viewport by its upper handle, clockwise on the page."""
    page = viewer.page
    page.evaluate(ACTIVATE, view)  # a first drag would only do that
    x1, y1, x2, y2 = page.evaluate(LINE, [view, colour])
    page.mouse.move((x1 + x2) / 2 + 15, (y1 + y2) / 2 + 15)
    page.mouse.move((x1 + x2) / 2, (y1 + y2) / 2, steps=8)
    handles = np.array(page.wait_for_function(HANDLES, arg=[view, colour]).json_value())
    centre, upper = handles.mean(0), handles[handles[:, 1].argmin()]
    page.mouse.move(*upper)
    page.mouse.down()
    for angle in np.radians(np.linspace(degrees / 6, degrees, 6)):
        turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        page.mouse.move(*(centre + turned @ (upper - centre)))
    page.mouse.up()


def normal(viewer, view: str) -> np.ndarray:
    return np.array(viewer.value("v.getCamera().viewPlaneNormal", view))


def wait_for_normal(viewer, view: str, wanted: list[float]) -> None:
    condition = (
        "([id, wanted]) => cornerstone.getRenderingEngines().flatMap(e => e.getViewports()).find(v => v.id === id)"
        ".getCamera().viewPlaneNormal.every((value, at) => Math.abs(value - wanted[at]) < 0.04)"
    )
    viewer.page.wait_for_function(condition, arg=[view, wanted])


def expect_plane(viewer, phantom, view: str) -> None:
    """What a viewport shows is the volume in the plane of its camera, not a reflection of it."""
    up, out, middle = (
        np.array(viewer.value(f"v.getCamera().{name}", view)) for name in ("viewUp", "viewPlaneNormal", "focalPoint")
    )
    right = np.cross(up, out)
    rows, columns = np.mgrid[-30:31, -40:41] * phantom.pixel
    points = middle - rows[..., None] * up + columns[..., None] * right
    plane = phantom.at(points.reshape(-1, 3)).reshape(rows.shape)
    chosen = telling_points(plane, 150, margin=2)
    wanted = windowed(plane[tuple(chosen.T)])
    viewer.wait_for_grey(points[tuple(chosen.T)], wanted, view, 8)


def test_oblique_once_and_twice(viewer, chest):
    viewer.page.set_viewport_size({"width": 1200, "height": 500})
    viewer.open(chest)
    viewer.layout("mpr", 3)
    viewer.page.evaluate(CROSSHAIRS)
    viewer.page.wait_for_function(LINES_DRAWN)

    # In the axial plane: the top of the sagittal line goes to the patient's left, which is right on the page.
    turn(viewer, 0, SAGITTAL, 30)
    wait_for_normal(viewer, "mpr-sagittal", [np.cos(np.pi / 6), np.sin(np.pi / 6), 0])
    wait_for_normal(viewer, "mpr-coronal", [np.sin(np.pi / 6), -np.cos(np.pi / 6), 0])
    for view in ("mpr-sagittal", "mpr-coronal"):
        expect_plane(viewer, chest, view)

    # In the plane that was the sagittal one: the coronal line leans, and takes the axial plane along.
    turn(viewer, 1, CORONAL, 20)
    lean, out = np.sin(np.radians(20)), np.cos(np.radians(20))
    wait_for_normal(viewer, "mpr-coronal", [out * np.sin(np.pi / 6), -out * np.cos(np.pi / 6), lean])
    wait_for_normal(viewer, "mpr-axial", [lean * np.sin(np.pi / 6), -lean * np.cos(np.pi / 6), -out])
    for view in ("mpr-coronal", "mpr-axial"):
        expect_plane(viewer, chest, view)
