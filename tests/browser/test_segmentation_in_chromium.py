"""A segmentation: drawn by the mouse, stored by STOW, right in the file, and read again by the viewer."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pages import COLOUR, PATIENCE

from dicomnet.client import WebClient

LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

CREATE = """() => commandsManager.run({ commandName: 'createLabelmapForViewport', commandOptions:
  { viewportId: services.viewportGridService.getActiveViewportId(), options: {} } })"""
CREATED = """count =>
  services.segmentationService.getSegmentations()[0]?.representationData.Labelmap?.imageIds?.length === count"""
RECTANGLE = "() => commandsManager.run({commandName: 'setToolActive', commandOptions: {toolName: 'RectangleScissor'}})"
STORE = """() => { commandsManager.run({ commandName: 'storeSegmentation', context: 'SEGMENTATION', commandOptions:
  { segmentationId: services.segmentationService.getSegmentations()[0].segmentationId } }); }"""
ON_PAGE = """(point => {
  const box = v.canvas.getBoundingClientRect(), at = v.worldToCanvas(point);
  return [box.left + at[0], box.top + at[1]];
})"""
# The height of each slice with a segment, and the numbers of its pixels.
SEGMENTED = """() => services.segmentationService.getSegmentations().flatMap(
  one => (one.representationData.Labelmap?.imageIds ?? []).map(id => {
    const image = cornerstone.cache.getImage(id), pixels = [];
    image?.getPixelData().forEach((value, at) => { if (value) pixels.push(at); });
    return pixels.length &&
      [cornerstone.metaData.get('imagePlaneModule', image.referencedImageId).imagePositionPatient[2], pixels];
  }).filter(Boolean))"""
COLOURED = f"place => ({COLOUR})(place).every(rgb => Math.max(...rgb) - Math.min(...rgb) > 25)"
HAS_SEGMENT = f"() => ({SEGMENTED})().length"


def test_it_is_stored_and_read_again(viewer, block):
    page, address = viewer.page, f"{viewer.url}viewer/segmentation?StudyInstanceUIDs={block.study}"
    page.goto(address)
    viewer.ready(1)
    number = viewer.scroll_to(9, block)
    wanted = np.zeros(block.volume.shape[1:], bool)
    wanted[5:12, 4:15] = True
    assert not (wanted & wanted[::-1]).any()
    assert not (wanted & wanted[:, ::-1]).any()

    page.evaluate(CREATE)
    page.wait_for_function(CREATED, arg=len(block.volume))
    page.evaluate(RECTANGLE)
    first, last = block.world(np.array([[number, 5, 4], [number, 11, 14]]))
    page.mouse.move(*viewer.value(f"{ON_PAGE}({first.tolist()})"))
    page.mouse.down()
    page.mouse.move(*viewer.value(f"{ON_PAGE}({last.tolist()})"), steps=5)
    page.mouse.up()
    page.wait_for_function(HAS_SEGMENT)
    assert segmented(page, block) == {number: wanted.nonzero()[0].size}

    page.evaluate(STORE)
    with page.expect_response(lambda response: response.request.method == "POST") as stored:
        page.get_by_role("button", name="Save", exact=True).click()
    assert stored.value.status == 200

    with WebClient(f"{viewer.url}dicomweb") as client:
        (found,) = client.search("SERIES", {"Modality": "SEG"}, study=block.study)
        series = found["0020000E"]["Value"][0]
        try:
            (content,) = client.retrieve(block.study, series)
            expect_file(pydicom.dcmread(io.BytesIO(content)), block, number, wanted)

            page.goto("about:blank")
            page.goto(address)
            viewer.ready(1)
            page.locator('[data-cy="study-browser-thumbnail-no-image"]').first.dblclick()
            page.wait_for_function(HAS_SEGMENT)
            ((height, pixels),) = page.evaluate(SEGMENTED)
            assert block.index(2, height) == number
            assert pixels == np.flatnonzero(wanted).tolist()
            page.get_by_role("button", name="Yes", exact=True).click()
            expect_colour(viewer, block, number, wanted)
        finally:
            client.delete(block.study, series)


def segmented(page, phantom) -> dict[int, int]:
    """Pixels of a segment by slice."""
    return {phantom.index(2, height): len(pixels) for height, pixels in page.evaluate(SEGMENTED)}


def expect_file(ds: pydicom.Dataset, phantom, number: int, wanted: np.ndarray) -> None:
    """The file has the segment in the slice and the pixels where it was drawn."""
    assert ds.SOPClassUID == LABEL_MAP_SEGMENTATION_STORAGE
    frames = ds.pixel_array.reshape(-1, *wanted.shape)
    heights = [
        float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in ds.PerFrameFunctionalGroupsSequence
    ]
    marked = {phantom.index(2, height): frame for height, frame in zip(heights, frames, strict=True) if frame.any()}
    assert list(marked) == [number]
    assert np.array_equal(marked[number] > 0, wanted)


def expect_colour(viewer, phantom, number: int, wanted: np.ndarray) -> None:
    """The segment has its colour on the screen, and what is as far from the other edges has none."""
    inside = np.argwhere(wanted)[10:60:5]
    first = phantom.world(np.insert(inside[:1], 0, number, axis=1)).tolist()
    viewer.page.wait_for_function(COLOURED, arg=["", first], timeout=PATIENCE)
    for mirror in ((1, 1), (-1, 1), (1, -1)):
        places = inside if mirror == (1, 1) else (np.array(wanted.shape) - 1) * (np.array(mirror) < 0) + inside * mirror
        seen = viewer.colour(phantom.world(np.insert(places, 0, number, axis=1)))
        coloured = np.ptp(seen, axis=1) > 25
        assert coloured.all() if mirror == (1, 1) else not coloured.any(), (mirror, seen)
