"""What the tests say to OHIF in a browser, and what they read from it. Each waits for a condition, none for a time."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from phantoms import Phantom, windowed

#: Milliseconds that a picture may take, drawn by software on a busy machine.
PATIENCE = 120_000

VIEW = "cornerstone.getRenderingEngines().flatMap(e => e.getViewports()).find(v => !id || v.id === id)"
PIXELS = "k.getContext('2d').getImageData(0, 0, k.width, k.height).data"
# `rendered` is said before the picture arrives: the image, or the whole volume, has to be the one that is wanted, and
# the canvas not black.
READY = f"""count => {{
  if (!window.cornerstone) return false;
  const views = cornerstone.getRenderingEngines().flatMap(e => e.getViewports());
  return views.length === count && views.every(v => {{
    if (v.viewportStatus !== 'rendered') return false;
    if (v.type === 'stack') {{
      if (v.getCornerstoneImage?.()?.imageId !== v.getCurrentImageId()) return false;
    }} else {{
      const ids = v.getAllVolumeIds();
      if (!ids.length || !ids.every(i => cornerstone.cache.getVolume(i)?.loadStatus?.loaded)) return false;
    }}
    const k = v.canvas, data = {PIXELS};
    for (let i = 0; i < data.length; i += 388) if (data[i] | data[i + 1] | data[i + 2]) return true;
    return false;
  }});
}}"""
GREY = f"""([id, points]) => {{
  const v = {VIEW}, k = v.canvas, ratio = k.width / k.clientWidth, data = {PIXELS};
  return points.map(point => {{
    const [x, y] = v.worldToCanvas(point).map(t => Math.round(t * ratio));
    return data[4 * (y * k.width + x)];
  }});
}}"""
COLOUR = GREY.replace(
    "return data[4 * (y * k.width + x)];", "return [0, 1, 2].map(i => data[4 * (y * k.width + x) + i]);"
)
# The pixels follow a drag by a frame or two: whether they are, on the average, as near to `wanted` as that.
NEAR = f"""([id, points, wanted, error]) => {{
  const grey = ({GREY})([id, points]);
  return grey.reduce((sum, value, n) => sum + Math.abs(value - wanted[n]), 0) < error * wanted.length;
}}"""
BRIGHT = f"""([id, level]) => {{
  const v = {VIEW}, k = v.canvas, data = {PIXELS};
  return data.some((value, at) => at % 4 === 0 && value > level);
}}"""
CANVAS = f"""id => {{
  const v = {VIEW}, k = v.canvas, data = {PIXELS};
  let text = '';
  for (let i = 0; i < data.length; i += 4) text += String.fromCharCode(Math.max(data[i], data[i + 1], data[i + 2]));
  return [btoa(text), k.width, k.height];
}}"""
GRID = """([rows, columns]) => commandsManager.run(
  { commandName: 'setViewportGridLayout', commandOptions: { numRows: rows, numCols: columns } })"""
SETS = "services.displaySetService.getActiveDisplaySets().length"
PLACES = "count => services.viewportGridService.getState().viewports.size === count"
# Each viewport of the grid gets the series with its number.
ASSIGN = """numbers => {
  const sets = services.displaySetService.getActiveDisplaySets();
  const views = [...services.viewportGridService.getState().viewports.keys()];
  commandsManager.run({ commandName: 'setDisplaySetsForViewports', commandOptions: { viewportsToUpdate:
    numbers.map((number, at) => ({ viewportId: views[at],
      displaySetInstanceUIDs: [sets.find(d => d.SeriesNumber == number).displaySetInstanceUID] })) } });
  return views;
}"""
ASSIGNED = """numbers => {
  const views = [...services.viewportGridService.getState().viewports.keys()];
  const all = cornerstone.getRenderingEngines().flatMap(e => e.getViewports());
  return numbers.every((number, at) => {
    const view = all.find(v => v.id === views[at]), id = view?.getCurrentImageId?.();
    return id && cornerstone.metaData.get('generalSeriesModule', id)?.seriesNumber == number;
  });
}"""
JUMP = "image => commandsManager.run({commandName: 'jumpToImage', commandOptions: {imageIndex: image}})"
AT_IMAGE = f"([id, image]) => ({VIEW}).getCurrentImageIdIndex() === image"
PROTOCOL_SHOWN = """([protocol, count]) =>
  services.hangingProtocolService.getActiveProtocol().protocol?.id === protocol &&
  cornerstone.getRenderingEngines().flatMap(e => e.getViewports()).length === count"""
RUN = f"""async ([id, name, options]) => {{
  const v = {VIEW};
  const event = cornerstone.EVENTS.IMAGE_RENDERED;
  const drawn = new Promise(done => v.element.addEventListener(event, done, {{ once: true }}));
  const result = await commandsManager.run({{ commandName: name, commandOptions: options }});
  await drawn;
  return result;
}}"""


class Viewer:
    """OHIF in a page: opens studies, gives commands, reads pixels."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url

    def open(self, phantom: Phantom) -> None:
        self.page.goto(f"{self.url}viewer/viewer?StudyInstanceUIDs={phantom.study}")
        self.ready(1)

    def ready(self, views: int) -> None:
        """Wait until so many viewports show what they are to show."""
        self.page.wait_for_function(READY, arg=views, timeout=PATIENCE)

    def scroll_to(self, image: int, phantom: Phantom) -> int:
        """Show an image of the stack; the number of the phantom's slice that it is."""
        self.page.evaluate(JUMP, image)
        self.page.wait_for_function(AT_IMAGE, arg=["", image])
        self.ready(1)
        plane = "cornerstone.metaData.get('imagePlaneModule', v.getCurrentImageId())"
        return phantom.index(2, self.value(f"{plane}.imagePositionPatient[2]"))

    def split(self, rows: int, columns: int, *series: int) -> list[str]:
        """Divide the page into stacks, and show series in them by their numbers; the viewports' names."""
        self.page.evaluate(GRID, [rows, columns])
        self.page.wait_for_function(PLACES, arg=rows * columns, timeout=PATIENCE)
        # What the viewer itself puts there has to have come: else it may come after what is assigned.
        self.ready(min(rows * columns, self.page.evaluate(SETS)))
        views: list[str] = self.page.evaluate(ASSIGN, list(series))
        self.page.wait_for_function(ASSIGNED, arg=list(series), timeout=PATIENCE)
        self.ready(rows * columns)
        return views

    def jump(self, image: int, view: str) -> None:
        """Make a viewport the active one, and show an image of its stack."""
        self.page.evaluate("id => services.viewportGridService.setActiveViewportId(id)", view)
        self.page.evaluate(JUMP, image)
        self.page.wait_for_function(AT_IMAGE, arg=[view, image], timeout=PATIENCE)

    def shown(self, phantom: Phantom, view: str = "") -> int:
        """The number of the phantom's slice that a stack shows."""
        plane = "cornerstone.metaData.get('imagePlaneModule', v.getCurrentImageId())"
        position = np.array(self.value(f"{plane}.imagePositionPatient", view))
        return round(float(position @ phantom.axes[2]) / phantom.slice + len(phantom.volume) / 2)

    def expect(self, phantom: Phantom, number: int, view: str = "", error: float = 6) -> None:
        """Wait until a stack shows a slice of the phantom, at points that tell it from its reflections."""
        indices = np.insert(telling_points(phantom.volume[number], 150), 0, number, axis=1)
        wanted = windowed(phantom.volume[tuple(indices.T)])
        self.wait_for_grey(phantom.world(indices), wanted, view, error)

    def wait_for_grey(self, points: np.ndarray, wanted: np.ndarray, view: str = "", error: float = 6) -> None:
        """Wait until a viewport has these grey levels at points of the patient, on the average."""
        arguments = [view, points.tolist(), wanted.tolist(), error]
        self.page.wait_for_function(NEAR, arg=arguments, timeout=PATIENCE)

    def window(self) -> tuple[float, float]:
        """The values that are black and white."""
        lower, upper = self.value("(range => [range.lower, range.upper])(v.getProperties().voiRange)")
        return lower, upper

    def drag(self, right: float, down: float) -> None:
        """Drag the mouse from the middle of the first viewport, by pixels."""
        box = self.page.locator(".viewport-element").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + right, y + down, steps=4)
        self.page.mouse.up()

    def layout(self, protocol: str, views: int) -> None:
        command = "id => commandsManager.run({commandName: 'setHangingProtocol', commandOptions: {protocolId: id}})"
        self.page.evaluate(command, protocol)
        self.page.wait_for_function(PROTOCOL_SHOWN, arg=[protocol, views], timeout=PATIENCE)
        self.ready(views)

    def run(self, name: str, view: str = "", **options: Any) -> Any:
        """Give a command, and wait for the picture that follows from it."""
        return self.page.evaluate(RUN, [view, name, options])

    def value(self, expression: str, view: str = "") -> Any:
        """What an expression of the viewport `v` is."""
        return self.page.evaluate(f"id => {{ const v = {VIEW}; return {expression}; }}", view)

    def grey(self, points: np.ndarray, view: str = "") -> np.ndarray:
        """Grey levels on the screen at points of the patient."""
        return np.array(self.page.evaluate(GREY, [view, points.tolist()]), float)

    def colour(self, points: np.ndarray, view: str = "") -> np.ndarray:
        """Red, green and blue on the screen at points of the patient."""
        return np.array(self.page.evaluate(COLOUR, [view, points.tolist()]), float)

    def canvas(self, view: str = "") -> np.ndarray:
        text, width, height = self.page.evaluate(CANVAS, view)
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width)


