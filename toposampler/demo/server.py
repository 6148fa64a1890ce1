"""The server of the demo: a static page and a WebSocket, for browsers that were sent here by this very page.

A WebSocket is not bound by the same-origin policy: any page that a browser has open may connect to this machine. So
the `Origin` must be the `Host`, and the `Host` an address or this machine's own name, which a foreign name that is
made to resolve to this machine (DNS rebinding) is not.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from toposampler.demo.protocol import LIMITS, Start, error, parse
from toposampler.demo.race import race
from toposampler.errors import TrainingStoppedError, UserError

PAGE = Path(__file__).parent / "page"
MOST_RACES = 2
"""races at once, of all pages"""
MOST_PAGES = 20
"""connections at once"""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

log = logging.getLogger(__name__)


def application(host: str) -> ASGIApp:
    """The demo as an ASGI application that is reached by `host`, an address, or this machine's names."""
    sessions = _Sessions()
    names = {"localhost", host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    routes = [WebSocketRoute("/race", sessions.serve), Mount("/", StaticFiles(directory=PAGE, html=True))]
    return Starlette(routes=routes, middleware=[Middleware(_Guard, names=names)])


class _Guard:
    """Refuses what did not come from this server's own page, and adds `HEADERS` to what is answered."""

    def __init__(self, app: ASGIApp, names: set[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        own = self._is_own(host) and (origin is None or origin in (f"http://{host}", f"https://{host}"))
        if scope["type"] == "websocket" and (not own or origin is None):  # browsers always send an origin
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and not own:
            await PlainTextResponse("this demo is reached by its own address only", 403)(scope, receive, send)
        else:
            await self._app(scope, receive, partial(_with_headers, send))

    def _is_own(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name.lower() in self._names
        return True


async def _with_headers(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        message = {**message, "headers": [*message["headers"], *added]}
    await send(message)


class _Sessions:
    """All pages that are connected."""

    def __init__(self) -> None:
        self._pages = self._races = 0

    async def serve(self, page: WebSocket) -> None:
        """Talk with one page until it is closed; its race then stops."""
        await page.accept()
        if self._pages >= MOST_PAGES:
            await page.send_json(error(f"{MOST_PAGES} pages are connected already: close one of them.", None))
            await page.close(1013)
            return
        self._pages += 1
        stop, one_at_a_time = threading.Event(), anyio.Lock()
        try:
            await page.send_json(LIMITS)
            async with anyio.create_task_group() as tasks:
                try:
                    while (message := await page.receive())["type"] != "websocket.disconnect":
                        stop.set()
                        async with one_at_a_time:  # until the race before has stopped no further message is read
                            pass
                        try:
                            asked = parse(message.get("text") or message.get("bytes") or "")
                        except UserError as fault:
                            await page.send_json(error(str(fault), None))
                            continue
                        if isinstance(asked, Start):
                            stop = threading.Event()
                            tasks.start_soon(self._race, page, asked, stop, one_at_a_time)
                finally:
                    stop.set()
        finally:
            self._pages -= 1

    async def _race(self, page: WebSocket, asked: Start, stop: threading.Event, one_at_a_time: anyio.Lock) -> None:
        """Have a thread run the race, once the page's one before has stopped."""
        async with one_at_a_time:
            if stop.is_set():
                return
            if self._races >= MOST_RACES:
                busy = f"{MOST_RACES} races are on already, of this or other pages: stop one of them, or wait."
                await page.send_json(error(busy, asked.race))
                return
            self._races += 1
            try:

                def tell(message: dict[str, Any]) -> None:
                    anyio.from_thread.run(_send, page, stop, message)

                await anyio.to_thread.run_sync(race, asked, tell, stop.is_set)
            except (UserError, TrainingStoppedError) as fault:
                await _send(page, stop, error(str(fault), asked.race))
            except Exception:
                log.exception("a race failed")
                await _send(
                    page, stop, error("The race failed by a fault of the server; its log has more.", asked.race)
                )
            finally:
                self._races -= 1


async def _send(page: WebSocket, stop: threading.Event, message: dict[str, Any]) -> None:
    """Send `message`, unless the race is to stop: its page may be closed already."""
    if stop.is_set():
        return
    try:
        await page.send_json(message)
    except Exception:  # the page was closed meanwhile; servers differ in what they raise then
        stop.set()
