"""The viewer's server: NiceGUI pages and pictures behind one guard."""

from __future__ import annotations

import importlib
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import uvicorn
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from panimbus.core.errors import InputError, PanimbusError
from panimbus.viewer.access import LOOPBACK, TOKEN, Guard
from panimbus.viewer.frame import frame
from panimbus.viewer.pages import PAGES
from panimbus.viewer.routes import picture_routes, refusal
from panimbus.viewer.state import NAME_COOKIE, Page, Viewer, name_from_cookie

PORT = 8765
_PORTS_TRIED = 50
_THREADS = 6
"""Pictures drawn at a time; each thread keeps some memory."""
_ANY = ("0.0.0.0", "::", "")  # noqa: S104 (recognised, not bound)


def serve(
    viewer: Viewer,
    *,
    host: str = LOOPBACK[0],
    port: int | None = None,
    started: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a result until the process is interrupted.

    Parameters
    ----------
    viewer
    host
        Address to listen at; default: only this machine.
    port
        Default: 8765, or the next one that is free.
    started
        Called with the address, token included, once the server listens.

    Raises
    ------
    InputError
        If the port is taken or the host is not of this machine.
    """
    listening = _bind(host, port)
    own = int(listening.getsockname()[1])
    token = secrets.token_urlsafe(24)
    app = create_app(viewer, token=token, host=host, port=own)
    logging.getLogger("nicegui").setLevel(logging.WARNING)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    )
    shown = LOOPBACK[0] if host in _ANY else host
    shown = f"[{shown}]" if ":" in shown else shown
    started(f"http://{shown}:{own}/?{TOKEN}={token}")
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()


def create_app(viewer: Viewer, *, token: str, host: str, port: int) -> Guard:
    """The application: pages, pictures, and the guard in front of them.

    NiceGUI keeps one application a process, so that this is called once.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(picture_routes(viewer))
    app.add_exception_handler(PanimbusError, refusal)

    @app.on_event("startup")
    async def limit_threads() -> None:
        to_thread.current_default_thread_limiter().total_tokens = _THREADS

    @app.get("/")
    def start() -> RedirectResponse:
        return RedirectResponse(f"/{PAGES[0]}", 303)

    modules = {key: importlib.import_module(f"panimbus.viewer.pages.{key}") for key in PAGES}
    titles = [(key, str(module.TITLE)) for key, module in modules.items()]
    for key, module in modules.items():
        _add_page(viewer, key, module, titles)
    ui.run_with(
        app, title=f"panimbus: {viewer.result.name}", dark=True, favicon="🔬",
        show_welcome_message=False, reconnect_timeout=30,
    )  # fmt: skip
    hosts = [*LOOPBACK, *([] if host in _ANY else [host]), *_machine_names(host)]
    return Guard(app, token=token, hosts=hosts, port=port)


def _add_page(
    viewer: Viewer, key: str, module: ModuleType, titles: Sequence[tuple[str, str]]
) -> None:
    @ui.page(f"/{key}", title=f"{module.TITLE} - {viewer.result.name}", response_timeout=30)
    def build(request: Request) -> None:
        page = page_of(viewer, key, dict(request.query_params), dict(request.cookies))
        frame(page, titles)
        getattr(module, f"{key}_page")(page)


def page_of(viewer: Viewer, key: str, query: dict[str, str], cookies: dict[str, str]) -> Page:
    """The page that an address asks for; an unknown FOV is the first one."""
    fov = query.get("fov", "")
    fov = fov if fov in viewer.result.fovs else viewer.result.fovs[0]
    rest = {k: v for k, v in query.items() if k != "fov"}
    return Page(viewer, key, fov, name_from_cookie(cookies.get(NAME_COOKIE)), rest)


def _machine_names(host: str) -> list[str]:
    """Names under which others reach this machine, where they may."""
    return [socket.gethostname(), socket.getfqdn()] if host not in LOOPBACK else []


def _bind(host: str, port: int | None) -> socket.socket:
    ports: Any = range(PORT, PORT + _PORTS_TRIED) if port is None else (port,)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem: OSError | None = None
    for number in ports:
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((host, number))
            opened.listen(128)
        except OSError as error:
            opened.close()
            problem = error
            continue
        opened.setblocking(False)  # noqa: FBT003 (its only way)
        return opened
    raise InputError(
        f"The viewer cannot listen at {host}"
        + (f", port {port}." if port is not None else f", ports {PORT} to {ports[-1]}."),
        got=str(problem),
        fix="pass another --port, or leave --host away",
    )
