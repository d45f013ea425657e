"""Where the SDKs connect."""

from __future__ import annotations

from typing import Any

from litestar import WebSocket, get, websocket

from inferflux_api.dialects.lmstudio.sdk.session import Session
from inferflux_api.governance.authentication import PUBLIC

__all__ = ["ROUTES"]


@get("/lmstudio-greeting", opt={"scope": PUBLIC}, tags=["LM Studio"])
async def greeting() -> dict[str, bool]:
    """What the SDKs look for before they connect."""
    return {"lmstudio": True}


# The SDKs prove who they are in their first frame, so each call asks for its scope itself.
@websocket(["/llm", "/embedding", "/system", "/files", "/repository"], opt={"scope": PUBLIC})
async def sdk(socket: WebSocket[Any, Any, Any]) -> None:
    """A namespace of calls and channels."""
    await socket.accept()
    await Session(socket, socket.url.path.strip("/")).run()


ROUTES = [greeting, sdk]
