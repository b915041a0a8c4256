"""Pictures of a FOV as a page (``picture.html``) and as one image (``picture.png``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.types import UInt8Array
from panimbus.evaluate.metrics import mean_f1
from panimbus.evaluate.picture import Drawn, MarkerPanel, Subject, choose_window, draw
from panimbus.io.files import atomic_path
from panimbus.render.images import encode_png, fit, font
from panimbus.render.page import format_number, render_page
from panimbus.render.paint import FALSE_NEGATIVE, FALSE_POSITIVE, SCALE, UNKNOWN, score_colours
from panimbus.render.palette import Rgb, hex_colour

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIDES = ((400.0, 420), (320.0, 330), (250.0, 255), (190.0, 190), (140.0, 140))
"""Width of the window in µm and in pixels: smaller for many markers, to keep the page light."""
PAGE_BYTES = 4_500_000
_KEYS: dict[str, tuple[Rgb, Rgb]] = {  # fill and edge
    "negative": (SCALE[0], SCALE[0]),
    "positive": (SCALE[-1], SCALE[-1]),
    "not known": (UNKNOWN, UNKNOWN),
    "false positive": (SCALE[0], FALSE_POSITIVE),
    "false negative": (SCALE[-1], FALSE_NEGATIVE),
}
_BARS_UM = (10, 20, 25, 50, 100, 200)
_PAPER, _INK, _SOFT = (250, 250, 248), (34, 36, 40), (112, 116, 122)
_GAP, _LINE, _BETWEEN, _HEAD = 6, 30, 26, 118


def write_picture(subject: Subject, out: Path, about: Mapping[str, str]) -> tuple[Path, Path]:
    """Write ``picture.html`` (everything inside, no network) and ``picture.png`` into a folder.

    Parameters
    ----------
    subject
    out
        Folder.
    about
        Facts for the head: name -> text (title, dataset, model, date, command).

    Returns
    -------
    html, png : Path
    """
    for side_um, side_px in SIDES:
        drawn = draw(subject, choose_window(subject, side_um), side_px)
        page = html_page(drawn, about, subject.threshold)
        if len(page) <= PAGE_BYTES:
            break
    paths = out / "picture.html", out / "picture.png"
    with atomic_path(paths[0]) as temporary:
        temporary.write_text(page, encoding="utf-8")
    with atomic_path(paths[1]) as temporary:
        temporary.write_bytes(encode_png(contact_sheet(drawn, about), level=9))
    return paths


def html_page(drawn: Drawn, about: Mapping[str, str], threshold: float) -> str:
    """The page as text."""
    mean, otsu = _means(drawn)
    bar = max((um for um in _BARS_UM if um <= drawn.width_um / 4), default=1)
    keys = [(name, *map(hex_colour, pair)) for name, pair in _KEYS.items()] if drawn.truth else []
    return render_page(
        "picture.html", title=about.get("title", "panimbus"), about=about, panels=drawn.panels,
        mean=mean, otsu=otsu, truth=drawn.truth, width_um=drawn.width_um, bar_um=bar,
        threshold=threshold, scale=SCALE, keys=keys,
    )  # fmt: skip


def _means(drawn: Drawn) -> tuple[float | None, float]:
    quality = {p.name: p.quality for p in drawn.panels if p.quality is not None}
    baseline = {p.name: p.baseline for p in drawn.panels if p.baseline is not None}
    return (mean_f1(quality), mean_f1(baseline)) if quality else (None, math.nan)


def contact_sheet(drawn: Drawn, about: Mapping[str, str]) -> UInt8Array:
    """All markers on one image, three pictures each, about as wide as high: (h, w, 3) uint8."""
    from PIL import Image, ImageDraw

    side = 240 if len(drawn.panels) <= 16 else 160 if len(drawn.panels) <= 36 else 120
    tiles = [_tile(panel, side) for panel in drawn.panels]
    width, height = (max(tile.size[k] for tile in tiles) for k in (0, 1))
    across = min(
        range(1, min(4, len(tiles)) + 1),
        key=lambda n: abs(math.log(1.25 * -(-len(tiles) // n) * height / (n * width))),
    )
    down = -(-len(tiles) // across)
    size = across * (width + _BETWEEN) + _BETWEEN, _HEAD + down * (height + _BETWEEN)
    sheet = Image.new("RGB", size, _PAPER)
    for k, tile in enumerate(tiles):
        column, row = k % across, k // across
        sheet.paste(
            tile, (_BETWEEN + column * (width + _BETWEEN), _HEAD + row * (height + _BETWEEN))
        )
    _head(sheet, ImageDraw.Draw(sheet), drawn, about)
    pixels = np.asarray(sheet)
    return np.asarray((pixels & 0xF8) | (pixels >> 5))  # 32 steps per colour: a smaller file


def _head(sheet: Image, pen: ImageDraw, drawn: Drawn, about: Mapping[str, str]) -> None:
    from PIL import Image

    pen.text((_BETWEEN, 16), about.get("title", "panimbus"), _INK, font(22))
    mean, otsu = _means(drawn)
    reference = "truth" if drawn.truth else "mean intensity"
    line = f"image | score | {reference}, {drawn.width_um:.0f} µm wide"
    if mean is not None:
        line += f"     mean F1 {format_number(mean)} (Otsu {format_number(otsu)})"
    pen.text((_BETWEEN, 50), line, _SOFT, font(14))
    x = _BETWEEN + _write(pen, (_BETWEEN, 80), "score 0") + 8
    scale = Image.fromarray(np.repeat(score_colours(np.linspace(0, 1, 160))[None], 14, 0))
    sheet.paste(scale, (x, 82))
    x += 168 + _write(pen, (x + 168, 80), "1") + 22
    for name, (fill, edge) in _KEYS.items() if drawn.truth else ():
        pen.rectangle((x, 82, x + 14, 96), fill, edge, 3)
        x += 42 + _write(pen, (x + 22, 80), name)


def _write(pen: ImageDraw, at: tuple[int, int], text: str) -> int:
    """Write a line in the head; its width in pixels."""
    pen.text(at, text, _SOFT, font(14))
    return math.ceil(font(14).getlength(text))


def _tile(panel: MarkerPanel, side: int) -> Image:
    """A marker's name, its numbers, and its three pictures side by side."""
    from PIL import Image, ImageDraw

    pictures = [fit(p, side) for p in (panel.image, panel.score, panel.reference)]
    height = _LINE + max(p.size[1] for p in pictures)
    tile = Image.new("RGB", (3 * side + 2 * _GAP, height), _PAPER)
    pen = ImageDraw.Draw(tile)
    facts = "blank" if panel.blank else f"{100 * panel.share:.1f} % positive"
    if panel.quality is not None and panel.baseline is not None:
        f1, otsu = format_number(panel.quality.f1), format_number(panel.baseline.f1)
        facts = f"F1 {f1} (Otsu {otsu})   {facts}"
    pen.text((0, 2), panel.name, _INK, font(18))
    pen.text((font(18).getlength(panel.name) + 14, 6), facts, _SOFT, font(13))
    for k, picture in enumerate(pictures):
        tile.paste(picture, (k * (side + _GAP), _LINE))
    return tile
