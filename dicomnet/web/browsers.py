"""What keeps browsers from running what a peer has sent as a page of this server."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["NO_SCRIPTS", "NoSniff"]

#: For documents that browsers show as pages: XML may hold XHTML, whose scripts would act as the user who looks at it.
NO_SCRIPTS = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}


class NoSniff:
    """Has browsers take each body for what its Content-Type says, whatever it looks like.

    Args:
        app: what serves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""

        async def typed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            await send(message)

        await self._app(scope, receive, typed)
