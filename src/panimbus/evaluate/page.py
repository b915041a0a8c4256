"""The picture as a page (HTML with everything inside) and as one sheet (an image)."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np

from panimbus.core.types import UInt8Array
from panimbus.evaluate.metrics import Metrics, mean_f1
from panimbus.evaluate.paint import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    SCALE,
    UNKNOWN,
    Rgb,
    colours,
    css,
)
from panimbus.evaluate.picture import Drawn, MarkerPanel, data_uri
from panimbus.evaluate.text import draw_text

INK: Rgb = (34, 36, 40)
SOFT: Rgb = (112, 116, 122)
PAPER: Rgb = (250, 250, 248)
_STEPS = (10, 20, 25, 50, 100, 200)

STYLE = """
:root { --ink: #222428; --soft: #70747a; --line: #e2e1dc; --paper: #fafaf8; --card: #ffffff; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1500px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; font-weight: 650; letter-spacing: -.01em; margin: 0 0 2px; }
.lead { color: var(--soft); margin: 0 0 18px; }
.about { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 0; font-size: 14px; min-width: 0; }
.about dt { color: var(--soft); } .about dd { margin: 0; overflow-wrap: anywhere; }
.about dd.command { font: 13px/1.6 ui-monospace, Menlo, Consolas, monospace; }
.head { display: flex; flex-wrap: wrap; gap: 20px 48px; justify-content: space-between; align-items: flex-end; }
.head > * { flex: 1 1 380px; }
.legend { font-size: 13px; color: var(--soft); }
.bar { position: relative; height: 14px; border-radius: 3px; }
.bar i { position: absolute; top: -4px; bottom: -4px; width: 2px; background: var(--ink); }
.ticks { display: flex; justify-content: space-between; margin: 3px 0 8px; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 18px; }
.keys span::before { content: ""; display: inline-block; width: 13px; height: 13px; margin-right: 6px; vertical-align: -2px;
  border-radius: 3px; background: var(--fill, transparent); border: 3px solid var(--edge, var(--fill)); }
.row { display: grid; grid-template-columns: 132px repeat(3, minmax(0, 1fr)); gap: 14px; align-items: start;
  padding: 14px 0; border-top: 1px solid var(--line); }
.names { position: sticky; top: 0; z-index: 1; background: var(--paper); border-top: 0; padding: 18px 0 8px; font-size: 13px;
  color: var(--soft); font-weight: 600; }
.row h2 { font-size: 18px; font-weight: 650; margin: 0 0 4px; overflow-wrap: anywhere; }
.row p { margin: 0; font-size: 13px; color: var(--soft); } .row p b { color: var(--ink); font-weight: 600; font-size: 15px; }
figure { margin: 0; position: relative; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  overflow: hidden; }
figure img { display: block; width: 100%; height: auto; }
.um { position: absolute; left: 10px; bottom: 8px; border-bottom: 3px solid var(--ink); font-size: 11px; line-height: 1.3;
  text-align: center; white-space: nowrap; text-shadow: 0 0 3px #fff, 0 0 3px #fff; }
footer { margin-top: 24px; color: var(--soft); font-size: 13px; }
@media (max-width: 760px) {
  main { padding: 18px 12px 40px; }
  .row { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 6px; }
  .row > div { grid-column: 1 / -1; display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: baseline; }
  .names > div { display: none; } .um { display: none; }
}
"""


def html_page(drawn: Drawn, about: Mapping[str, str], threshold: float) -> str:
    """The page as text."""
    title = html.escape(about.get("title", "panimbus"))
    facts = "".join(
        f'<dt>{html.escape(k)}</dt><dd class="{html.escape(k)}">{html.escape(v)}</dd>'
        for k, v in about.items()
        if k != "title"
    )
    third = (
        "truth, wrong calls outlined" if drawn.truth else "mean intensity of the cell (square root)"
    )
    rows = "".join(_row(panel, drawn) for panel in drawn.panels)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,'
        f' initial-scale=1"><style>{STYLE}</style></head><body><main>'
        f'<h1>{title}</h1><p class="lead">{_lead(drawn)}</p>'
        f'<div class="head"><dl class="about">{facts}</dl>{_legend(drawn, threshold)}</div>'
        '<div class="row names"><div></div><span>image</span><span>positivity'
        f" score</span><span>{third}</span></div>"
        f"{rows}<footer>Numbers are of all cells of the FOV; the pictures show a window of it. Each"
        " image is as dark as its "
        f"intensity, black at the marker's normaliser.</footer></main></body></html>\n"
    )


def _lead(drawn: Drawn) -> str:
    mean, otsu = _means(drawn)
    if mean is None:
        return f"{len(drawn.panels)} markers, cell by cell"
    return (
        f"{len(drawn.panels)} markers, cell by cell: mean F1 <b>{_two(mean)}</b>, Otsu on mean"
        f" intensity {_two(otsu)}"
    )


def _means(drawn: Drawn) -> tuple[float | None, float]:
    quality = {p.name: p.quality for p in drawn.panels if p.quality is not None}
    baseline = {p.name: p.baseline for p in drawn.panels if p.baseline is not None}
    return (mean_f1(quality), mean_f1(baseline)) if quality else (None, float("nan"))


def _row(panel: MarkerPanel, drawn: Drawn) -> str:
    name = html.escape(panel.name)
    images = (
        (panel.image, "image"),
        (panel.score, "score"),
        (panel.reference, "truth" if drawn.truth else "mean intensity"),
    )
    bar = _bar_um(drawn.width_um)
    mark = f'<span class="um" style="width:{100 * bar / drawn.width_um:.2f}%">{bar:g} µm</span>'
    figures = "".join(
        f'<figure><img src="{data_uri(image)}" alt="{name}:'
        f' {what}">{mark if k == 0 else ""}</figure>'
        for k, (image, what) in enumerate(images)
    )
    return f'<section class="row"><div><h2>{name}</h2>{_facts(panel)}</div>{figures}</section>'


def _facts(panel: MarkerPanel) -> str:
    lines = []
    if panel.quality is not None:
        lines.append(f"<p>F1 <b>{_f1(panel.quality)}</b></p><p>Otsu {_f1(panel.baseline)}</p>")
    lines.append(
        "<p>blank: nothing to score</p>"
        if panel.blank
        else f"<p>{100 * panel.share:.1f} % positive</p>"
    )
    return "".join(lines)


def _legend(drawn: Drawn, threshold: float) -> str:
    stops = ", ".join(css(c) for c in SCALE)
    keys = [
        ("negative", SCALE[0], SCALE[0]),
        ("positive", SCALE[-1], SCALE[-1]),
        ("not known", UNKNOWN, UNKNOWN),
    ]
    errors = [
        ("false positive", SCALE[0], FALSE_POSITIVE),
        ("false negative", SCALE[-1], FALSE_NEGATIVE),
    ]
    spans = "".join(
        f'<span style="--fill:{css(fill)};--edge:{css(edge)}">{name}</span>'
        for name, fill, edge in [*keys, *errors]
    )
    return (
        f'<div class="legend"><div class="bar" style="background:linear-gradient(90deg, {stops})">'
        f'<i style="left:{100 * threshold:g}%"></i></div><div class="ticks"><span>0</span>'
        f"<span>score (positive from {threshold:g})</span><span>1</span></div>"
        + (f'<div class="keys">truth: {spans}</div>' if drawn.truth else "")
        + "</div>"
    )


def _f1(value: Metrics | None) -> str:
    return "–" if value is None else _two(value.f1)


def _two(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _bar_um(width_um: float) -> float:
    return float(max((s for s in _STEPS if s <= width_um / 4), default=1))


# -- the sheet
# -----------------------------------------------------------------------------------------------------------------

_GAP, _LINE, _BETWEEN = 6, 30, 26


def contact_sheet(drawn: Drawn, about: Mapping[str, str]) -> UInt8Array:
    """All rows on one image, three pictures a marker, as many markers side by side as make it about
    as wide as high.
    """
    side = 240 if len(drawn.panels) <= 16 else 160 if len(drawn.panels) <= 36 else 120
    tiles = [_tile(panel, side) for panel in drawn.panels]
    height, width = (max(t.shape[k] for t in tiles) for k in (0, 1))
    across = min(
        range(1, 5), key=lambda n: abs(np.log(1.25 * -(-len(tiles) // n) * height / (n * width)))
    )
    across = min(across, len(tiles))
    down = -(-len(tiles) // across)
    total = (across * (width + _BETWEEN) + _BETWEEN, 118 + down * (height + _BETWEEN))
    sheet = np.full((total[1], total[0], 3), PAPER, np.uint8)
    _head(sheet, drawn, about)
    for k, tile in enumerate(tiles):
        y = 118 + (k // across) * (height + _BETWEEN)
        x = _BETWEEN + (k % across) * (width + _BETWEEN)
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return np.asarray(
        (sheet & 0xF8) | (sheet >> 5), np.uint8
    )  # 32 steps a colour: looks the same, and the file is much smaller


def _head(sheet: UInt8Array, drawn: Drawn, about: Mapping[str, str]) -> None:
    write(sheet, about.get("title", "panimbus"), (20, _BETWEEN), 26)
    mean, otsu = _means(drawn)
    line = (
        f"image | score | {'truth' if drawn.truth else 'mean intensity'}, {drawn.width_um:.0f} µm"
        " wide"
    )
    if mean is not None:
        line += f"     mean F1 {_two(mean)} (Otsu {_two(otsu)})"
    write(sheet, line, (54, _BETWEEN), 18, SOFT)
    x = _BETWEEN + write(sheet, "score 0", (82, _BETWEEN), 18, SOFT) + 8
    sheet[84:98, x : x + 160] = colours(np.linspace(0, 1, 160))[None]
    x += 168 + write(sheet, "1", (82, x + 168), 18, SOFT) + 22
    for name, fill, edge in _keys(drawn):
        if x > sheet.shape[1] - 170:
            break
        sheet[83:99, x : x + 16] = edge
        sheet[86:96, x + 3 : x + 13] = fill
        x += 24 + write(sheet, name, (82, x + 22), 18, SOFT) + 20


def _keys(drawn: Drawn) -> Sequence[tuple[str, Rgb, Rgb]]:
    if not drawn.truth:
        return ()
    return (
        ("false positive", SCALE[0], FALSE_POSITIVE),
        ("false negative", SCALE[-1], FALSE_NEGATIVE),
        ("not known", UNKNOWN, UNKNOWN),
    )


def _tile(panel: MarkerPanel, side: int) -> UInt8Array:
    """A marker's name, its numbers, and its three pictures side by side."""
    pictures = [
        _fit(p, side)
        for p in (np.repeat(panel.image[..., None], 3, 2), panel.score, panel.reference)
    ]
    height = max(p.shape[0] for p in pictures)
    tile = np.full((_LINE + height, 3 * side + 2 * _GAP, 3), PAPER, np.uint8)
    x = write(tile, panel.name, (2, 0), 22) + 16
    facts = "blank" if panel.blank else f"{100 * panel.share:.1f} % positive"
    if panel.quality is not None:
        facts = f"F1 {_f1(panel.quality)} (Otsu {_f1(panel.baseline)})   {facts}"
    write(tile, facts.replace("–", "-"), (5, x), 17, SOFT)
    for k, picture in enumerate(pictures):
        left = k * (side + _GAP)
        tile[_LINE : _LINE + picture.shape[0], left : left + picture.shape[1]] = picture
    return tile


def _fit(image: UInt8Array, side: int) -> UInt8Array:
    """Shrink or enlarge to ``side`` pixels on the longer axis."""
    from scipy import ndimage

    zoom = side / max(image.shape[:2])
    blurred = (
        ndimage.gaussian_filter(image.astype(np.float32), (0.35 / zoom, 0.35 / zoom, 0))
        if zoom < 1
        else image
    )
    out = ndimage.zoom(
        np.asarray(blurred, np.float32), (zoom, zoom, 1), order=1, grid_mode=True, mode="nearest"
    )
    return np.clip(np.round(out), 0, 255).astype(np.uint8)[:side, :side]


def write(image: UInt8Array, text: str, at: tuple[int, int], height: int, colour: Rgb = INK) -> int:
    """Write a line into an image at (y, x); what does not fit is cut.

    Returns its width in pixels.
    """
    ink = draw_text(text, height)
    part = image[at[0] : at[0] + ink.shape[0], at[1] : at[1] + ink.shape[1]]
    cover = ink[: part.shape[0], : part.shape[1], None]
    part[...] = np.round(part * (1 - cover) + np.array(colour) * cover).astype(np.uint8)
    return int(ink.shape[1])
