"""Who may ask the viewer's server: token, Host and Origin of every request and websocket."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TOKEN = "token"  # noqa: S105 (the name of a query parameter)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self'"
    " 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self';"
    " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
"""Nothing is loaded from another host. NiceGUI compiles its templates in the page (eval)."""
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
_LOGIN = "panimbus view: the address needs its token, as the command printed it.\n"
logger = logging.getLogger(__name__)


class Guard:
    """ASGI application that answers only those who have the token, from pages of its own.

    A request with the token in its address gets it as a cookie and is sent on to the same address
    without it. Every other one needs the cookie. ``Host`` must be a name of this server (against
    rebound names), ``Origin`` and ``Sec-Fetch-Site``, where a browser sends them, its own.

    Parameters
    ----------
    app
        The application behind it.
    token
        Secret of the session.
    hosts
        Names under which the server may be asked, without ports.
    port
        Port, part of the cookie's name: cookies of servers on one host are not kept apart by port.
    """

    def __init__(self, app: Any, *, token: str, hosts: Iterable[str], port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {host.lower() for host in hosts}
        self.cookie = f"panimbus_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on to the application."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        problem = self._wrong_place(scope, headers)
        if problem is not None:
            await _refuse(scope, send, 403, problem)
            return
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        given = next((v for k, v in query if k == TOKEN), None)
        if given is not None and scope["type"] == "http" and self._same(given):
            await self._welcome(scope, query, send)
        elif self._same(self._cookie_of(headers)):
            await self._app(scope, receive, _with_headers(send))
        else:
            await _refuse(scope, send, 401, _LOGIN)

    def _wrong_place(self, scope: Scope, headers: dict[str, str]) -> str | None:
        host = headers.get("host", "")
        own = {*self._hosts, str((scope.get("server") or ("",))[0]).lower()}
        if (_hostname(host) or "") not in own:
            return "panimbus view: this is not the name of this server.\n"
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            return "panimbus view: the request comes from another page.\n"
        # a link in another page may open ours; its pictures and scripts may not ask
        moves = headers.get("sec-fetch-mode") == "navigate"
        if not moves and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return "panimbus view: the request comes from another page.\n"
        return None

    def _cookie_of(self, headers: dict[str, str]) -> str:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return "" if cookie is None else cookie.value

    def _same(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self._token.encode())

    async def _welcome(self, scope: Scope, query: list[tuple[str, str]], send: Send) -> None:
        rest = urlencode([(k, v) for k, v in query if k != TOKEN])
        path = "/" + str(scope["path"]).lstrip("/\\")  # never //host
        cookie = f"{self.cookie}={self._token}; Path=/; HttpOnly; SameSite=Lax"
        headers = [
            (b"location", (urlencode_path(path) + (f"?{rest}" if rest else "")).encode()),
            (b"set-cookie", cookie.encode()),
            (b"cache-control", b"no-store"),
            *_HEADERS,
        ]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def urlencode_path(path: str) -> str:
    """A path as it may stand in a header.

    Examples
    --------
    >>> urlencode_path("/a b")
    '/a%20b'
    """
    from urllib.parse import quote

    return quote(path, safe="/")


def _hostname(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send, status: int, text: str) -> None:
    logger.info("refused %s: %d", scope.get("path"), status)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": text.strip()[:100]})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
