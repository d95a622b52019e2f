"""A PDF in the viewer: what is asked for is what was stored."""

from __future__ import annotations

import archives
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from dicomnet.archive.archive import Archive
from dicomnet.archive.web import web_application
from dicomnet.client import WebClient
from dicomnet.web.serving import WebServing
from dicomnet.web.viewer import viewer_app

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

STUDY = "1.2.826.0.1.3680043.8.498.79"
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


def report() -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = STUDY, f"{STUDY}.1", f"{STUDY}.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientID, ds.PatientName, ds.StudyDate, ds.Modality = "D", "Document", "20260101", "DOC"
    ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription = 1, 1, "Report"
    ds.MIMETypeOfEncapsulatedDocument, ds.DocumentTitle = "application/pdf", "Report"
    ds.EncapsulatedDocument = PDF + b"\n" * (len(PDF) % 2)
    return ds


def test_a_pdf_is_fetched_as_one(browser, tmp_path):
    report().save_as(tmp_path / "report.dcm", enforce_file_format=True)
    archive = Archive(tmp_path / "archive", archives.make(tmp_path / "archive"))
    app = web_application(archive.holdings, archive.storage, viewer=viewer_app("../dicomweb"))
    with archive, WebServing(app, "127.0.0.1", 0) as serving:
        with WebClient(f"{serving.url}dicomweb") as client:
            assert all(one.ok for one in client.store(tmp_path / "report.dcm"))
        page = browser.new_page()
        try:
            page.goto(f"{serving.url}viewer/viewer?StudyInstanceUIDs={STUDY}")
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
