"""Choice of channels: which are shown, in which colour, contrast and gamma."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nicegui import ui

from panimbus.render.palette import Rgb, hex_colour
from panimbus.viewer.state import Page
from panimbus.viewer.style import MOST_CHANNELS, PALETTE, ChannelStyle

_STEPS = 1000


@dataclass
class _Shown:
    style: ChannelStyle
    name: str


class ChannelPanel:
    """A list of channels with their colours and contrasts.

    Parameters
    ----------
    page
    styles
        Channels first shown.
    on_change
        Called with the styles whenever they change.
    """

    def __init__(
        self,
        page: Page,
        styles: Sequence[ChannelStyle],
        on_change: Callable[[tuple[ChannelStyle, ...]], Any],
    ) -> None:
        self._page, self._on_change = page, on_change
        self._names = page.viewer.result.fov(page.fov_id).channels
        self._shown = [_Shown(style, self._names[style.channel]) for style in styles]
        self._boxes: dict[int, ui.checkbox] = {}
        with ui.column().classes("w-full gap-1 p-2"):
            self._controls = ui.column().classes("w-full gap-2")
            search = ui.input(placeholder="Find a channel", on_change=lambda e: self._find(e.value))
            search.classes("w-full").props('dense dark outlined aria-label="Find a channel"')
            search.set_visibility(len(self._names) > 12)
            with ui.column().classes("w-full gap-0"):
                chosen = {one.style.channel for one in self._shown}
                for k, name in enumerate(self._names):
                    box = ui.checkbox(name, value=k in chosen, on_change=partial(self._toggle, k))
                    self._boxes[k] = box.props("dense dark").classes("pn-channel")
                    box.props["data-test"] = f"channel-{name}"
        self._draw()

    @property
    def styles(self) -> tuple[ChannelStyle, ...]:
        """The channels shown, in the order in which they were chosen."""
        return tuple(one.style for one in self._shown)

    def show(self, names: Sequence[str]) -> None:
        """Show these channels only, as far as the FOV has them."""
        wanted = [self._names.index(n) for n in names if n in self._names]
        for k, box in self._boxes.items():
            if box.value != (k in wanted):
                box.set_value(k in wanted)

    def _toggle(self, channel: int, event: Any) -> None:
        self._shown = [one for one in self._shown if one.style.channel != channel]
        if event.value and len(self._shown) >= MOST_CHANNELS:
            ui.notify(f"at most {MOST_CHANNELS} channels at a time")
            self._boxes[channel].set_value(False)
            return
        if event.value:
            low, high = self._page.viewer.pictures.limits(self._page.fov_id, channel)
            style = ChannelStyle(channel, self._free_colour(), low, high)
            self._shown.append(_Shown(style, self._names[channel]))
        self._draw()
        self._on_change(self.styles)

    def _free_colour(self) -> Rgb:
        used = [one.style.colour for one in self._shown]
        return next((c for c in PALETTE if c not in used), PALETTE[len(used) % len(PALETTE)])

    def _change(self, one: _Shown, **changes: Any) -> None:
        one.style = replace(one.style, **changes)
        self._on_change(self.styles)

    def _find(self, text: str) -> None:
        for k, box in self._boxes.items():
            box.set_visibility((text or "").casefold() in self._names[k].casefold())

    def _draw(self) -> None:
        self._controls.clear()
        with self._controls:
            if not self._shown:
                ui.label("No channel is shown.").classes("pn-soft text-sm")
            for one in self._shown:
                self._draw_one(one)

    def _draw_one(self, one: _Shown) -> None:
        own, common = self._ranges(one)
        top = max(own[1], (common or own)[1], one.style.high) * 1.5 or 1.0
        bottom = min(0.0, own[0], one.style.low)
        with ui.column().classes("pn-card w-full gap-0 px-2 py-1"):
            with ui.row().classes("w-full items-center no-wrap gap-2"):
                self._colour(one)
                ui.label(one.name).classes("text-sm grow ellipsis").tooltip(one.name)
                ui.button("Auto", on_click=lambda: self._set(one, own)).props(
                    "flat dense no-caps size=sm"
                ).tooltip("Contrast by percentiles of this FOV")
                if common is not None:
                    ui.button("All", on_click=lambda: self._set(one, common)).props(
                        "flat dense no-caps size=sm"
                    ).tooltip("The same contrast in all FOVs: up to the normaliser")
            value = {"min": one.style.low, "max": min(one.style.high, top)}
            span = ui.range(min=bottom, max=top, step=(top - bottom) / _STEPS, value=value)
            span.props("dense dark")
            span.props["aria-label"] = f"Contrast of {one.name}"
            span.on(
                "change",
                lambda e: self._change(one, low=float(e.args["min"]), high=float(e.args["max"])),
            )
            with ui.row().classes("w-full items-center no-wrap gap-2"):
                ui.label("gamma").classes("pn-soft text-xs")
                gamma = ui.slider(min=-1, max=1, step=0.05, value=math.log2(one.style.gamma) / 2)
                gamma.props("dense dark").classes("grow")
                gamma.props["aria-label"] = f"Gamma of {one.name}"
                gamma.on("change", lambda e: self._change(one, gamma=4.0 ** float(e.args)))

    def _ranges(self, one: _Shown) -> tuple[tuple[float, float], tuple[float, float] | None]:
        pictures = self._page.viewer.pictures
        own = pictures.limits(self._page.fov_id, one.style.channel)
        return own, pictures.common_limits(one.name)

    def _set(self, one: _Shown, limits: tuple[float, float]) -> None:
        self._change(one, low=limits[0], high=limits[1])
        self._draw()

    def _colour(self, one: _Shown) -> None:
        shown = hex_colour(one.style.colour)
        button = ui.button().props("dense unelevated")
        button.props["aria-label"] = f"Colour of {one.name}"
        button.style(f"background: {shown} !important; width: 22px; height: 22px; min-height: 0")
        with button, ui.menu().props("dark"), ui.row().classes("p-2 gap-1 items-center"):
            for colour in PALETTE:
                swatch = ui.button(on_click=partial(self._recolour, one, colour))
                swatch.props(f'dense unelevated aria-label="{hex_colour(colour)}"')
                swatch.style(f"background: {hex_colour(colour)} !important; width: 22px")
            own = ui.color_picker(on_pick=lambda e: self._recolour(one, _rgb(e.color)))
            own.props("no-header")
            ui.button("Other", on_click=own.open).props("flat dense no-caps size=sm")

    def _recolour(self, one: _Shown, colour: Rgb) -> None:
        self._change(one, colour=colour)
        self._draw()


def _rgb(colour: str) -> Rgb:
    red, green, blue = bytes.fromhex(colour.lstrip("#")[:6])
    return red, green, blue
