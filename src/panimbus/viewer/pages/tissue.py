"""Tissue: the image with outlines of its cells, from the whole slide to one cell."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nicegui import run, ui

from panimbus.core.errors import PanimbusError
from panimbus.io.documents import parse_json
from panimbus.viewer.cell_panel import CellPanel
from panimbus.viewer.cells import cell_line
from panimbus.viewer.channels import ChannelPanel
from panimbus.viewer.frame import go_to_fov, keep_in_address
from panimbus.viewer.map import TissueMap
from panimbus.viewer.pictures import group_colours
from panimbus.viewer.state import Page
from panimbus.viewer.style import (
    NEGATIVE_RGB,
    POSITIVE_RGB,
    CellStyle,
    ChannelStyle,
    format_channels,
    parse_channels,
)
from panimbus.viewer.tiles import VIRIDIS

TITLE = "Tissue"
_ALWAYS, _TYPED = ("call", "score"), ("type", "cluster")
_FILL = 0.35
_THUMBS = 200


def tissue_page(page: Page) -> None:
    """Build the page; ``cell`` and ``marker`` in its address choose what is first shown."""
    if page.viewer.overviews.needed(page.fov_id):
        _announce(page)
        return
    _Tissue(page).build()


def _announce(page: Page) -> None:
    """One pass over a large file without a pyramid, with its progress."""
    overviews = page.viewer.overviews
    megabytes = overviews.needed(page.fov_id) >> 20
    with ui.column().classes("pn-card m-8 p-6 gap-3 max-w-xl"):
        ui.label(f"{page.fov_id}: this file has no pyramid").classes("text-lg")
        ui.label(
            "It is read once from end to end. The overview, at most"
            f" {megabytes:,} MB, goes to {overviews.folder or 'no folder'} and is used again."
        ).classes("pn-soft")
        bar = ui.linear_progress(value=0, show_value=False, size="12px")
        problem = ui.label().classes("text-red-300 whitespace-pre-wrap")
    state = overviews.start(page.fov_id)

    def follow() -> None:
        bar.set_value(state.share)
        if state.done and state.error:
            problem.set_text(state.error)
            timer.deactivate()
        elif state.done:
            timer.deactivate()
            ui.navigate.to(page.link(**page.query))

    timer = ui.timer(0.5, follow)


@dataclass
class _Choice:
    """How cells are shown, besides their marker."""

    style: CellStyle
    visible: bool = True


class _Tissue:
    """The page's parts, which change one another."""

    def __init__(self, page: Page) -> None:
        self._page, self._result = page, page.viewer.result
        markers = page.viewer.tables.markers
        asked = page.query.get("marker", "")
        styles = _asked_styles(page) or page.viewer.pictures.first_styles(page.fov_id)
        names = self._result.fov(page.fov_id).channels
        shown = [names[s.channel] for s in styles if names[s.channel] in markers]
        first = asked if asked in markers else (shown[-1] if shown else markers[0])
        self._styles = styles
        mode = page.query.get("mode", "")
        mode = mode if mode in self._modes() else _ALWAYS[0]
        fill = _FILL if page.query.get("fill") == "1" else 0.0
        self._choice = _Choice(CellStyle(mode, markers.index(first), fill=fill))

    def build(self) -> None:
        with ui.row().classes("w-full h-full no-wrap gap-0"):
            with ui.column().classes("pn-panel pn-left h-full no-wrap gap-0 overflow-y-auto"):
                self._cells_section()
                with ui.expansion("Channels", value=True).classes("w-full").props("dense"):
                    self._channels = ChannelPanel(self._page, self._styles, self._changed_channels)
                with ui.expansion(f"FOVs ({len(self._result.fovs)})").classes("w-full") as fovs:
                    fovs.props('dense data-test="fovs"')
                    self._fov_list()
            with ui.column().classes("grow h-full gap-0 no-wrap relative min-w-0"):
                self._toolbar()
                with ui.element("div").classes("w-full grow min-h-0"):
                    self._map = TissueMap(
                        self._page, self._styles, self._choice.style,
                        on_click=self._click, on_hover=self._hover,
                    )  # fmt: skip
            with ui.column().classes("pn-panel pn-right h-full no-wrap gap-0 overflow-y-auto"):
                self._panel = CellPanel(self._page)
        if (asked := self._page.query.get("marker")) and "show" not in self._page.query:
            self._show_marker(asked)
        if cell := self._page.query.get("cell"):
            self._map.leaflet.on("init", lambda: self._go_to(cell))

    # -- cells

    def _cells_section(self) -> None:
        tables = self._page.viewer.tables
        with ui.column().classes("w-full gap-2 p-2"):
            ui.label("Cells").classes("text-sm font-bold")
            toggle = ui.toggle(
                self._modes(), value=self._choice.style.mode,
                on_change=lambda e: self._restyle(mode=e.value),
            )  # fmt: skip
            toggle.props('dense no-caps unelevated spread data-test="mode"').classes("w-full")
            self._marker = ui.select(
                list(tables.markers), value=tables.markers[self._choice.style.marker],
                label="marker", with_input=True,
                on_change=lambda e: self._restyle(marker=tables.markers.index(e.value)),
            )  # fmt: skip
            self._marker.classes("w-full").props('dense dark outlined data-test="marker"')
            with ui.row().classes("w-full gap-3"):
                outline = ui.switch("outlines", value=True, on_change=lambda e: self._hide(e.value))
                outline.props('dense data-test="outlines"')
                fill = ui.switch(
                    "fill",
                    value=self._choice.style.fill > 0,
                    on_change=lambda e: self._restyle(fill=_FILL * e.value),
                )
                fill.props('dense data-test="fill"')
            self._legend_box = ui.element("div").classes("w-full pn-legend")
            self._legend()

    def _restyle(self, **changes: Any) -> None:
        self._choice.style = replace(self._choice.style, **changes)
        self._marker.set_visibility(self._choice.style.mode in _ALWAYS)
        self._legend()
        self._show_cells()
        style = self._choice.style
        marker = self._page.viewer.tables.markers[style.marker]
        keep_in_address(mode=style.mode, marker=marker, fill="01"[style.fill > 0])

    def _modes(self) -> list[str]:
        typed = self._page.viewer.tables.types is not None
        return [*_ALWAYS, *(_TYPED if typed else ())]

    def _hide(self, visible: bool) -> None:  # noqa: FBT001 (the switch's value)
        self._choice.visible = visible
        self._show_cells()

    def _show_cells(self) -> None:
        self._map.show_cells(self._choice.style if self._choice.visible else None)

    def _legend(self) -> None:
        style, tables = self._choice.style, self._page.viewer.tables
        self._legend_box.clear()
        with self._legend_box:
            if style.mode == "score":
                colours = ", ".join("rgb({},{},{})".format(*c) for c in VIRIDIS)
                ui.label("0").classes("text-xs")
                ui.element("div").classes("grow h-3").style(
                    f"background: linear-gradient(to right, {colours})"
                )
                ui.label("1").classes("text-xs")
                return
            if style.mode == "call":
                at = tables.thresholds[tables.markers[style.marker]]
                entries = {f"positive (score ≥ {at:g})": POSITIVE_RGB, "negative": NEGATIVE_RGB}
            else:
                entries = group_colours(tables, style.mode)
            for name, colour in entries.items():
                with ui.row().classes("items-center gap-2 no-wrap w-full"):
                    ui.element("span").classes("pn-swatch").style(
                        "background: rgb({},{},{})".format(*colour)
                    )
                    ui.label(name).classes("text-sm ellipsis")

    # -- channels and FOVs

    def _changed_channels(self, styles: Any) -> None:
        self._styles = styles
        self._map.show_channels(styles)
        names = self._result.fov(self._page.fov_id).channels
        keep_in_address(
            show=json.dumps([[names[s.channel], *str(s).split(",")[1:]] for s in styles])
        )

    def _show_marker(self, marker: str) -> None:
        fov = self._result.fov(self._page.fov_id)
        stain = [fov.channels[s.channel] for s in self._styles[:1]]
        if marker in fov.channels:
            self._channels.show([*stain, marker])

    def _fov_list(self) -> None:
        for fov in self._result.fovs[:_THUMBS]:
            address = self._page.viewer.address("thumbs", fov, "128.png")
            button = ui.button(on_click=partial(go_to_fov, fov)).props("flat no-caps align=left")
            with button.classes("pn-thumb w-full"):
                picture = ui.element("img").props('loading="lazy" width=96')
                picture.props["src"], picture.props["alt"] = address, ""
                ui.label(fov).classes("text-sm ellipsis")
        if len(self._result.fovs) > _THUMBS:
            ui.label(f"and {len(self._result.fovs) - _THUMBS} more: choose above").classes(
                "pn-soft"
            )

    # -- the map

    def _toolbar(self) -> None:
        with ui.row().classes("pn-panel w-full items-center no-wrap gap-2 px-3 py-1"):
            whole = ui.button("Whole FOV").props("flat dense no-caps")
            whole.on_click(lambda _: self._map.fit())
            cell = ui.input(placeholder="cell id").classes("w-28")
            cell.props('dense dark outlined data-test="go-field" aria-label="Cell id"')
            cell.on("keydown.enter", lambda: self._go_to(cell.value))
            go = ui.button("Go", on_click=lambda: self._go_to(cell.value))
            go.props('flat dense no-caps data-test="go"')
            self._under = ui.label().classes("pn-soft text-sm grow ellipsis")
            self._under.props('data-test="hover"')
            save = ui.button("Save picture", icon="download", on_click=self._save)
            save.props('flat dense no-caps data-test="save"')

    async def _go_to(self, text: str) -> None:
        text = (text or "").strip()
        row = -1
        if text.isascii() and text.isdigit() and len(text) < 19:
            row = self._result.index(self._page.fov_id).row(int(text))
        centre = None if row < 0 else self._result.centre(self._page.fov_id, row)
        if centre is None:
            ui.notify(f"{self._page.fov_id} has no cell {text!r}", type="warning")
            return
        self._map.go(*centre)
        await self._panel.show(row)

    async def _click(self, y: int, x: int) -> None:
        row = await self._cell_at(y, x)
        if row >= 0 and (centre := self._result.centre(self._page.fov_id, row)) is not None:
            self._map.mark(*centre)
        await self._panel.show(row)

    async def _hover(self, y: int, x: int) -> None:
        row = await self._cell_at(y, x)
        tables = self._page.viewer.tables
        marker = tables.markers[self._choice.style.marker]
        self._under.set_text("" if row < 0 else cell_line(tables, row, [marker]))

    async def _cell_at(self, y: int, x: int) -> int:
        pictures = self._page.viewer.pictures
        row = await run.io_bound(pictures.cell_at, self._page.fov_id, y, x)
        return -1 if row is None else row  # None while the server ends

    async def _save(self) -> None:
        y0, y1, x0, x1 = await self._map.box()
        address = self._page.viewer.address(
            "views", self._page.fov_id, f"{self._map.zoom}.png", box=f"{y0},{y1},{x0},{x1}",
            c=format_channels(self._styles),
            s=self._choice.style if self._choice.visible else None,
        )  # fmt: skip
        ui.download.from_url(address)


def _asked_styles(page: Page) -> tuple[ChannelStyle, ...]:
    """The channels that the address names, as far as the FOV has them."""
    names = page.viewer.result.fov(page.fov_id).channels
    try:
        given = parse_json(page.query.get("show", "[]"), "show")
        parts = [f"{names.index(n)},{','.join(rest)}" for n, *rest in given if n in names]
        return parse_channels(";".join(parts), len(names))
    except (PanimbusError, TypeError, ValueError):
        return ()
