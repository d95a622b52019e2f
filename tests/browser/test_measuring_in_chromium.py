"""Measurements by the mouse have the values of the phantom: lengths in millimetres, means in HU."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest

from dicomnet.client import WebClient

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

ACTIVE = """name => {
  commandsManager.run({ commandName: 'setToolActive', commandOptions: { toolName: name, toolGroupIds: ['default'] } });
  return cornerstoneTools.ToolGroupManager.getToolGroup('default').getActivePrimaryMouseButtonTool();
}"""
CANVAS_AT = """point => {
  const v = cornerstone.getRenderingEngines().flatMap(e => e.getViewports())[0];
  const box = v.canvas.getBoundingClientRect(), at = v.worldToCanvas(point);
  return [box.left + at[0], box.top + at[1]];
}"""
# The values follow the mouse by a frame or two: they are those of the whole drag once its end is where the mouse was.
MEASURED = """([name, last, near]) => {
  const all = cornerstoneTools.annotation.state.getAllAnnotations().filter(a => a.metadata.toolName === name);
  const one = all.at(-1), end = one?.data?.handles?.points?.[1];
  if (!end || one.invalidated || Math.hypot(...end.map((t, i) => t - last[i])) > near) return null;
  const stats = Object.values(one.data.cachedStats ?? {})[0];
  return stats && (stats.length ?? stats.mean) != null ? stats : null;
}"""

STORE = """async () => {
  const data = services.measurementService.getMeasurements();
  await commandsManager.runCommand('storeMeasurements',
    { measurementData: data, dataSource: 'dicomweb', additionalFindingTypes: [],
      options: { SeriesDescription: 'Measured' } },
    'CORNERSTONE_STRUCTURED_REPORT');
  return data.length;
}"""
# What the viewer measures after a report was read, with points in the patient's coordinates.
HYDRATED = """() => {
  const [one] = services.measurementService.getMeasurements();
  const drawn = one && cornerstoneTools.annotation.state.getAnnotation(one.uid);
  const stats = Object.values(drawn?.data.cachedStats ?? {})[0];
  return stats?.length != null && { length: stats.length, points: drawn.data.handles.points.map(p => [...p]) };
}"""


def drawn(viewer, tool: str, first: np.ndarray, last: np.ndarray, near: float) -> dict:
    """Draw with a tool from one point of the patient to another; what it measured."""
    page = viewer.page
    assert page.evaluate(ACTIVE, tool) == tool
    (x, y), (a, b) = (page.evaluate(CANVAS_AT, point.tolist()) for point in (first, last))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(a, b, steps=5)
    page.mouse.move(a, b)
    page.mouse.up()
    return page.wait_for_function(MEASURED, arg=[tool, last.tolist(), near]).json_value()


def test_a_length_and_a_region(viewer, chest):
    viewer.open(chest)
    number = viewer.scroll_to(14, chest)
    rows, columns = chest.volume.shape[1:]
    first, last = chest.world(np.array([[number, rows // 2, columns // 4], [number, rows // 2, columns * 3 // 4]]))
    found = drawn(viewer, "Length", first, last, 1.5 * chest.pixel)
    assert found["length"] == pytest.approx(np.linalg.norm(last - first), abs=2 * chest.pixel)
    assert found["unit"] == "mm"

    plane = chest.volume[number]
    size = 4  # pixels around a place that is even
    even = np.argwhere(np.ptp(np.lib.stride_tricks.sliding_window_view(plane, (2 * size + 1,) * 2), (2, 3)) == 0) + size
    inside = [place for place in even if plane[tuple(place)] > 0]
    row, column = inside[len(inside) // 2]
    centre, edge = chest.world(np.array([[number, row, column], [number, row, column + size - 1]]))
    found = drawn(viewer, "CircleROI", centre, edge, 1.5 * chest.pixel)
    assert found["mean"] == pytest.approx(plane[row, column], abs=0.5)
    assert found["stdDev"] == pytest.approx(0, abs=0.5)
    assert found["area"] == pytest.approx(np.pi * ((size - 1) * chest.pixel) ** 2, rel=0.35)


def numbers_of(item: pydicom.Dataset) -> list[float]:
    """The numeric values of a structured report, wherever they stand in its tree."""
    own = [float(one.NumericValue) for one in item.get("MeasuredValueSequence") or []]
    return own + [value for one in item.get("ContentSequence") or [] for value in numbers_of(one)]


def test_a_report_is_stored_and_read_again(viewer, chest):
    viewer.open(chest)
    number = viewer.scroll_to(14, chest)
    rows, columns = chest.volume.shape[1:]
    first, last = chest.world(np.array([[number, rows // 3, columns // 4], [number, rows // 2, columns * 5 // 8]]))
    length = drawn(viewer, "Length", first, last, 1.5 * chest.pixel)["length"]
    with WebClient(f"{viewer.url}dicomweb") as client:
        assert viewer.page.evaluate(STORE) == 1
        (found,) = client.search("SERIES", {"Modality": "SR"}, study=chest.study)
        series = found["0020000E"]["Value"][0]
        try:
            (content,) = client.retrieve(chest.study, series)
            values = numbers_of(pydicom.dcmread(io.BytesIO(content)))
            assert any(value == pytest.approx(length, abs=0.01) for value in values)
            viewer.page.goto("about:blank")
            viewer.open(chest)
            expect_measurement_of_report(viewer.page, length, (first, last), 1.5 * chest.pixel)
        finally:
            client.delete(chest.study, series)


def expect_measurement_of_report(page, length: float, ends: tuple[np.ndarray, np.ndarray], near: float) -> None:
    """Open the report: its length becomes a measurement of the viewer, where it was and as long as it was."""
    page.locator('[data-cy="study-browser-thumbnail-no-image"]').first.dblclick()
    page.get_by_role("button", name="Yes", exact=True).click()
    found = page.wait_for_function(HYDRATED).json_value()
    assert found["length"] == pytest.approx(length, abs=0.01)
    for point, end in zip(found["points"], ends, strict=True):
        assert np.linalg.norm(np.array(point) - end) < near
