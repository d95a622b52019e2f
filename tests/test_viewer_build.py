"""The steps of web-ui/build_viewer.py, on a small package in place of OHIF's."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

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


def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    """Licences of packages, in place of those of OHIF's."""
    path = tmp_path / "licences.json"
    names = {name.replace("_", "@scope/", 1) if name[0] == "_" else name: text for name, text in texts.items()}
    found = {name: {"versions": ["1.0"], "licence": "MIT", "texts": [text]} for name, text in names.items()}
    path.write_text(json.dumps(found))
    monkeypatch.setattr(build, "LICENCES", path)


def test_notices_name_packages_and_carry_every_text_and_comment(package, tmp_path, monkeypatch):
    known(tmp_path, monkeypatch, _one="Do with it what you want.", two="Do with it what you want.", three="Ask me.")
    text = build.third_party(package, build.trim(package / "dist", tmp_path / "out"), "@ohif/app", "9.9")
    assert "@ohif/app 9.9" in text
    assert "MIT License, Copyright OHIF" in text
    assert "- @scope/one 1.0: MIT\n- two 1.0: MIT\n" in text
    assert "@scope/one, two:\n\nDo with it what you want.\n" in text
    assert "three:\n\nAsk me.\n" in text
    assert "/*! zlib 1.2 (c) its authors */" in text
    assert "/** @license MIT two */" in text


@pytest.mark.parametrize("texts", [{"_one": "Do."}, {"_one": "Do.", "two": ""}])
def test_a_package_without_a_text_ends_the_build(package, tmp_path, monkeypatch, texts):
    known(tmp_path, monkeypatch, **texts)
    with pytest.raises(SystemExit, match="no licence of two"):
        build.third_party(package, build.trim(package / "dist", tmp_path / "out"), "@ohif/app", "9.9")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("../node_modules/two/lib/x.js", "two"),
        ("node_modules/@scope/one/index.js", "@scope/one"),
        ("/node_modules/gulp-browserify/node_modules/process/browser.js", "process"),
        ("node_modules/@scope/one/node_modules/@other/two", "@other/two"),
    ],
)
def test_a_package_is_named_by_the_innermost_folder(tmp_path, path, name):
    script = tmp_path / "a.js"
    script.write_text(f"// {path}\n")
    assert build.named([script]) == {name}


def test_what_is_under_the_agpl_is_cut_out(tmp_path):
    script, style = tmp_path / "app.bundle.0123.js", tmp_path / "app.bundle.css"
    script.write_text(
        "before();\n;// CONCATENATED MODULE: ../../../node_modules/shepherd.js/dist/js/shepherd.mjs\n"
        "function shepherd_t(){}\n//# sourceMappingURL=shepherd.mjs.map\n"
        ";// CONCATENATED MODULE: ../../../node_modules/shepherd.js/dist/css/shepherd.css\nnew shepherd_fe.Tour();\n"
    )
    style.write_text(".a{color:red}.shepherd-text p{margin:0}.b{color:blue}")
    build.cut_out(tmp_path)
    assert "function shepherd_t" not in script.read_text()
    assert script.read_text().startswith("before();\nconst shepherd_fe = {")
    assert script.read_text().endswith("new shepherd_fe.Tour();\n")
    assert build.named([script]) == set()
    assert style.read_text() == ".a{color:red}.b{color:blue}"
    with pytest.raises(SystemExit, match="look at what this version changed"):
        build.cut_out(tmp_path)


@pytest.fixture
def found() -> dict[str, Any]:
    return dict(json.loads(build.LICENCES.read_text(encoding="utf-8")))


class TestLicences:
    """What is committed of the pinned build."""

    def test_each_has_a_text_and_asks_for_no_source(self, found):
        assert len(found) > 300
        for name, one in found.items():
            assert one["texts"], name
            assert all(len(text) > 100 for text in one["texts"]), name
            assert "GPL" not in one["licence"], name

    def test_packages_that_the_build_does_not_name_are_in_it(self, found):
        assert {"scheduler", "@remix-run/router", "@cornerstonejs/codec-charls", "OpenJPEG"} <= set(found)

    def test_the_installed_viewer_repeats_every_text(self, found):
        viewer = pytest.importorskip("dicomnet_viewer")
        notices = (Path(viewer.__file__).parent / "assets" / "THIRD-PARTY.txt").read_text(encoding="utf-8")
        for name, one in found.items():
            assert f"- {' '.join((name, *one['versions']))}: {one['licence']}\n" in notices
            assert all(text in notices for text in one["texts"]), name


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
