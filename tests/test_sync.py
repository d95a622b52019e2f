"""The blocking face, with users and providers of both faces on the other side."""

from __future__ import annotations

import threading

import faces
from face_suite import ProviderSuite, UserSuite

import dicomnet as dn


class TestUser(UserSuite):
    face = "sync"


class TestProvider(ProviderSuite):
    face = "sync"

    def test_serve_forever_ends_with_stop(self) -> None:
        listener = dn.Listener(port=0)
        listener.open()
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        with faces.SyncUser(f"127.0.0.1:{listener.address[1]}") as user:
            assert user.echo().is_success
        listener.stop()
        thread.join(faces.PATIENCE)
        assert not thread.is_alive()
        listener.stop()
