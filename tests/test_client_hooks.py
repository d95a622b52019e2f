"""A component's handlers are told of what happens to associations, though it is the client that opens them."""

from __future__ import annotations

from typing import Any

import pytest

import dicomnet as dn
from dicomnet.client import events
from dicomnet.testing import Provider

LINK = [events.BeforeConnect, events.BeforeAssociate, events.AfterConnect, events.AfterAssociate]


class Watching(dn.client.QueryRetrieveScu):
    def before_connect(self, event: Any) -> None:
        self.heard.append(type(event))

    after_connect = before_associate = after_associate = before_release = after_release = before_connect
    before_find = after_find = before_connect
    heard: list[Any]


def test_a_decorated_handler_of_a_component() -> None:
    heard: list[Any] = []
    with Provider() as provider, dn.client.QueryRetrieveScu(provider.peer) as component:
        for kind in [*LINK, events.BeforeFind]:
            component.on(kind)(lambda event: heard.append(type(event)))
        assert list(component.find("STUDY")) == []
    assert heard == [events.BeforeFind, *LINK]


def test_a_method_of_a_component() -> None:
    with Provider() as provider:
        component = Watching(provider.peer)
        component.heard = []
        with component:
            list(component.find("STUDY"))
    released = [events.BeforeRelease, events.AfterRelease]
    assert component.heard == [events.BeforeFind, *LINK, events.AfterFind, *released]


def test_a_veto_of_a_component_keeps_the_connection_closed() -> None:
    with Provider() as provider, dn.client.QueryRetrieveScu(provider.peer) as component:
        component.on(events.BeforeConnect)(lambda event: event.veto("not today"))
        with pytest.raises(events.Vetoed, match="not today"):
            list(component.find("STUDY"))
        assert not provider.requested
