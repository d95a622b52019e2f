"""Documents and videos in the viewer: a PDF as it was stored, and a video that plays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import archives
import numpy as np
import peers
import pytest
from pages import COLOUR, PATIENCE
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41, EncapsulatedPDFStorage, ExplicitVRLittleEndian, VideoEndoscopicImageStorage

from dicomnet.archive.archive import Archive
from dicomnet.archive.web import web_application
from dicomnet.client import WebClient
from dicomnet.web.serving import WebServing
from dicomnet.web.viewer import viewer_app

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

WIDTH, HEIGHT, FRAMES, RATE = 64, 48, 30, 10
STUDY = "1.2.826.0.1.3680043.8.498.79"
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


# The first frame: white above on the left alone, green below on the left.
FILM_SHOWN = f"""() => {{
  const views = window.cornerstone?.getRenderingEngines().flatMap(e => e.getViewports()) ?? [];
  if (!views.some(v => v.type === 'video')) return false;
  const [white, right, low, green] = ({COLOUR})(['', [[10, 10, 0], [50, 10, 0], [50, 44, 0], [2, 36, 0]]]);
  return Math.min(...white) > 200 && Math.max(...right, ...low) < 50 && green[1] > 150 && green[0] < 80;
}}"""
BAR_ON_THE_RIGHT = f"""() => {{
  const row = [...Array({WIDTH}).keys()].map(x => [x, 36, 0]);
  const green = ({COLOUR})(['', row]).map(([red, level]) => level > 100 && red < 80);
  const [white] = ({COLOUR})(['', [[10, 10, 0]]]);
  return Math.min(...white) > 200 && green.indexOf(true) > {WIDTH} / 2;
}}"""


def report() -> Dataset:
    ds = described(EncapsulatedPDFStorage, ExplicitVRLittleEndian, f"{STUDY}.1")
    ds.Modality, ds.SeriesDescription = "DOC", "Report"
    ds.MIMETypeOfEncapsulatedDocument, ds.DocumentTitle = "application/pdf", "Report"
    ds.EncapsulatedDocument = PDF + b"\n" * (len(PDF) % 2)
    return ds


def described(sop_class: str, syntax: str, study: str) -> Any:
    """What every instance says of itself."""
    ds: Any = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, f"{study}.1", f"{study}.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientID, ds.PatientName, ds.StudyDate, ds.SeriesNumber, ds.InstanceNumber = "D", "Document", "20260101", 1, 1
    return ds


@pytest.fixture
def archive(tmp_path) -> Iterator[str]:
    """The address of an archive that holds the PDF and the video."""
    report().save_as(tmp_path / "report.dcm", enforce_file_format=True)
    video(tmp_path / "film.mp4").save_as(tmp_path / "video.dcm", enforce_file_format=True)
    archive = Archive(tmp_path / "archive", archives.make(tmp_path / "archive"))
    app = web_application(archive.holdings, archive.storage, viewer=viewer_app("../dicomweb"))
    with archive, WebServing(app, "127.0.0.1", 0) as serving:
        with WebClient(f"{serving.url}dicomweb") as client:
            assert all(one.ok for one in client.store(tmp_path / "report.dcm", tmp_path / "video.dcm"))
        yield serving.url


def video(path: Path) -> Dataset:
    """Three seconds of H.264: the upper left quarter is white, and a green bar moves from left to right below."""
    av = peers.peer_module("av")
    with av.open(str(path), "w", options={"movflags": "faststart"}) as film:
        stream = film.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            picture[: HEIGHT // 2, : WIDTH // 2] = 255
            picture[HEIGHT * 5 // 8 : HEIGHT * 7 // 8, 2 * number : 2 * number + 4] = (0, 255, 0)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode())
    content = path.read_bytes()
    ds = described(VideoEndoscopicImageStorage, MPEG4HP41, f"{STUDY}.2")
    ds.Modality, ds.SeriesDescription = "ES", "Endoscopy"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PlanarConfiguration = HEIGHT, WIDTH, 3, 0
    ds.PhotometricInterpretation, ds.PixelRepresentation = "YBR_PARTIAL_420", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.NumberOfFrames, ds.CineRate, ds.FrameTime = FRAMES, RATE, str(1000 / RATE)
    ds.PixelData = encapsulate([content + b"\0" * (len(content) % 2)], has_bot=False)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return ds


def test_a_video_plays(browser, archive):
    page = browser.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    try:
        page.goto(f"{archive}viewer/viewer?StudyInstanceUIDs={STUDY}.2")
        page.wait_for_function(FILM_SHOWN, timeout=PATIENCE)
        page.evaluate("commandsManager.run({ commandName: 'toggleCine', commandOptions: {} })")
        page.locator('[data-cy="cine-player-play-pause"]').first.click()
        # The bar comes to the right half, while the white quarter stays where it is.
        page.wait_for_function(BAR_ON_THE_RIGHT, timeout=PATIENCE)
    finally:
        page.close()
    assert errors == []


def test_a_pdf_is_fetched_as_one(browser, archive):
    page = browser.new_page()
    try:
        page.goto(f"{archive}viewer/viewer?StudyInstanceUIDs={STUDY}.1")
        shown = page.locator("object[type='application/pdf']")
        shown.wait_for(state="attached")
        address = shown.get_attribute("data")
        fetched = page.evaluate(
            "async url => { const a = await fetch(url, {headers: {Accept: 'text/html,*/*;q=0.8'}});"
            " return [a.headers.get('content-type'), (await a.text())]; }", address
        )  # fmt: skip
    finally:
        page.close()
    assert fetched[0] == "application/pdf"
    assert fetched[1].encode().startswith(PDF)
