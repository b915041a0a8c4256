"""Charts as inline SVG: drawn here, so that a report needs no plotting library and no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from panimbus.core.types import Array
from panimbus.evaluate.calibration import Calibration

MODEL, OTHER, ORACLE, POSITIVE, NEGATIVE = "#7e2268", "#8a8f96", "#0088d6", "#c2476b", "#6b7785"
LINES = ("#0088d6", "#5a9e1e", "#c77700", "#008f8a", "#b0457f", "#6d6fd0", "#8a6d3b", "#606060")
_ROW = 19


@dataclass
class Canvas:
    """SVG elements, and the size of what they are drawn on."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def line(
        self,
        a: tuple[float, float],
        b: tuple[float, float],
        colour: str = "#d8d7d2",
        width: float = 1,
        dash: str = "",
    ) -> None:
        """A straight line."""
        more = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" '
            f'stroke="{colour}" stroke-width="{width:g}"{more}/>'
        )

    def text(
        self, at: tuple[float, float], text: str, *, anchor: str = "start", kind: str = ""
    ) -> None:
        """One line of text."""
        self.parts.append(
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}"'
            f' class="{kind}">{html.escape(text)}</text>'
        )

    def dot(
        self,
        at: tuple[float, float],
        colour: str,
        *,
        radius: float = 4,
        hollow: bool = False,
        title: str = "",
    ) -> None:
        """A circle; the title is shown under the mouse."""
        fill = "#fff" if hollow else colour
        inner = f"<title>{html.escape(title)}</title>" if title else ""
        self.parts.append(
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:.1f}" fill="{fill}"'
            f' stroke="{colour}" stroke-width="1.6">{inner}</circle>'
        )

    def area(self, x: Array, y: Array, floor: float, colour: str) -> None:
        """The area under a curve, and the curve."""
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        self.parts.append(
            f'<polygon points="{x[0]:.1f},{floor:.1f} {points} {x[-1]:.1f},{floor:.1f}"'
            f' fill="{colour}" fill-opacity=".25"/><polyline points="{points}" fill="none"'
            f' stroke="{colour}" stroke-width="1.8"/>'
        )

    def polyline(self, x: Sequence[float], y: Sequence[float], colour: str, width: float) -> None:
        """A line through points."""
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        self.parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
        )

    def box(self, at: tuple[float, float], size: tuple[float, float], colour: str) -> None:
        """A filled rectangle."""
        self.parts.append(
            f'<rect x="{at[0]:.1f}" y="{at[1]:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"'
            f' fill="{colour}"/>'
        )

    def svg(self, label: str) -> str:
        """The element."""
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img"'
            f' aria-label="{html.escape(label)}"'
            f' style="max-width:{self.width:g}px">{"".join(self.parts)}</svg>'
        )


@dataclass(frozen=True)
class ForestRow:
    """One marker of `forest`.

    F1 of the model with its interval, and of others (colour, hollow or not -> F1).
    """

    label: str
    group: str
    f1: float
    low: float
    high: float
    others: tuple[tuple[str, float], ...]


def forest(rows: Sequence[ForestRow], *, width: float = 760) -> str:
    """F1 of every marker, a block a group.

    A dot with its interval for the model, hollow dots for the others.
    """
    left, right = 190.0, width - 20
    groups = list(dict.fromkeys(r.group for r in rows))
    canvas = Canvas(width, _ROW * len(rows) + 30 * len(groups) + 30)

    def x(value: float) -> float:
        return left + (right - left) * value

    y = 6.0
    for group in groups:
        y += 22
        canvas.text((4, y), group, kind="strong")
        mine = sorted((r for r in rows if r.group == group), key=lambda r: -r.f1)
        top, y = y + 8, y + 8
        for tick in np.linspace(0, 1, 6):
            canvas.line((x(tick), top), (x(tick), top + _ROW * len(mine)))
        for row in mine:
            y += _ROW
            middle = y - _ROW / 2
            canvas.text((left - 10, middle + 4), row.label, anchor="end")
            if np.isfinite(row.low):
                canvas.line((x(row.low), middle), (x(row.high), middle), MODEL, 2)
            for colour, value in row.others:
                if np.isfinite(value):
                    canvas.dot((x(value), middle), colour, hollow=True, title=f"{value:.2f}")
            canvas.dot(
                (x(row.f1), middle),
                MODEL,
                radius=4.5,
                title=f"{row.label}: {row.f1:.2f} ({row.low:.2f}–{row.high:.2f})",
            )
    for tick in np.linspace(0, 1, 6):
        canvas.text((x(tick), y + 18), f"{tick:.1f}", anchor="middle", kind="soft")
    return canvas.svg("F1 of every marker")


