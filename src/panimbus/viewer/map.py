"""The map of a FOV: Leaflet with tiles that the server draws, pixels as coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from panimbus.viewer.pictures import ENLARGED, TILE, native_zoom
from panimbus.viewer.state import Page
from panimbus.viewer.style import CellStyle, ChannelStyle, format_channels
from panimbus.viewer.tiles import scale_bar

CRS = "/static/crs.js"
CRS_SCRIPT = "window.L.Map.mergeOptions({crs: window.L.CRS.Simple});"
"""Coordinates are pixels, not degrees on a globe; Leaflet's map is made with it."""
_BAR = 140  # longest scale bar in screen pixels
_HOVER_S = 0.12


class TissueMap:
    """A FOV that can be panned and zoomed, with its cells over it.

    Parameters
    ----------
    page
    channels
        Channels first shown.
    cells
        Cells first shown; None: none.
    on_click, on_hover
        Called with (y, x) in pixels of the image.
    """

    def __init__(
        self,
        page: Page,
        channels: Sequence[ChannelStyle],
        cells: CellStyle | None,
        *,
        on_click: Callable[[int, int], Any] | None = None,
        on_hover: Callable[[int, int], Any] | None = None,
    ) -> None:
        self._page = page
        self.shape = page.viewer.pictures.pyramids(page.fov_id)[0].shape
        self.native = native_zoom(self.shape)
        self.zoom, self._mpp = 0, page.viewer.result.mpp.get(page.fov_id)
        self._mark: Any = None
        height, width = self.shape
        with ui.element("div").classes("relative w-full h-full"):
            self.leaflet = ui.leaflet(
                center=self._point(height / 2, width / 2), zoom=0,
                options={
                    "attributionControl": False, "minZoom": 0, "maxZoom": self.native + ENLARGED,
                    "zoomSnap": 1, "maxBounds": self._bounds(margin=0.5), "maxBoundsViscosity": 0.7,
                },
                additional_resources=[CRS],
            ).classes("w-full h-full").props('aria-label="Tissue" data-test="map"')  # fmt: skip
            self.leaflet.clear_layers()
            with ui.element("div").classes("absolute bottom-3 left-3 pn-scale"):
                self._bar = ui.label().props('data-test="scale"')
        self._image = self._layer(self._image_url(channels), self.native, 1)
        self._cells = self._layer(self._cell_url(cells), self.native + ENLARGED, 2)
        self.leaflet.on("init", self._begin)
        self.leaflet.on("map-zoomend", self._zoomed, ["zoom"])
        if on_click is not None:
            self.leaflet.on("map-click", lambda e: on_click(*self._pixel(e)), ["latlng"])
        if on_hover is not None:
            self.leaflet.on(
                "map-mousemove", lambda e: on_hover(*self._pixel(e)), ["latlng"],
                throttle=_HOVER_S, leading_events=False,
            )  # fmt: skip

    def show_channels(self, styles: Sequence[ChannelStyle]) -> None:
        """Draw other channels."""
        self._image.url_template = self._image_url(styles)
        self.leaflet.run_layer_method(self._image.id, "setUrl", self._image.url_template)

    def show_cells(self, style: CellStyle | None) -> None:
        """Draw cells in another way; None hides them."""
        self._cells.url_template = self._cell_url(style)
        self.leaflet.run_layer_method(self._cells.id, "setUrl", self._cells.url_template)

    def go(self, y: float, x: float, zoom: int | None = None) -> None:
        """Move the middle of the map to a pixel, and mark it."""
        self.mark(y, x)
        zoom = min(self.native + 2, self.native + ENLARGED) if zoom is None else zoom
        self.leaflet.run_map_method("setView", self._point(y, x), zoom)

    def mark(self, y: float, x: float) -> None:
        """Draw a ring around a pixel."""
        if self._mark is not None:
            self.leaflet.remove_layer(self._mark)
        ring = {"radius": 22, "color": "#ffffff", "weight": 2, "fill": False, "interactive": False}
        self._mark = self.leaflet.generic_layer(
            name="circleMarker", args=[list(self._point(y, x)), ring]
        )

    def fit(self) -> None:
        """Show the whole FOV."""
        self.leaflet.run_map_method("fitBounds", self._bounds(), {"animate": False})

    async def box(self) -> tuple[int, int, int, int]:
        """(y0, y1, x0, x1) in pixels of what is in view."""
        bounds = await self.leaflet.run_map_method("getBounds")
        corners = (bounds["_northEast"]["lat"], bounds["_southWest"]["lat"])
        sides = (bounds["_southWest"]["lng"], bounds["_northEast"]["lng"])
        scale = 2**self.native
        y0, y1 = (round(-lat * scale) for lat in corners)
        x0, x1 = (round(lng * scale) for lng in sides)
        return max(y0, 0), min(y1, self.shape[0]), max(x0, 0), min(x1, self.shape[1])

    def _layer(self, url: str, deepest: int, order: int) -> Any:
        return self.leaflet.tile_layer(
            url_template=url,
            options={
                "tileSize": TILE, "noWrap": True, "bounds": self._bounds(), "zIndex": order,
                "maxZoom": self.native + ENLARGED, "maxNativeZoom": deepest,
                "className": "pn-pixels", "updateWhenZooming": False, "keepBuffer": 1,
            },
        )  # fmt: skip

    def _image_url(self, styles: Sequence[ChannelStyle]) -> str:
        where = "image/{z}/{x}/{y}.png"
        return self._page.viewer.address(
            "tiles", self._page.fov_id, where, c=format_channels(styles)
        )

    def _cell_url(self, style: CellStyle | None) -> str:
        if style is None:
            return "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
        return self._page.viewer.address(
            "tiles", self._page.fov_id, "cells/{z}/{x}/{y}.png", s=style
        )

    def _begin(self) -> None:
        self.fit()
        self._draw_bar()

    def _zoomed(self, event: GenericEventArguments) -> None:
        self.zoom = int(event.args["zoom"])
        self._draw_bar()

    def _draw_bar(self) -> None:
        if self._mpp is None:
            return
        length, pixels = scale_bar(self._mpp * 2.0 ** (self.native - self.zoom), _BAR)
        text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
        self._bar.set_text(text)
        self._bar.style(f"width: {pixels:.0f}px")

    def _point(self, y: float, x: float) -> tuple[float, float]:
        return -y / 2**self.native, x / 2**self.native

    def _bounds(self, margin: float = 0.0) -> list[list[float]]:
        height, width = self.shape
        more = margin * max(self.shape)
        return [
            list(self._point(height + more, -more)),
            list(self._point(-more, width + more)),
        ]

    def _pixel(self, event: GenericEventArguments) -> tuple[int, int]:
        place = event.args["latlng"]
        scale = 2**self.native
        return int(-place["lat"] * scale // 1), int(place["lng"] * scale // 1)
