"""Who may ask what: one browser on this machine, by a token, from the workbench's own pages.

A page on the web that a browser shows beside the workbench can send requests to this machine too: by a name that it makes
point here (refused by the Host header), or by forms and scripts (refused by Origin and the CSRF token). GET changes nothing.
"""

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, JSONResponse, Response

from agent.review.app import HEADERS

MOST_BYTES = 256 * 1024
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
ENTER = (
    '<!doctype html><html lang="en"><title>locus</title><link rel="icon" href="data:,">'
    '<meta http-equiv="refresh" content="0; url=/workbench">'
    '<p><a href="/workbench">The workbench</a></p></html>'
)
CLOSED = (
    '<!doctype html><html lang="en"><title>locus</title><h1>Not open</h1><p>Open the address that the workbench printed in its '
    "terminal: it carries the token that lets this browser in.</p></html>"
)


class TooLargeError(ValueError):
    """A body of more bytes than any form of the page has."""


class Keys:
    """The token that opens the workbench, and what its own pages send along with every change."""

    def __init__(self, port: int) -> None:
        self.port, self.token = port, secrets.token_urlsafe(32)
        self.csrf = hmac.new(self.token.encode(), b"csrf", sha256).hexdigest()
        self.cookie = f"locus-workbench-{port}"  # cookies are shared by all ports of a host
        self.hosts = tuple(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))

    @property
    def url(self) -> str:
        """The address that lets a browser in."""
        return f"http://{self.hosts[0]}/workbench?token={self.token}"


class Guard:
    """Middleware that lets through what the keys allow, and bounds bodies."""

    def __init__(self, app: App, keys: Keys) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope) if scope["type"] == "http" else Response(status_code=403)
        if refused is not None:
            await refused(scope, receive, send)
            return
        await self.app(scope, _bounded(receive), send)

    def _refused(self, scope: Scope) -> Response | None:
        """What is answered in place of the page; None where nothing speaks against it."""
        keys, headers = self.keys, {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if headers.get("host", "") not in keys.hosts:
            return _problem(421, f"the workbench answers at {keys.hosts[0]} alone")
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if asked and hmac.compare_digest(asked.encode(), keys.token.encode()):
            made = HTMLResponse(ENTER, headers=HEADERS)
            made.set_cookie(keys.cookie, keys.token, httponly=True, samesite="strict", path="/")
            return made
        cookies = SimpleCookie(headers.get("cookie", ""))
        held = cookies[keys.cookie].value if keys.cookie in cookies else ""
        if not hmac.compare_digest(held.encode(), keys.token.encode()):
            return HTMLResponse(CLOSED, status_code=403, headers=HEADERS)
        if scope["method"] in ("GET", "HEAD"):
            return None
        if headers.get("origin", "") not in {f"http://{h}" for h in keys.hosts}:
            return _problem(403, "changes are taken from the workbench's own pages alone")
        if not hmac.compare_digest(headers.get("x-csrf-token", "").encode(), keys.csrf.encode()):
            return _problem(403, "this page is of an earlier sitting: load it again")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            return _problem(413, f"at most {MOST_BYTES // 1024} kB can be sent at once")
        return None


def _bounded(receive: Receive) -> Receive:
    """Read no more of a body than may be sent, whatever its header said."""
    seen = 0

    async def read() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            raise TooLargeError(f"at most {MOST_BYTES // 1024} kB can be sent at once")
        return message

    return read


def _problem(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status, headers=HEADERS)