def telling_points(plane: np.ndarray, count: int, margin: int = 1) -> np.ndarray:
    """Points [row, column] of a plane of HU whose neighbourhood is even, two thirds of them changed by a reflection.

    Points at random do not see a patient that is mirrored: much is the same on both sides.
    """
    grey = windowed(plane)
    size = 2 * margin + 1
    even = np.zeros(grey.shape, bool)
    around = np.lib.stride_tricks.sliding_window_view(grey, (size, size))
    even[margin:-margin, margin:-margin] = np.ptp(around, (2, 3)) < 30
    rng = np.random.default_rng(7)
    points = []
    for mirrored in (None, grey[::-1], grey[:, ::-1]):
        telling = even if mirrored is None else even & (np.abs(grey - mirrored) > 60)
        found = np.argwhere(telling)
        assert mirrored is None or len(found) >= 10, "the phantom is the same in a mirror here"
        points.append(found[rng.permutation(len(found))[: count // 3]])
    return np.concatenate(points)


def likeness(seen: np.ndarray, wanted: np.ndarray) -> float:
    """How much of two silhouettes is in both (intersection over union), each stretched over its frame."""
    seen, wanted = silhouette(seen), silhouette(wanted)
    rows = np.arange(seen.shape[0]) * wanted.shape[0] // seen.shape[0]
    columns = np.arange(seen.shape[1]) * wanted.shape[1] // seen.shape[1]
    scaled = wanted[np.ix_(rows, columns)]
    return float((seen & scaled).sum() / (seen | scaled).sum())


def silhouette(picture: np.ndarray) -> np.ndarray:
    """The part of a picture that is not dark, cut out."""
    rows, columns = np.nonzero(picture)
    return picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
