"""The settings that all nodes of an archive have in common: what holds, who changed it, and the way back."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ...errors import DicomNetError
from ...server.admin import AdminError
from ...server.settings import as_written
from .forms import Field, number_in
from .pages import Ask, Console, problems_of

__all__ = ["routes"]

_PAGE = "/servers/{server}/nodes/settings"
MOST_SHOWN = 50  # changes of the past; the command has all


def routes(console: Console) -> list[Route]:
    """The routes."""
    return [
        console.route(_PAGE, get=_show, post=_change, role="operate", post_role="administer"),
        console.route(f"{_PAGE}/{{number}}/revert", post=_revert, post_role="administer"),
    ]


def _fields(found: dict[str, Any], key: str = "", value: str = "") -> list[Field]:
    keys = [one["key"] for one in found["settings"]]
    return [
        Field("after", "", "hidden", value=str(found["snapshot"])),
        Field("key", "Setting", "select", value=key or keys[0], choices=[(one, one) for one in keys]),
        Field("value", "Value", value=value, most=10_000,
              help='As in a settings file: 3650, true, 500g, ["RIS"]. Empty: each node\'s own, or the default.'),
    ]  # fmt: skip


async def _show(ask: Ask) -> Response:
    return await _page(ask)


async def _page(ask: Ask, key: str = "", value: str = "", wrong: list[str] | None = None) -> Response:
    found = await ask.client.shared_settings()
    history = (await ask.client.shared_history())[:MOST_SHOWN]
    return ask.render(
        "shared_settings.html", status=422 if wrong else 200, found=found, history=history,
        fields=_fields(found, key, value), wrong=wrong or [],
    )  # fmt: skip


async def _change(ask: Ask) -> Response:
    form = await ask.form()
    key, value = form.text("key"), form.text("value")
    values, unset = ({key: as_written(value)}, []) if value else ({}, [key])
    try:
        made = await ask.client.change_shared(
            values, unset, after=number_in(form.text("after")), on_behalf_of=ask.user[:64]
        )
    except AdminError as error:
        if error.status not in (404, 409, 422):
            raise
        said = [f"{one.get('what')}; expected {one.get('expected')}" for one in problems_of(error)]
        return await _page(ask, key, value, said or [_sentence(error)])
    return ask.done(_told(made), f"/servers/{ask.server.name}/nodes/settings")


async def _revert(ask: Ask) -> Response:
    number = number_in(ask.request.path_params["number"])
    if number is None:
        raise AdminError(404, {"detail": "there is no such snapshot"})
    made = await ask.client.revert_shared(number, on_behalf_of=ask.user[:64])
    return ask.done(_told(made), f"/servers/{ask.server.name}/nodes/settings")


def _sentence(error: DicomNetError) -> str:
    return f"{error.message}. {error.hint}" if error.hint else error.message


def _told(made: dict[str, Any]) -> str:
    text = f"Snapshot {made['snapshot']} holds: {', '.join(made['changed']) or 'nothing'} changed."
    if made["pending_restart"]:
        text += f" These wait for a restart of each node: {', '.join(made['pending_restart'])}."
    return text
