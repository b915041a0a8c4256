"""The frame of every page: navigation, choice of the FOV, and the reader's name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

from nicegui import ui

from panimbus.viewer.state import NAME_COOKIE, Page, clean_name

_STYLE = """
:root { color-scheme: dark; }
body { background: #14171c; color: #e8eaed; }
.nicegui-content { padding: 0; gap: 0; height: calc(100vh - 49px); }
.pn-header { background: #1d2229; border-bottom: 1px solid #3a424d; height: 49px; }
.pn-panel { background: #1a1e24; border-color: #3a424d; }
.pn-nav { color: #c3c9d1; padding: 6px 12px; border-radius: 4px; text-decoration: none; }
.pn-nav:hover { background: #2b323c; color: #fff; }
.pn-nav[aria-current=page] { background: #2f4a6d; color: #fff; }
.pn-soft { color: #aeb6c0; }
.pn-card { background: #21262e; border: 1px solid #3a424d; border-radius: 6px; }
a:focus-visible, button:focus-visible, input:focus-visible, [tabindex]:focus-visible {
  outline: 2px solid #ffb000 !important; outline-offset: 1px; }
.leaflet-container { background: #000 !important; font: inherit; }
.leaflet-container:focus-visible { outline-offset: -2px; }
.pn-left { width: 300px; min-width: 300px; border-right: 1px solid #3a424d; }
.pn-right { width: 380px; min-width: 380px; border-left: 1px solid #3a424d; }
.pn-scale { z-index: 500; pointer-events: none; color: #fff; font-size: 13px; text-align: center;
  text-shadow: 0 0 3px #000, 0 0 3px #000; }
.pn-scale > * { border-bottom: 3px solid #fff; }
.pn-legend { display: flex; flex-wrap: wrap; align-items: center; gap: 2px 6px; }
.pn-swatch { width: 14px; height: 14px; border-radius: 3px; flex: none; }
.pn-crops { width: 100%; display: grid; gap: 6px;
  grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); }
.pn-crop { margin: 0; font-size: 12px; color: #c3c9d1; min-width: 0; }
.pn-crop img, .pn-thumb img { image-rendering: pixelated; background: #000; border-radius: 3px; }
.pn-thumb { display: flex; gap: 8px; align-items: center; padding: 4px 8px; color: #e8eaed;
  text-decoration: none; }
.pn-thumb .q-btn__content { justify-content: flex-start; flex-wrap: nowrap; gap: 8px; }
.pn-thumb:hover { background: #2b323c; }
.pn-left .q-expansion-item__content > * { padding: 0 8px 8px; }
.pn-table { background: transparent; }
.pn-table th, .pn-table td { padding: 2px 4px !important; }
.pn-pixels { image-rendering: pixelated; }
"""


def frame(page: Page, pages: Sequence[tuple[str, str]]) -> None:
    """Draw the header of a page.

    Parameters
    ----------
    page
    pages
        (key, title) of every page, in order.
    """
    ui.colors(primary="#6cb0ff", accent="#ffb000", dark="#1d2229", dark_page="#14171c")
    ui.add_css(_STYLE)
    ui.query("body").classes("overflow-hidden")
    with ui.header().classes("pn-header items-center no-wrap gap-2 py-0 px-4"):
        ui.label("panimbus").classes("text-base font-bold mr-2").tooltip(page.viewer.result.name)
        with ui.element("nav").classes("row no-wrap gap-1").props('aria-label="Pages"'):
            for key, title in pages:
                link = ui.link(title, page.link(key)).classes("pn-nav")
                if key == page.key:
                    link.props('aria-current="page"')
        ui.space()
        if page.viewer.read_only:
            ui.badge("read only", color="grey-8").tooltip("Nothing can be changed from this page")
        _fov_chooser(page)
        _name_button(page)


def go_to_fov(fov: str) -> None:
    """Show another FOV on the same page, with all else that its address says."""
    ui.run_javascript(
        f"const u = new URL(location); u.searchParams.set('fov', {json.dumps(fov)});"
        " u.searchParams.delete('cell'); location.assign(u);"
    )


def keep_in_address(**query: str) -> None:
    """Put parameters into the page's address, so that a reload or a link shows the same."""
    text = json.dumps(query)
    ui.run_javascript(
        "const u = new URL(location);"
        f" for (const [k, v] of Object.entries({text})) u.searchParams.set(k, v);"
        " history.replaceState(history.state, '', u);"
    )


def _fov_chooser(page: Page) -> None:
    select = ui.select(
        list(page.viewer.result.fovs), value=page.fov_id, label="FOV",
        with_input=len(page.viewer.result.fovs) > 12, on_change=lambda e: go_to_fov(e.value),
    )  # fmt: skip
    select.classes("w-48").props('dense dark outlined options-dense data-test="fov"')


def _name_button(page: Page) -> None:
    with ui.dialog() as dialog, ui.card().classes("pn-card w-80"):
        ui.label("Your name").classes("text-base")
        ui.label("Annotations are kept under it.").classes("pn-soft text-sm")
        field = ui.input("Name", value=page.annotator).classes("w-full")
        field.props('dark autofocus maxlength=40 data-test="name-field"')

        def keep() -> None:
            value = json.dumps(quote(clean_name(field.value or ""), safe=""))
            ui.run_javascript(
                f"document.cookie = '{NAME_COOKIE}=' + {value} +"
                " '; path=/; max-age=31536000; samesite=lax'; location.reload();"
            )

        field.on("keydown.enter", keep)
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=dialog.close).props("flat")
            ui.button("Keep", on_click=keep).props('data-test="name-keep"')
    label = page.annotator or "Your name ..."
    button = ui.button(label, icon="person", on_click=dialog.open)
    button.props('flat no-caps dense color=white data-test="name" aria-label="Your name"')
