"""The viewer over HTTP: what is filled in, what is compressed, what is not there. Browsers: tests/browser/."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from dicomnet.web import viewer
from dicomnet.web.viewer import viewer_app

SOURCES = Path(__file__).parent.parent / "web-ui" / "viewer"
SCRIPT = b"console.log('application')\n" * 100
MAIN, WORKER, MODULE = "app.bundle.0f6159c501addfe9.js", "8097.bundle.8ae6404ba94890a0.js", "5130ccb17e3f3f5b.wasm"
COMPRESSED = {
    MAIN: SCRIPT,
    WORKER: b"worker",
    MODULE: b"\0asm",
    "app.bundle.css": b"a{}",
    "ext/dicomnet.js": b"export{}",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A package's files: our own templates, and the kinds of files that OHIF has."""
    root = tmp_path / "assets"
    for name in ("ext", "assets"):
        (root / name).mkdir(parents=True)
    for name in viewer.TEMPLATES:
        (root / name).write_bytes((SOURCES / name).read_bytes())
    for name, content in COMPRESSED.items():
        (root / f"{name}.gz").write_bytes(gzip.compress(content))
    (root / "assets" / "favicon.ico").write_bytes(b"icon")
    (tmp_path / "secret.js").write_text("not the viewer's")
    (root / "link.js").symlink_to(tmp_path / "secret.js")
    return root


def client(files: Path | None, dicomweb: str = "../dicomweb", root_path: str = "") -> TestClient:
    app = Starlette(routes=[Mount("/viewer", viewer_app(dicomweb, files))])
    return TestClient(app, base_url="http://archive", root_path=root_path)


def configuration(text: str) -> dict[str, str]:
    return dict(re.findall(r"(routerBasename|qidoRoot|wadoRoot): '([^']*)'", text))


