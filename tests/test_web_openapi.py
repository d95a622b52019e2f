"""The web services against their own OpenAPI description, by schemathesis: no 500, and nothing that it does not say."""

from __future__ import annotations

import re

import httpx
import peers
import pydicom
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from web_archives import served

from dicomnet.web.application import application
from dicomnet.web.login import needed_role
from dicomnet.web.openapi import OPERATIONS, description


@schemathesis.serializer("multipart/related", "application/dicom")
def as_bytes(_, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


CHECKS = (not_a_server_error, checks.status_code_conformance, checks.content_type_conformance)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    path = next(path for path in peers.sample_files() if path.name == "CT_small.dcm")
    with served(tmp_path_factory.mktemp("openapi") / "archive", path) as (_, url):
        yield url, pydicom.dcmread(path, stop_before_pixels=True)


def _keep(operation, known):
    @settings(
        max_examples=20, suppress_health_check=list(HealthCheck), deadline=None, database=None,
        phases=[Phase.generate],
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def keep(case):
        case.path_parameters |= {name: known[name] for name in case.path_parameters if name in known}
        case.call_and_validate(checks=CHECKS)

    keep()


@pytest.mark.long
@pytest.mark.deadline(300)
def test_every_operation_keeps_its_description(web):
    url, image = web
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    # Paths lead to what there is, so that more than 404 is tried.
    there = {"study": image.StudyInstanceUID, "series": image.SeriesInstanceUID, "instance": image.SOPInstanceUID}
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        method = operation.method.upper()
        _keep(operation, there if method != "DELETE" else {})
        tried.add((method, operation.path))
    assert tried == {(one.method, one.path) for one in OPERATIONS}


def test_the_table_names_the_role_that_each_operation_needs():
    for one in OPERATIONS:
        assert one.role == needed_role(one.method, one.path), (one.method, one.path)


def test_the_table_has_every_route():
    """What can be asked, and is not described, is found here."""
    app = application(_Nothing())
    while not hasattr(app, "routes"):
        app = app._app
    described = {(one.method, _form(one.path)) for one in OPERATIONS}
    own = {"/", "/openapi.json", "/dicomweb/"}
    for path, methods in _routes(app.routes, ""):
        for method in methods - {"HEAD"}:
            if path not in own and not (method == "POST" and "modality-scheduled-procedure-steps/{" in path):
                assert (method, _form(path)) in described, (method, path)


class _Nothing:
    """A repository of which only the routes are wanted."""

    def __getattr__(self, name):
        return self

    def __call__(self, *_, **__):
        return self


def _routes(routes, prefix):
    for route in routes:
        if hasattr(route, "routes") and route.routes:
            yield from _routes(route.routes, prefix + route.path)
        elif getattr(route, "methods", None):
            yield prefix + route.path, set(route.methods)


def _form(path: str) -> str:
    """Without the names of parameters, and a study between that may be left out."""
    return (
        re.sub(r"{[^}]*}", "{}", path)
        .replace("{}/instances/{}/bulk", "{}/series/{}/instances/{}/bulk", 1)
        .replace("/series/{}/series/{}", "/series/{}")
    )


def test_capabilities(web):
    url, _ = web
    wadl = httpx.request("OPTIONS", f"{url}/dicomweb/")
    assert wadl.headers["content-type"].startswith("application/vnd.sun.wadl+xml")
    assert 'path="studies/{study}/series/{series}"' in wadl.text
    as_json = httpx.request("OPTIONS", f"{url}/dicomweb/", headers={"accept": "application/json"})
    assert as_json.json() == httpx.get(f"{url}/openapi.json").json() == description()
    assert httpx.request("OPTIONS", f"{url}/dicomweb/", headers={"accept": "image/png"}).status_code == 406
