"""Pictures over HTTP: tiles, crops, thumbnails and whole views.

A FOV is a number, a cell a row, a channel a position: no text of a request names a file.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Path, Query, Response

from panimbus.core.errors import InputError, PanimbusError
from panimbus.core.types import UInt8Array
from panimbus.render.images import encode_png
from panimbus.viewer.map import CRS, CRS_SCRIPT
from panimbus.viewer.pictures import TILE
from panimbus.viewer.state import Viewer
from panimbus.viewer.style import parse_cells, parse_channels

_KEEP = {"cache-control": "private, max-age=86400"}
Number = Annotated[int, Path(ge=0, lt=1 << 31)]


def picture_routes(viewer: Viewer) -> APIRouter:
    """The routes of a viewer's pictures."""
    router = APIRouter()
    pictures = viewer.pictures

    def fov_of(number: int) -> str:
        fovs = viewer.result.fovs
        if number >= len(fovs):
            raise InputError("There is no such FOV.")
        return fovs[number]

    @router.get("/tiles/{fov}/image/{z}/{x}/{y}.png")
    def image_tile(fov: Number, z: Number, x: Number, y: Number, c: str) -> Response:
        name = fov_of(fov)
        styles = parse_channels(c, len(viewer.result.fov(name).channels))
        return _png(pictures.image_tile(name, (z, x, y), styles))

    @router.get("/tiles/{fov}/cells/{z}/{x}/{y}.png")
    def cell_tile(fov: Number, z: Number, x: Number, y: Number, s: str) -> Response:
        style = parse_cells(s, len(viewer.tables.markers))
        return _png(pictures.cell_tile(fov_of(fov), (z, x, y), style))

    @router.get("/crops/{fov}/{row}/{channel}.png")
    def crop(
        fov: Number, row: Number, channel: Number, side: int = 64, s: str = "", limits: str = ""
    ) -> Response:
        name = fov_of(fov)
        if row >= viewer.tables.cells.n_obs or channel >= len(viewer.result.fov(name).channels):
            raise InputError("There is no such cell or channel.")
        style = parse_cells(s, len(viewer.tables.markers)) if s else None
        contrast = _pair(limits) if limits else None
        return _png(pictures.crop(name, row, channel, side=side, style=style, limits=contrast))

    @router.get("/thumbs/{fov}/{side}.png")
    def thumbnail(fov: Number, side: Annotated[int, Path(ge=16, le=512)], c: str = "") -> Response:
        name = fov_of(fov)
        if viewer.overviews.needed(name):
            return _png(np.full((side, side, 3), 40, np.uint8))
        count = len(viewer.result.fov(name).channels)
        styles = parse_channels(c, count) if c else pictures.first_styles(name)
        return _png(pictures.thumbnail(name, styles, side))

    @router.get("/views/{fov}/{zoom}.png")
    def view(fov: Number, zoom: Annotated[int, Path(ge=0, le=40)], box: str, c: str,
             s: Annotated[str, Query()] = "") -> Response:  # fmt: skip
        name = fov_of(fov)
        styles = parse_channels(c, len(viewer.result.fov(name).channels))
        cells = parse_cells(s, len(viewer.tables.markers)) if s else None
        answer = _png(pictures.view(name, _box(box), zoom, styles, cells))
        answer.headers["content-disposition"] = (
            f"attachment; filename*=UTF-8''{quote(name, '')}.png"
        )
        return answer

    @router.get(CRS)
    def crs() -> Response:
        return Response(CRS_SCRIPT, media_type="text/javascript", headers=_KEEP)

    return router


def _png(image: UInt8Array | None) -> Response:
    data = _empty() if image is None else encode_png(image, level=1)
    return Response(data, media_type="image/png", headers=_KEEP)


@lru_cache
def _empty() -> bytes:
    return encode_png(np.zeros((TILE, TILE, 4), np.uint8))


def _box(text: str) -> tuple[int, int, int, int]:
    try:
        y0, y1, x0, x1 = (int(part) for part in text[:100].split(","))
    except ValueError:
        raise InputError("The view's box is wrong.", expected="y0,y1,x0,x1") from None
    return y0, y1, x0, x1


def _pair(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text[:100].split(","))
    except ValueError:
        raise InputError("The contrast is wrong.", expected="low,high") from None
    if not max(abs(low), abs(high)) < float(np.finfo(np.float32).max) / 4:
        raise InputError("The contrast is wrong.", expected="two numbers of 32 bits")
    return low, high


def refusal(_: Any, error: Exception) -> Response:
    """Answer to a request that names what is not there, or pixels that cannot be read."""
    status = 500 if not isinstance(error, PanimbusError) else 400
    return Response(str(error), status_code=status, media_type="text/plain; charset=utf-8")
