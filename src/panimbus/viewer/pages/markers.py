"""Markers: small pictures of all of them, the worst first, with thresholds that can be moved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nicegui import run, ui
from nicegui.events import ValueChangeEventArguments

from panimbus.core.errors import PanimbusError
from panimbus.evaluate.markers import MarkerSummary
from panimbus.evaluate.result_page import extremes, heights
from panimbus.render.page import render_part
from panimbus.viewer.pictures import native_zoom
from panimbus.viewer.state import Page
from panimbus.viewer.style import CellStyle, ChannelStyle, format_channels
from panimbus.viewer.thresholds import shares_at, window_of

TITLE = "Markers"
_SIDE_UM, _SIDE_PX = 120.0, 300
_GAMMA = 0.65
_STEP = 0.01
_STYLE = """
.pn-markers { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr));
  gap: 14px; padding: 14px; width: 100%; align-items: start; }
.pn-marker { padding: 10px 12px 12px; min-width: 0; }
.pn-marker h2 { font-size: 17px; line-height: 1.3; font-weight: 650; margin: 0;
  overflow-wrap: anywhere; }
.pn-marker .picture { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: #000; border-radius: 4px; margin: 6px 0; }
.pn-moved { border-color: #ffb000; }
.pn-marker .q-slider { padding: 0; margin-top: -9px; height: 22px; }
svg.bars { display: block; width: 100%; height: 52px; }
.bars rect { fill: #5f8fc4; } .bars rect.above { fill: #ffb000; }
.bars line { stroke: #fff; stroke-width: 1.4; vector-effect: non-scaling-stroke; }
.ticks { display: flex; justify-content: space-between; font-size: 12px; color: #aeb6c0; }
.shares { display: grid; grid-template-columns: fit-content(50%) 1fr max-content;
  gap: 1px 8px; align-items: center; font-size: 12px; color: #c3c9d1; margin-top: 4px;
  overflow-wrap: anywhere; }
.shares i { height: 8px; min-width: 1px; background: #ffb000; }
.pn-why { border-left: 3px solid #d08a1d; padding: 2px 8px; margin: 4px 0; font-size: 12.5px;
  line-height: 1.35; background: #2a2620; }
"""


def markers_page(page: Page) -> None:
    """Build the page."""
    ui.add_css(_STYLE)
    _Board(page).build()


class _Board:
    """All markers of a page, and the thresholds that were moved on it."""

    def __init__(self, page: Page) -> None:
        self.page, self.viewer = page, page.viewer
        self.moved: dict[str, float] = {}
        self.cards: dict[str, _Card] = {}
        self.mode, self.version = "positive", self.viewer.version

    def build(self) -> None:
        with ui.column().classes("w-full h-full no-wrap gap-0"):
            with ui.row().classes("pn-panel w-full items-center px-4 py-2 gap-3"):
                self.state = ui.label().classes("pn-soft text-sm").props('data-test="state"')
                ui.space()
                negative = ui.switch("Outline negative cells", on_change=self._outline)
                negative.props('dense data-test="negative"').classes("text-sm mr-3")
                if not self.viewer.read_only:
                    self._buttons()
            self.area = ui.element("div").classes("w-full grow overflow-auto")
        self.state.set_text("Reading the table ...")
        ui.timer(0, self._fill, once=True)  # a million cells take some seconds

    async def _fill(self) -> None:
        summary = await run.io_bound(self.viewer.thresholds.summarise)
        if summary is None:  # the server is being stopped
            return
        with self.area, ui.element("div").classes("pn-markers"):
            for one in summary.markers:
                self.cards[one.marker] = _Card(self, one, summary.fovs)
        self.show_state()
        ui.timer(1.0, self._follow)

    async def _follow(self) -> None:
        """Show what was stored or recalibrated meanwhile; what is moved on this page stays."""
        version = self.viewer.version
        if self.version == version:
            return
        self.version = version
        summary = await run.io_bound(self.viewer.thresholds.summarise)
        for one in summary.markers if summary is not None else ():
            card = self.cards[one.marker]
            rescored = (one.histogram != card.one.histogram).any()
            card.one = one
            at = self.moved.get(one.marker, one.threshold)
            if rescored or abs(float(card.slider.value) - at) > _STEP / 2:
                card.reset(at)
        self.show_state()

    def _buttons(self) -> None:
        self.undo_button = ui.button("Undo stored", on_click=self._undo, icon="undo")
        self.undo_button.props('flat no-caps data-test="undo"')
        self.undo_button.tooltip("Store the thresholds from before the last change")
        self.discard_button = ui.button("Discard", on_click=self._discard)
        self.discard_button.props('flat no-caps data-test="discard"')
        self.store_button = ui.button("Store", on_click=self._store, icon="save")
        self.store_button.props('no-caps data-test="store"')
        self.store_button.tooltip("Write thresholds, calls and types; nothing is scored again")

    def _outline(self, event: ValueChangeEventArguments[bool | None]) -> None:
        self.mode = "call" if event.value else "positive"
        for card in self.cards.values():
            card.draw_picture()

    def show_state(self) -> None:
        """What was moved, and what can be done about it."""
        text = "The worst first. Move a threshold: outlines and shares follow."
        if self.moved:
            names = ", ".join(f"{m} {t:.2f}" for m, t in self.moved.items())
            text = f"Moved, not stored: {names}"
        self.state.set_text(text)
        if not self.viewer.read_only:
            self.store_button.set_enabled(bool(self.moved))
            self.discard_button.set_enabled(bool(self.moved))
            self.undo_button.set_enabled(self.viewer.thresholds.can_undo)

    def move(self, marker: str, threshold: float) -> None:
        """Remember a threshold of the page; the stored one is no change."""
        stored = self.viewer.tables.thresholds[marker]
        self.moved.pop(marker, None)
        if abs(threshold - stored) > _STEP / 2:
            self.moved[marker] = threshold
        self.show_state()

    async def _store(self) -> None:
        moved = dict(self.moved)
        if await self._change(self.viewer.thresholds.store, moved):
            self.moved.clear()
            ui.notify(f"Stored: {', '.join(moved)}", type="positive")
            self._show(list(moved))

    async def _undo(self) -> None:
        before = await self._change(self.viewer.thresholds.undo)
        if before:
            ui.notify(f"Taken back: {', '.join(before)}", type="positive")
            self._show(list(before))

    def _discard(self) -> None:
        names = list(self.moved)
        self.moved.clear()
        self._show(names)

    async def _change(self, how: Callable[..., Any], *given: object) -> Any:
        """Change the result beside the event loop.

        What ``how`` returned, or True; None after an error, which is shown.
        """
        notice = ui.notification("Writing the tables ...", spinner=True, timeout=None)
        try:
            return await run.io_bound(how, *given) or True
        except PanimbusError as error:
            ui.notify(str(error), type="negative", multi_line=True, timeout=0, close_button=True)
            return None
        finally:
            notice.dismiss()

    def _show(self, markers: list[str]) -> None:
        for marker in markers:
            self.cards[marker].reset(self.viewer.tables.thresholds[marker])
        self.show_state()


class _Card:
    """One marker."""

    def __init__(self, board: _Board, one: MarkerSummary, fovs: tuple[str, ...]) -> None:
        self.board, self.one, self.fovs = board, one, fovs
        self.page, self.viewer = board.page, board.viewer
        self.position = self.viewer.tables.markers.index(one.marker)
        self._drawn: tuple[slice, slice, ChannelStyle] | None = None
        with ui.element("section").classes("pn-card pn-marker") as self.card:
            self.card.props(f'data-test="marker-{self.position}"')
            with ui.row().classes("w-full items-baseline no-wrap justify-between gap-2"):
                ui.html(render_part("heading", one.marker), sanitize=False)
                self.share = ui.label().classes("text-sm whitespace-nowrap")
                self.share.props(f'data-test="share-{self.position}"')
            link = self.page.link("tissue", marker=one.marker)
            with ui.link(target=link) as anchor:
                anchor._props["aria-label"] = f"{one.marker} on the tissue"
                self.picture = ui.element("img").classes("picture")
                self.picture._props |= {"alt": f"{one.marker}: calls", "loading": "lazy"}
            self.bars = ui.html("", sanitize=False).classes("w-full")
            self.slider = ui.slider(
                min=0, max=1, step=_STEP, value=one.threshold,
                on_change=lambda event: self._moved(float(event.value)),
            )  # fmt: skip
            self.slider._props["aria-label"] = f"threshold of {one.marker}"
            self.slider.props(
                f'data-test="slider-{self.position}" inner-min={_STEP} inner-max={1 - _STEP}'
            )
            for concern in one.concerns:
                ui.label(concern.text).classes("pn-why")
            self.shares = ui.html("", sanitize=False).classes("w-full")
        self._draw(one.threshold)

    def reset(self, threshold: float) -> None:
        """Move the slider to a threshold, and draw."""
        self.slider.set_value(threshold)
        self._draw(threshold)

    def _moved(self, threshold: float) -> None:
        self.board.move(self.one.marker, threshold)
        self._draw(threshold)

    def _draw(self, threshold: float) -> None:
        tables = self.viewer.tables
        positive, shares = shares_at(tables, self.position, threshold)
        share = positive / max(self.one.cells, 1)
        self.share.set_text(f"{100 * share:.1f} % positive, from {threshold:.2f}")
        bars = render_part(
            "histogram", heights(self.one.histogram, threshold), threshold, self.one.marker
        )
        self.bars.set_content(bars)
        if len(self.fovs) > 1:
            rows = extremes(shares, self.fovs)
            self.shares.set_content(render_part("shares", rows, len(self.fovs)))
        moved = self.one.marker in self.board.moved
        self.card.classes(**{"add" if moved else "remove": "pn-moved"})
        self.draw_picture()

    def draw_picture(self) -> None:
        """Show the calls at the slider's threshold."""
        self.picture._props["src"] = self._address(float(self.slider.value))
        self.picture.update()

    def _address(self, threshold: float) -> str:
        """Address of the picture with the calls at a threshold."""
        fov_id, result = self.page.fov_id, self.viewer.result
        fov = result.fov(fov_id)
        if self._drawn is None:
            rows, cols = window_of(result, fov_id, self.position, _SIDE_UM)
            channel, pictures = fov.index(self.one.marker), self.viewer.pictures
            limits = pictures.common_limits(self.one.marker) or pictures.limits(fov_id, channel)
            self._drawn = rows, cols, ChannelStyle(channel, (255, 255, 255), *limits, _GAMMA)
        rows, cols, style = self._drawn
        side = max(rows.stop - rows.start, cols.stop - cols.start)
        zoom = native_zoom(fov.shape_yx) + round(math.log2(_SIDE_PX / side))
        return self.viewer.address(
            "views", fov_id, f"{max(zoom, 0)}.png",
            box=f"{rows.start},{rows.stop},{cols.start},{cols.stop}",
            c=format_channels([style]),
            s=CellStyle(self.board.mode, self.position, threshold),
        )  # fmt: skip