def test_the_page_and_the_configuration_name_where_they_are(files):
    with client(files) as web:
        page = web.get("/viewer/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert '<script src="/viewer/app-config.js">' in page.text
        assert "@" not in page.text
        config = web.get("/viewer/app-config.js")
        assert config.headers["content-type"] == "text/javascript; charset=utf-8"
        root = {"qidoRoot": "/dicomweb", "wadoRoot": "/dicomweb"}
        assert configuration(config.text) == {"routerBasename": "/viewer/", **root}
        assert "window.PUBLIC_URL = '/viewer/';" in web.get("/viewer/boot.js").text


def test_behind_a_proxy_with_a_path_of_its_own(files):
    with client(files, root_path="/hospital/pacs") as web:
        assert '<script src="/hospital/pacs/viewer/boot.js">' in web.get("/hospital/pacs/viewer/").text
        root = "/hospital/pacs/dicomweb"
        assert configuration(web.get("/hospital/pacs/viewer/app-config.js").text) == {
            "routerBasename": "/hospital/pacs/viewer/",
            "qidoRoot": root,
            "wadoRoot": root,
        }


def test_below_another_application(files):
    inner = Starlette(routes=[Mount("/viewer", viewer_app("../dicomweb", files))])
    with TestClient(Starlette(routes=[Mount("/hospital/pacs", inner)])) as web:
        config = configuration(web.get("/hospital/pacs/viewer/app-config.js").text)
        assert (config["routerBasename"], config["qidoRoot"]) == ("/hospital/pacs/viewer/", "/hospital/pacs/dicomweb")


def test_a_prefix_is_believed_of_a_proxy_alone(files):
    app = Starlette(routes=[Mount("/viewer", viewer_app("../dicomweb", files))])

    async def behind_a_proxy(scope, receive, send):
        await app(scope | {"dicomnet.proxied": True}, receive, send)

    for served, path in ((app, ""), (behind_a_proxy, "/pacs")):
        with TestClient(served) as web:
            text = web.get("/viewer/app-config.js", headers={"X-Forwarded-Prefix": "/pacs/"}).text
            config = configuration(text)
            assert (config["routerBasename"], config["qidoRoot"]) == (f"{path}/viewer/", f"{path}/dicomweb")


@pytest.mark.parametrize("root_path", ["//elsewhere.example", "/'+alert(1)+'", '/"><script>', "/</script>"])
def test_no_prefix_leaves_its_string_or_this_host(files, root_path):
    with client(files, root_path=root_path) as web:
        for name in ("", "boot.js", "app-config.js"):
            text = web.get(f"/viewer/{name}").text
            assert "//elsewhere" not in text
            assert "alert(1)+'" not in text
            assert "<script>" not in text
            assert text.count("</script>") == (4 if not name else 0)


def test_services_on_another_host_are_in_the_policy(files):
    with client(files, "https://dicom.example:8443/dicomweb") as web:
        assert configuration(web.get("/viewer/app-config.js").text)["qidoRoot"] == "https://dicom.example:8443/dicomweb"
        policy = web.get("/viewer/").headers["content-security-policy"]
        assert "connect-src 'self' blob: data: https://dicom.example:8443;" in policy


@pytest.mark.parametrize("path", ["viewer?StudyInstanceUIDs=1.2", "tmtv", "assets", "local/deep/down", "."])
def test_addresses_of_the_viewer_get_its_page(files, path):
    with client(files) as web:
        assert "<title>dicomnet viewer</title>" in web.get(f"/viewer/{path}").text


@pytest.mark.parametrize(
    "path",
    [
        "absent.js", "app.bundle.css.gz", "link.js", "..%2fsecret.js", "..%2f..%2fetc%2fpasswd", "%2e%2e/secret.js",
        "ext/..%2f..%2fsecret.js", "..%5csecret.js", "%2fetc%2fhosts.conf", "a" * 5000 + ".js", "nul%00.js",
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_in_the_package_is_not_found(files, path):
    with client(files) as web:
        answer = web.get(f"/viewer/{path}")
        assert answer.status_code == 404
        assert "not the viewer's" not in answer.text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (MAIN, "text/javascript; charset=utf-8"),
        (MODULE, "application/wasm"),
        ("app.bundle.css", "text/css; charset=utf-8"),
        ("ext/dicomnet.js", "text/javascript; charset=utf-8"),
        ("assets/favicon.ico", "image/x-icon"),
    ],
)
def test_media_types(files, name, kind):
    with client(files) as web:
        answer = web.get(f"/viewer/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == kind
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("accepted", ["gzip, deflate, br", "gzip;q=0.1", "*", "br, GZIP"])
def test_compressed_as_it_is_kept(files, accepted):
    with client(files) as web, web.stream("GET", f"/viewer/{MAIN}", headers={"Accept-Encoding": accepted}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert b"".join(answer.iter_raw()) == (files / f"{MAIN}.gz").read_bytes()


@pytest.mark.parametrize("accepted", ["identity", "", "gzip;q=0", "gzip; q=0.000", "br", "*;q=0", "gzip;q=0, *"])
def test_decompressed_for_a_client_that_does_not_take_it(files, accepted):
    with client(files) as web:
        answer = web.get(f"/viewer/{MAIN}", headers={"Accept-Encoding": accepted})
        assert "content-encoding" not in answer.headers
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.content == SCRIPT


def test_what_a_browser_keeps(files):
    with client(files) as web:
        first = web.get(f"/viewer/{MAIN}")
        for name in (MAIN, "", "app-config.js", "boot.js", "app.bundle.css", "ext/dicomnet.js"):
            assert web.get(f"/viewer/{name}").headers["cache-control"] == viewer.REVALIDATED
        again = web.get(f"/viewer/{MAIN}", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_functions_from_text_are_for_workers_only(files):
    with client(files) as web:
        for name in ("", MAIN, "app-config.js", "ext/dicomnet.js"):
            policy = web.get(f"/viewer/{name}").headers["content-security-policy"]
            assert "script-src 'self' 'wasm-unsafe-eval';" in policy
        assert "'unsafe-eval'" in web.get(f"/viewer/{WORKER}").headers["content-security-policy"]


def test_nothing_is_written(files):
    with client(files) as web:
        assert web.post("/viewer/boot.js").status_code == 405
        assert web.head(f"/viewer/{MAIN}").status_code == 200


def test_without_the_package_a_page_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(viewer, "package", None)
    with client(None) as web:
        for path in ("/viewer/", "/viewer/viewer", "/viewer/app-config.js"):
            answer = web.get(path)
            assert answer.status_code == 404
            assert "make viewer" in answer.text
            assert "pip install web-ui/dist/dicomnet_viewer-*.whl" in answer.text
            assert "make viewer" in answer.text


def test_a_package_that_was_not_built_counts_as_none(tmp_path, monkeypatch):
    package = ModuleType("dicomnet_viewer")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setattr(viewer, "package", package)
    assert viewer.viewer_files() is None
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "index.html").touch()
    assert viewer.viewer_files() == tmp_path / "assets"


def test_the_pinned_version_is_the_packages():
    pinned = json.loads((SOURCES.parent / "package.json").read_text(encoding="utf-8"))["viewer"]["version"]
    project = (SOURCES.parent / "viewer-package" / "pyproject.toml").read_text(encoding="utf-8")
    module = (SOURCES.parent / "viewer-package" / "dicomnet_viewer" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)
    assert version is not None
    assert version[1].startswith(pinned + ".")
    assert f'__version__ = "{version[1]}"' in module
