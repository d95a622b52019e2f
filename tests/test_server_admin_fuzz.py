"""The admin interface against its own OpenAPI description, by schemathesis: no 500, nothing that it does not say."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from servers import make_settings

from dicomnet.server import Server
from dicomnet.server.admin.api import OPERATIONS
from dicomnet.server.admin.app import create_app

CHECKS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
)
# A stream does not end; a C-ECHO goes wherever chance says.
LEFT_OUT = ("/v1/events", "/v1/ae-titles/{title}/echo")


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    quick = make_settings(timeouts={"reconnect": 0.1}, admin={"enabled": False})
    with Server(quick, directory=tmp_path_factory.mktemp("server")) as server:
        server.request_stop = lambda drain: None
        yield schemathesis.openapi.from_asgi("/openapi.json", create_app(server, lambda request: "administer"))


@pytest.mark.long
@pytest.mark.deadline(240)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_every_operation_keeps_its_description(schema, mode):
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in LEFT_OUT or (mode is GenerationMode.NEGATIVE and not operation.body):
            continue  # where nothing is given, nothing can be wrong

        @settings(
            max_examples=30, suppress_health_check=list(HealthCheck), deadline=None, database=None,
            phases=[Phase.generate],
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def keep(case):
            case.call_and_validate(checks=CHECKS)

        keep()
        tried.add((operation.method.upper(), operation.path))
    asked = [one for one in OPERATIONS if one.path not in LEFT_OUT and (mode is GenerationMode.POSITIVE or one.body)]
    assert {(one.method, one.path) for one in asked} <= tried
