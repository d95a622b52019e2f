"""The steps of web-ui/build_viewer.py, on a small package in place of OHIF's."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "web-ui" / "build_viewer.py"
SPEC = importlib.util.spec_from_file_location("build_viewer", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)

FILES = {
    "app.bundle.0123.js": (
        '/*! zlib 1.2 (c) its authors */\n// ../../node_modules/@scope/one/index.js\n__webpack_require__.p = "/"'
    ),
    "12.bundle.ab.js": "/** @license MIT two */ // node_modules/two/lib/x.js",
    "app.bundle.css": "a{background:url(/images/a.png)}",
    "index.html": "theirs",
    "app-config.js": "theirs",
    "sw.js": "service worker",
    "ort/ort.min.js": "onnx",
    "assets/favicon.ico": "icon",
    "assets/apple-touch-icon.png": "icon",
    "12.bundle.ab.js.map": "map",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "package"
    for name, text in FILES.items():
        path = root / "dist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "LICENSE").write_text("MIT License, Copyright OHIF")
    return root


def test_a_file_with_another_hash_ends_the_build(tmp_path):
    archive = tmp_path / "ohif.tgz"
    archive.write_bytes(b"content")
    good = "sha512-" + base64.b64encode(hashlib.sha512(b"content").digest()).decode()
    build.check_integrity(archive, good)
    archive.write_bytes(b"other content")
    with pytest.raises(SystemExit, match=r"ohif\.tgz is not the file"):
        build.check_integrity(archive, good)


def test_what_is_kept(package, tmp_path):
    kept = build.trim(package / "dist", tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in kept}
    assert names == {"app.bundle.0123.js", "12.bundle.ab.js", "app.bundle.css", "assets/favicon.ico"}


def test_a_patch_that_meets_other_files_than_expected_ends_the_build(package):
    folder = package / "dist"
    build.apply(build.Patch("*.css", "url(/", "url(", 1), folder)
    assert (folder / "app.bundle.css").read_text() == "a{background:url(images/a.png)}"
    with pytest.raises(SystemExit, match="is in 0 files, not in 1"):
        build.apply(build.Patch("*.css", "url(/", "url(", 1), folder)
    with pytest.raises(SystemExit, match="is in 1 files, not in 8"):
        build.apply(build.PATCHES[0], folder)


def test_notices_name_packages_and_carry_every_comment(package, tmp_path):
    text = build.third_party(package, build.trim(package / "dist", tmp_path / "out"), "@ohif/app", "9.9")
    assert "@ohif/app 9.9" in text
    assert "MIT License, Copyright OHIF" in text
    assert "- @scope/one\n- two\n" in text
    assert "/*! zlib 1.2 (c) its authors */" in text
    assert "/** @license MIT two */" in text


def test_ours_takes_the_name_of_the_application(tmp_path):
    build.add_ours(build.SOURCES, tmp_path / "out", "app.bundle.0123.js")
    assert "@BASE@app.bundle.0123.js" in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / "ext" / "dicomnet.js").read_bytes() == (
        build.SOURCES / "ext" / "dicomnet.js"
    ).read_bytes()


def test_text_is_kept_compressed_but_for_templates(package, tmp_path):
    out = tmp_path / "out"
    build.trim(package / "dist", out)
    build.add_ours(build.SOURCES, out, "app.bundle.0123.js")
    build.compress(out)
    assert gzip.decompress((out / "12.bundle.ab.js.gz").read_bytes()).decode() == FILES["12.bundle.ab.js"]
    assert not (out / "12.bundle.ab.js").exists()
    for name in ("index.html", "boot.js", "app-config.js", "assets/favicon.ico"):
        assert (out / name).is_file()
