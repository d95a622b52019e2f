"""Every transfer syntax and kind of colour, decoded in the browser as numpy has it."""

from __future__ import annotations

import base64
from typing import Any

import archives
import numpy as np
import peers
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

import dicomnet as dn
from dicomnet.archive.archive import Archive
from dicomnet.archive.web import web_application
from dicomnet.web.serving import WebServing
from dicomnet.web.viewer import viewer_app

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

STUDY = "1.2.826.0.1.3680043.8.498.78"
LARGEST = 1 << 20  # bytes of a file
#: Differences that decoders of lossy pictures may have, and what the conversion of colours rounds.
ERROR = 3.0

#: What the viewer decodes otherwise, by transfer syntax, kind of pixels and bits, and why (docs/server/viewer.md).
KNOWN = {
    ("JPEG Baseline (Process 1)", "RGB", 8): "its decoder takes three components for YCbCr where no marker says RGB",
    ("RLE Lossless", "RGB", 16): "colour has eight bits",
    ("Explicit VR Little Endian", "YBR_FULL_422", 8): "subsampled colour that is not compressed is not taken apart",
}

LOADED = """async wanted => {
  const sets = services.displaySetService.getActiveDisplaySets();
  if (sets.length < wanted) return null;
  const found = {};
  for (const set of sets) {
    const id = (set.imageIds ?? set.images.map(i => i.imageId))[0];
    try {
      const image = await cornerstone.imageLoader.loadImage(id);
      const bytes = new Uint8Array(Float32Array.from(image.getPixelData()).buffer);
      let text = '';
      for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
      found[set.SeriesDescription] = [image.rows, image.columns, btoa(text)];
    } catch (error) { found[set.SeriesDescription] = [0, 0, String(error.message ?? error)]; }
  }
  return found;
}"""


def chosen() -> dict[str, pydicom.Dataset]:
    """A sample of each transfer syntax and kind of pixels, all of one study, each a series of its own."""
    found: dict[tuple[object, ...], pydicom.Dataset] = {}
    for path in peers.sample_files():
        if path.stat().st_size > LARGEST or "mismatch" in path.name:  # whose header contradicts its pixels
            continue
        ds = pydicom.dcmread(path, force=True)
        if "PixelData" not in ds or "TransferSyntaxUID" not in ds.get("file_meta", {}):
            continue
        key = ds.file_meta.TransferSyntaxUID, ds.PhotometricInterpretation, ds.BitsAllocated, ds.PixelRepresentation
        if key in found or ds.BitsAllocated not in (8, 16):
            continue
        try:
            ds.pixel_array  # noqa: B018 what pydicom cannot decode is nothing to compare with
        except Exception:
            continue
        found[key] = ds
    named = {}
    for number, ds in enumerate(found.values(), 1):
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = STUDY, f"{STUDY}.{number}", f"{STUDY}.{number}.1"
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PatientID, ds.PatientName, ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "S", "Syntax", "OT", number, 1
        name = f"{number} {ds.file_meta.TransferSyntaxUID.name[:30]} {ds.PhotometricInterpretation}"
        ds.SeriesDescription = name[:64]
        named[ds.SeriesDescription] = ds
    return named


def wanted(ds: Any) -> np.ndarray:
    """The first frame as numpy has it: grey after the modality LUT, colour as RGB."""
    pixels = ds.pixel_array
    if int(ds.get("NumberOfFrames") or 1) > 1:
        pixels = pixels[0]
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        pixels = pydicom.pixels.apply_color_lut(pixels, ds)
        pixels = pixels >> 8 if pixels.dtype.itemsize > 1 else pixels
    if ds.get("SamplesPerPixel", 1) == 1 and ds.PhotometricInterpretation != "PALETTE COLOR":
        return pixels.astype(float) * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
    return pixels.astype(float)


def test_each_is_decoded_as_numpy_has_it(browser, tmp_path):
    samples = chosen()
    assert len(samples) >= 22
    paths = []
    for number, ds in enumerate(samples.values()):
        paths.append(tmp_path / f"{number}.dcm")
        ds.save_as(paths[-1])
    archive = Archive(tmp_path / "archive", archives.make(tmp_path / "archive"))
    app = web_application(archive.holdings, archive.storage, viewer=viewer_app("../dicomweb"))
    with archive, WebServing(app, "127.0.0.1", 0) as serving:
        with dn.client.StoreScu(f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}") as scu:
            assert all(result.ok for result in scu.send(*paths))
        page = browser.new_page()
        page.goto(f"{serving.url}viewer/viewer?StudyInstanceUIDs={STUDY}")
        count = len(samples)
        page.wait_for_function("n => window.services?.displaySetService?.getActiveDisplaySets().length >= n", arg=count)
        found = page.evaluate(LOADED, count)
        page.close()
    wrong = {name: why for name in samples if (why := difference(samples[name], found.get(name)))}
    unknown = {name: why for name, why in wrong.items() if kind_of(samples[name]) not in KNOWN}
    assert unknown == {}
    assert len(samples) - len(wrong) >= 22


def difference(ds: Any, found: list[Any] | None) -> str:
    """What is wrong with what the browser decoded; empty: nothing."""
    if found is None:
        return "no display set"
    rows, columns, text = found
    if not rows:
        return str(text)
    got = np.frombuffer(base64.b64decode(text), "<f4")
    expected = wanted(ds)
    parts = got.size // (rows * columns)
    got = got.reshape(rows, columns, parts)[..., :3].squeeze()
    if got.shape != expected.shape:
        return f"{got.shape} instead of {expected.shape}"
    error = float(np.abs(got - expected).max() if expected.ndim == 2 else np.abs(got - expected).mean())
    # The browser has floats of 32 bits where there is a slope.
    most = float(np.abs(expected).max()) * 1e-6 if is_exact(ds) else ERROR
    return "" if error <= most else f"differs by {error:.1f}"


def kind_of(ds: Any) -> tuple[str, str, int]:
    return ds.file_meta.TransferSyntaxUID.name, ds.PhotometricInterpretation, ds.BitsAllocated


def is_exact(ds: Any) -> bool:
    lossy = ("Baseline", "Extended", "Near", "JPEG 2000 Image Compression")
    name = ds.file_meta.TransferSyntaxUID.name
    return not (name.startswith("JPEG") and any(one in name for one in lossy) and "Lossless" not in name)
