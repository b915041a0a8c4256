"""Charts of an evaluation, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from panimbus.core.types import Array, BoolArray, Float64Array
from panimbus.evaluate.calibration import Calibration
from panimbus.render.charts import INK, LINE, SOFT, chart_style, new_figure, svg_chart

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

MODEL, OTHER, ORACLE, POSITIVE, NEGATIVE = "#7e2268", "#8a8f96", "#0088d6", "#c2476b", "#6b7785"
LINES = ("#0088d6", "#5a9e1e", "#c77700", "#008f8a", "#b0457f", "#6d6fd0", "#8a6d3b", "#606060")
_INTENSITY_TICKS = (0.0, 0.01, 0.1, 0.4, 1.0)


class ForestRow(NamedTuple):
    """One marker of `forest`: F1 of the model with its interval, and of two other methods."""

    label: str
    group: str
    f1: float
    low: float
    high: float
    otsu: float
    best_threshold: float


@chart_style()
def forest(rows: Sequence[ForestRow]) -> Markup:
    """F1 of every marker, best first within its group."""
    lines: list[str | ForestRow] = []
    for group in dict.fromkeys(row.group for row in rows):
        lines += [group, *sorted((r for r in rows if r.group == group), key=lambda r: -r.f1)]
    figure = new_figure(8, 0.7 + 0.2 * len(lines))
    axes = figure.subplots()
    for y, row in enumerate(lines):
        if isinstance(row, ForestRow):
            axes.plot([row.low, row.high], [y, y], color=MODEL, linewidth=2, zorder=2)
            for value, colour in ((row.otsu, OTHER), (row.best_threshold, ORACLE)):
                axes.plot(value, y, "o", markersize=5, mfc="white", mec=colour, zorder=3)
            axes.plot(row.f1, y, "o", markersize=6, color=MODEL, zorder=4)
    axes.set_yticks(range(len(lines)), [r if isinstance(r, str) else r.label for r in lines])
    for tick, row in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if isinstance(row, str) else "normal")
    axes.set(xlim=(-0.02, 1.02), ylim=(len(lines) - 0.5, -0.5), xlabel="F1")
    axes.grid(axis="x")
    _frame(axes, "bottom")
    return svg_chart(figure, "F1 of every marker")


@chart_style()
def calibration_plot(curves: Mapping[str, Calibration], main: str) -> Markup:
    """Share of positive cells against score.

    ``main`` with intervals, the weight of each bin as bars and its number of calls above them; the
    other curves as thin lines.
    """
    figure = new_figure(4.6, 4.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#b9b8b2", linewidth=1.2, linestyle="--")
    for k, curve in enumerate(c for name, c in curves.items() if name != main):
        axes.plot(curve.score, curve.positive, color=LINES[k % len(LINES)], linewidth=1.2)
    curve = curves[main]
    bars = axes.bar(
        curve.low, 0.25 * curve.weight, curve.high - curve.low, align="edge", color="#e3d3de",
        edgecolor="white",
    )  # fmt: skip
    axes.bar_label(bars, [f"{n:,}" for n in curve.cells], fontsize=7, color=SOFT, padding=1)
    axes.vlines(curve.score, curve.positive_low, curve.positive_high, color=MODEL, linewidth=1.4)
    axes.plot(curve.score, curve.positive, "o-", color=MODEL, linewidth=2, markersize=5)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), aspect="equal")
    axes.set(xlabel="score", ylabel="share of positive cells")
    axes.grid()
    _frame(axes, "left", "bottom")
    return svg_chart(figure, "calibration curve")


def density(
    values: Array, weights: Array, *, bins: int = 200, bandwidth: float = 0.025
) -> Float64Array:
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


@chart_style()
def densities(
    score: Array, intensity: Array, positive: BoolArray, weight: Array, threshold: float, *,
    label: str, small: bool = False,
) -> Markup:  # fmt: skip
    """Densities of score and mean intensity, of positive and of negative cells.

    Parameters
    ----------
    score, intensity : (n,) float in [0, 1]
        Intensities are drawn as cube roots.
    positive : (n,) bool
    weight : (n,) float
    threshold
        Drawn into the scores.
    label
        Of the chart, for screen readers.
    small
        One above the other, for many small charts; else side by side.
    """
    figure = new_figure(2.4, 1.7, layout=None) if small else new_figure(9.6, 2.2)
    margins = {"left": 0.03, "right": 0.97, "top": 0.96, "bottom": 0.1, "hspace": 0.35}
    axes = figure.subplots(2, 1, gridspec_kw=margins) if small else figure.subplots(1, 2)
    _density(axes[0], score, positive, weight)
    axes[0].axvline(threshold, color=INK, linewidth=0.8, linestyle="--")
    axes[0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    _density(axes[1], np.cbrt(np.clip(intensity, 0, 1)), positive, weight)
    axes[1].set_xticks(np.cbrt(_INTENSITY_TICKS), [f"{v:g}" for v in _INTENSITY_TICKS])
    for one, name in zip(axes, ("score", "mean intensity (1 = normaliser)"), strict=True):
        if small:
            one.tick_params(labelsize=7, pad=1, length=2)
        text = name.partition(" (")[0] if small else name
        one.set_title(text, loc="right", fontsize=7.5 if small else 9, color=SOFT, y=0.8)
    return svg_chart(figure, label)


def _density(axes: Axes, values: Array, positive: BoolArray, weight: Array) -> None:
    """Two densities, each of area 1; square roots, so that both are seen."""
    bins = 100
    x = (np.arange(bins) + 0.5) / bins
    for rows, colour in ((~positive, NEGATIVE), (positive, POSITIVE)):
        height = np.sqrt(density(values[rows], weight[rows], bins=bins))
        axes.fill_between(x, height, color=colour, alpha=0.25, linewidth=0)
        axes.plot(x, height, color=colour, linewidth=1.3)
    axes.set(xlim=(0, 1), yticks=[], ymargin=0.02)
    axes.set_ylim(bottom=0)
    _frame(axes, "bottom")


class Bar(NamedTuple):
    """One bar of `bars`; ``mark`` is a tick across it, such as the value that chance gives."""

    colour: str
    value: float
    mark: float


@chart_style()
def bars(groups: Mapping[str, Sequence[Bar]], label: str) -> Markup:
    """Groups of horizontal bars with their values."""
    flat = [bar for group in groups.values() for bar in group]
    height = {name: 0.8 / max(len(group), 1) for name, group in groups.items()}
    at = [
        k + height[n] * (i + 0.5) - 0.4 for k, n in enumerate(groups) for i in range(len(groups[n]))
    ]
    figure = new_figure(6.4, 0.4 + 0.17 * len(flat) + 0.1 * len(groups))
    axes = figure.subplots()
    thick = [height[n] for n in groups for _ in groups[n]]
    axes.barh(
        at, [b.value for b in flat], [0.85 * t for t in thick], color=[b.colour for b in flat]
    )
    for y, bar, t in zip(at, flat, thick, strict=True):
        axes.vlines(bar.mark, y - t / 2, y + t / 2, color=INK, linewidth=1.4)
        end = np.nanmax([bar.value, bar.mark])
        axes.annotate(f"{bar.value:.3f}", (end, y), (4, 0), textcoords="offset points",
                      va="center", fontsize=7, color=SOFT)  # fmt: skip
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set(ylim=(len(groups) - 0.45, -0.55), xmargin=0.12)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=LINE)
    _frame(axes, "bottom")
    return svg_chart(figure, label)


def _frame(axes: Axes, *shown: str) -> None:
    for name, spine in axes.spines.items():
        spine.set_visible(name in shown)
    axes.tick_params(axis="y", length=0)