def calibration_plot(curves: Mapping[str, Calibration], main: str, *, side: float = 360) -> str:
    """Share of positive cells against score.

    ``main`` with intervals and the weight of each bin, the others as thin lines.
    """
    left, low, size = 46.0, side - 34, side - 60
    canvas = Canvas(side + 20, side + 8)

    def at(score: float, share: float) -> tuple[float, float]:
        return left + size * score, low - size * share

    for tick in np.linspace(0, 1, 6):
        canvas.line(at(tick, 0), at(tick, 1))
        canvas.line(at(0, tick), at(1, tick))
        canvas.text((left + size * tick, low + 16), f"{tick:.1f}", anchor="middle", kind="soft")
        canvas.text((left - 6, low - size * tick + 4), f"{tick:.1f}", anchor="end", kind="soft")
    canvas.line(at(0, 0), at(1, 1), "#b9b8b2", 1.2, "4 3")
    for colour, curve in zip(LINES * 8, (c for n, c in curves.items() if n != main), strict=False):
        points = [at(s, p) for s, p in zip(curve.score, curve.positive, strict=True)]
        canvas.polyline([p[0] for p in points], [p[1] for p in points], colour, 1.2)
    curve = curves[main]
    for k in range(len(curve.score)):
        canvas.box(
            at(curve.low[k] + 0.01, 0.25 * curve.weight[k]),
            (size * 0.08, size * 0.25 * curve.weight[k]),
            "#e3d3de",
        )
    points = [at(s, p) for s, p in zip(curve.score, curve.positive, strict=True)]
    canvas.polyline([p[0] for p in points], [p[1] for p in points], MODEL, 2)
    for k, point in enumerate(points):
        canvas.line(
            at(curve.score[k], curve.positive_low[k]),
            at(curve.score[k], curve.positive_high[k]),
            MODEL,
            1.4,
        )
        said = (
            f"score {curve.score[k]:.2f}: {100 * curve.positive[k]:.0f} % positive,"
            f" {curve.cells[k]} calls"
        )
        canvas.dot(point, MODEL, title=said)
    canvas.text((left + size / 2, side + 2), "score", anchor="middle", kind="soft")
    canvas.text((4, 14), "share of positive cells", kind="soft")
    return canvas.svg("calibration curve")


def density(
    values: Array, weights: Array, *, bins: int = 200, bandwidth: float = 0.025
) -> npt.NDArray[np.float64]:
    """Kernel density of values in 0..1, reflected at both ends.

    Returns
    -------
    (bins,) float64
        At the middle of equal bins; its mean is 1, or it is 0 without values.
    """
    from scipy.ndimage import gaussian_filter1d

    count = np.histogram(np.clip(values, 0, 1), bins, (0, 1), weights=weights)[0].astype(np.float64)
    if not count.sum() > 0:
        return np.zeros(bins)
    return np.asarray(
        gaussian_filter1d(count, bandwidth * bins, mode="reflect") * bins / count.sum()
    )


def density_plot(
    values: Array,
    truth: Array,
    weights: Array,
    *,
    ticks: Mapping[float, str],
    size: tuple[float, float] = (360, 170),
    cut: float = -1,
    name: str = "",
) -> str:
    """Densities of positive and negative cells over 0..1, each of area 1, square root of the height
    so that both are seen.
    """
    width, height = size
    small = height < 100
    left, right, low = 6.0, width - 6, height - (14 if small else 22)
    canvas = Canvas(width, height)
    curves = [density(values[truth == t], weights[truth == t]) for t in (0, 1)]
    top = max(1e-9, *(float(c.max()) for c in curves))
    x = left + (right - left) * (np.arange(len(curves[0])) + 0.5) / len(curves[0])
    canvas.line((left, low), (right, low))
    for at, label in ticks.items():
        where = left + (right - left) * at
        canvas.line((where, low), (where, low + 3))
        anchor = "start" if at == 0 else "end" if at == 1 else "middle"
        canvas.text(
            (where, height - 2), label, anchor=anchor, kind="small soft" if small else "soft"
        )
    if 0 <= cut <= 1:
        canvas.line(
            (left + (right - left) * cut, low),
            (left + (right - left) * cut, 4),
            "#55585d",
            1,
            "3 3",
        )
    if name:
        canvas.text((right, 10), name, anchor="end", kind="small soft")
    for curve, colour in zip(curves, (NEGATIVE, POSITIVE), strict=True):
        if curve.any():
            canvas.area(x, low - (low - (15 if name else 4)) * np.sqrt(curve / top), low, colour)
    return canvas.svg("densities of positive and negative cells")


def bars(
    rows: Sequence[tuple[str, Sequence[tuple[str, float, float]]]],
    *,
    top: float,
    width: float = 560,
) -> str:
    """A block of bars a row: (label, [(colour, value, mark)]); the mark is a tick, e.g.

    what chance gives.
    """
    left, right = 130.0, width - 50
    canvas = Canvas(width, sum(15 * len(r[1]) + 12 for r in rows) + 8)
    y = 6.0
    for label, values in rows:
        canvas.text((left - 10, y + 7.5 * len(values) + 4), label, anchor="end")
        for colour, value, mark in values:
            long = (right - left) * min(value / top, 1) if top > 0 else 0.0
            canvas.box((left, y), (max(long, 0.5), 11), colour)
            if np.isfinite(mark) and top > 0:
                canvas.line(
                    (left + (right - left) * min(mark / top, 1), y - 1),
                    (left + (right - left) * min(mark / top, 1), y + 12),
                    "#222",
                    1.6,
                )
            canvas.text(
                (
                    left + max(long, (right - left) * min(mark / top, 1) if top > 0 else 0) + 6,
                    y + 10,
                ),
                f"{value:.3f}",
                kind="small soft",
            )
            y += 15
        y += 12
    return canvas.svg("mutual information")
