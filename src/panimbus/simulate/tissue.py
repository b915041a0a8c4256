"""Simulated FOVs of multiplexed tissue with a known truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import format_list
from panimbus.core.types import Float32Array, UInt32Array
from panimbus.simulate.layout import REGIONS, Layout, make_layout, observe
from panimbus.simulate.optics import PLATFORMS, Optics, detect, draw_optics, expected_signal
from panimbus.simulate.panel import DEMO_PANEL, TissuePanel, demo_optics
from panimbus.simulate.stain import StainMarker, draw_marker, stain

if TYPE_CHECKING:
    import pandas as pd

POSITIVE, NEGATIVE, UNCERTAIN = 1, 0, -1


@dataclass(frozen=True, eq=False)
class SimulatedTissue:
    """A simulated FOV.

    Attributes
    ----------
    image : (C, Y, X) uint8 or uint16
    labels : (Y, X) uint32, 0 = background
        The observed segmentation, including its errors; ids 1..m.
    truth : (m, C) int8
        For label i + 1: 1 positive, 0 negative, -1 uncertain (too dim to be visible, or the label
        covers several cells).
    carried : (m, C) bool
        Whether the cells under label i + 1 express the marker, visible or not; ``truth`` is then 1
        or -1.
    channels : C names
    cell_types : m names
        Type of the true cell under each label; ``"none"`` if there is none.
    mixture : (m,) float64
        Share of the cell pixels of each label that belong to other true cells.
    mpp : float
        µm per pixel.
    platform : str
    markers, optics
        Staining and imaging parameters of each channel.
    """

    image: npt.NDArray[Any]
    labels: UInt32Array
    truth: npt.NDArray[np.int8]
    carried: npt.NDArray[np.bool_]
    channels: tuple[str, ...]
    cell_types: tuple[str, ...]
    mixture: npt.NDArray[np.float64]
    mpp: float
    platform: str
    markers: tuple[StainMarker, ...]
    optics: tuple[Optics, ...]

    def __repr__(self) -> str:
        _, height, width = self.image.shape
        return (
            f"<SimulatedTissue: {self.platform}, {height} x {width} pixels of {self.mpp:g} µm,"
            f" {len(self.truth)} cells, {len(self.channels)} channels:"
            f" {format_list(self.channels, 5)}>"
        )

    def annotations(self, fov_id: str = "fov") -> pd.DataFrame:
        """The truth as annotations: one row per cell and channel, columns as in a file of calls."""
        import pandas as pd

        calls = np.array(["undetermined", "negative", "positive"])[self.truth + 1]
        table = pd.DataFrame(calls, columns=list(self.channels)).assign(
            fov=fov_id, cell_id=range(1, len(calls) + 1)
        )
        return table.melt(["fov", "cell_id"], var_name="channel", value_name="call")


@dataclass(frozen=True, eq=False)
class LabelOverlap:
    """Overlap of the observed labels with the true cells (arrays over labels 0..m).

    Attributes
    ----------
    owner : (m + 1,) int64
        True cell that covers most of the label; 0 = none.
    purity : (m + 1,) float64
        Share of the label's pixels that the owner covers.
    pairs : (k, 2) int64
        Every overlapping (label, true cell); true cell 0 = between cells.
    pixels : (k,) int64
        Number of pixels of each overlap.
    area : (m + 1,) int64
    """

    owner: npt.NDArray[np.int64]
    purity: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.int64]
    area: npt.NDArray[np.int64]

    @property
    def mixture(self) -> npt.NDArray[np.float64]:
        """(m + 1,) share of the label's cell pixels outside its owner; 0 without cell pixels."""
        covered = np.zeros(len(self.area))
        np.add.at(covered, self.pairs[:, 0], self.pixels * (self.pairs[:, 1] > 0))
        return 1 - np.divide(
            self.purity * self.area, covered, out=np.ones_like(covered), where=covered > 0
        )


def overlap_with_cells(labels: UInt32Array, cells: UInt32Array) -> LabelOverlap:
    """Count the pixels that observed labels share with true cells."""
    m, n = int(labels.max()), int(cells.max())
    code, pixels = np.unique(labels.astype(np.int64) * (n + 1) + cells, return_counts=True)
    pairs = np.stack([code // (n + 1), code % (n + 1)], axis=1)
    area = np.bincount(labels.ravel(), minlength=m + 1)
    owner = np.zeros(m + 1, dtype=np.int64)
    best = np.zeros(m + 1, dtype=np.int64)
    real = pairs[:, 1] > 0
    order = np.argsort(pixels[real], kind="stable")
    owner[pairs[real][order, 0]] = pairs[real][order, 1]
    best[pairs[real][order, 0]] = pixels[real][order]
    return LabelOverlap(owner, best / np.maximum(area, 1), pairs, pixels, area)


def _means(
    values: Float32Array, labels: UInt32Array, area: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    return np.bincount(labels.ravel(), values.ravel(), len(area)) / np.maximum(area, 1)


def _label_truth(
    owners: LabelOverlap,
    positive: npt.NDArray[np.bool_],
    own: npt.NDArray[np.float64],
    specific: npt.NDArray[np.float64],
    total: npt.NDArray[np.float64],
    *,
    counts: float,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Truth of each observed label: 1, 0, or -1 if it cannot be seen in the image.

    Parameters
    ----------
    owners
    positive : (n + 1,) bool
        True cells that express the marker.
    own, specific, total : (m + 1,) float64
        Mean per label of the unblurred stain of its owner, of all specific and stray signal, and of
        the total signal.
    counts
        Counts per pixel at signal 1.

    Returns
    -------
    truth : (m + 1,) int8
        Entry 0 is -1.
    carried : (m + 1,) bool
        Labels whose cells express the marker, visible or not.
    """
    carried = np.zeros(len(owners.area))
    covered = np.zeros(len(owners.area))
    label, cell = owners.pairs[:, 0], owners.pairs[:, 1]
    np.add.at(carried, label, owners.pixels * positive[cell])
    np.add.at(covered, label, owners.pixels * (cell > 0))
    share = carried / np.maximum(covered, 1)
    is_positive = positive[owners.owner] & (share > 0.65) & (own > 0)
    is_negative = ~positive[owners.owner] & (share < 0.35)
    out = np.full(len(owners.area), UNCERTAIN, dtype=np.int8)
    out[is_negative] = NEGATIVE
    out[is_positive] = POSITIVE
    other = np.maximum(total - 0.6 * own, 0)
    floor = float(np.median(total[1:][is_negative[1:]])) if is_negative[1:].any() else 0.0
    seen = own * owners.area * counts
    everything = np.maximum(total * owners.area * counts, 1e-9)
    dim = (seen < 3) | (seen < 2.5 * np.sqrt(everything)) | (own < 0.6 * other) | (own < floor)
    if is_positive.any():
        dim |= own < 0.35 * np.median(own[is_positive])
    out[is_positive & dim] = UNCERTAIN
    visible = out == POSITIVE
    if visible.any():
        out[is_negative & (specific > 0.85 * np.median(total[visible]))] = UNCERTAIN
    else:
        out[is_negative & (specific > 0.3)] = UNCERTAIN
    out[0] = UNCERTAIN
    return out, is_positive


def _shrink(a: Float32Array, k: int) -> Float32Array:
    """Mean over k x k pixels."""
    if k == 1:
        return a
    return np.asarray(
        a.reshape(a.shape[0] // k, k, a.shape[1] // k, k).mean((1, 3)), dtype=np.float32
    )


def _blocks(labels: UInt32Array) -> UInt32Array:
    """Labels at detector resolution: blocks of 2 x 2 equal pixels, with new ids 1..m."""
    small = labels[1::2, 1::2]
    ids, compact = np.unique(small, return_inverse=True)
    small = (compact.reshape(small.shape) + (ids[0] != 0)).astype(np.uint32)
    return np.asarray(np.repeat(np.repeat(small, 2, 0), 2, 1))


def render_channel(
    layout: Layout,
    labels: UInt32Array,
    owners: LabelOverlap,
    marker: StainMarker,
    optics: Optics,
    *,
    rng: np.random.Generator,
    shrink: int = 1,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Render one channel: its pixels, and the results of `_label_truth`.

    Parameters
    ----------
    layout
        The true cells.
    labels, owners
        The observed segmentation at the resolution of the layout, and its `overlap_with_cells`.
    marker, optics
    rng
    shrink
        Width of a detector pixel in layout pixels.
    """
    stained = stain(layout, marker, rng)
    total, specific = expected_signal(stained, optics, layout.mpp, rng)
    image = detect(_shrink(total, shrink), optics, layout.mpp * shrink, rng)
    own_only = np.where(owners.owner[labels] == layout.cells, stained.own, 0)
    means = [
        _means(np.asarray(a, dtype=np.float32), labels, owners.area)
        for a in (own_only, specific, total)
    ]
    means[0] = np.minimum(means[0], means[2])  # subtracted signal is not visible
    counts = optics.counts * layout.mpp**2 / 0.25
    truth, carried = _label_truth(owners, stained.positive, *means, counts=counts)
    return image, truth, carried


def simulate_tissue(
    shape: tuple[int, int] = (512, 512),
    mpp: float = 0.5,
    *,
    panel: TissuePanel | Sequence[StainMarker] | int | None = None,
    seed: int | np.random.Generator = 0,
    platform: str = "random",
    observation: str | None = None,
    errors: float = 1.0,
) -> SimulatedTissue:
    """Simulate an FOV of multiplexed tissue with a known truth.

    Parameters
    ----------
    shape, mpp
        Size in pixels, and µm per pixel.
    panel
        None: a panel with named cell types (DAPI, CD3, CD8, CD20, CD68, PanCK, SMA, Ki67, FoxP3,
        Vimentin, CD45). An integer: this number of random markers on random cell types, for
        training. A `TissuePanel`. Or markers for the cell types of the default panel.
    seed
        An integer or a generator; the same seed gives the same tissue.
    platform
        ``codex``, ``mibi``, ``imc``, or ``random``.
    observation
        Kind of segmentation, one of `panimbus.simulate.layout.OBSERVATIONS`; None draws one.
    errors
        Factor on the frequency of segmentation errors; 0 = none.

    Returns
    -------
    SimulatedTissue

    Examples
    --------
    >>> tissue = simulate_tissue((96, 96), mpp=0.5, panel=2, seed=1, platform="mibi")
    >>> tissue.image.shape, tissue.labels.shape, tissue.truth.shape[1]
    ((2, 96, 96), (96, 96), 2)
    """
    rng = np.random.default_rng(seed)
    drawn = draw_panel(panel, platform, rng)
    return render_tissue(drawn, shape, mpp, rng=rng, observation=observation, errors=errors)


def simulate_dataset(
    count: int,
    shape: tuple[int, int] = (512, 512),
    *,
    mpp: float = 0.5,
    panel: TissuePanel | Sequence[StainMarker] | int | None = None,
    seed: int = 0,
    platform: str = "random",
    errors: float = 1.0,
) -> Iterator[SimulatedTissue]:
    """Simulate FOVs of one dataset, with common platform, markers and optics.

    The parameters are those of `simulate_tissue`.
    """
    drawn = draw_panel(panel, platform, np.random.default_rng(seed))
    for k in range(count):
        yield render_tissue(drawn, shape, mpp, rng=np.random.default_rng([seed, k]), errors=errors)


@dataclass(frozen=True, eq=False)
class DrawnPanel:
    """Common parameters of all FOVs of a dataset.

    Attributes
    ----------
    platform : str
    markers, optics
        One per channel.
    types
        Names of the cell types.
    composition : (R, T) float64
        Share of each type per kind of region.
    kinds
        Kinds of regions, or None to draw them.
    clustering : float
        Strength of the spatial clustering of cell types.
    """

    platform: str
    markers: tuple[StainMarker, ...]
    optics: tuple[Optics, ...]
    types: tuple[str, ...]
    composition: npt.NDArray[np.float64]
    kinds: tuple[str, ...] | None
    clustering: float


def draw_panel(
    panel: TissuePanel | Sequence[StainMarker] | int | None, platform: str, rng: np.random.Generator
) -> DrawnPanel:
    """Draw platform, markers, cell types and optics.

    The parameters are those of `simulate_tissue`.
    """
    if platform == "random":
        platform = str(rng.choice(PLATFORMS))
    if platform not in PLATFORMS:
        raise ValueError(
            f"platform {platform!r} is unknown; there are random, {', '.join(PLATFORMS)}"
        )
    if isinstance(panel, int):
        n_types = int(rng.integers(4, 10))
        composition = rng.dirichlet(np.full(n_types, rng.uniform(0.3, 1.5)), size=len(REGIONS))
        markers = tuple(
            draw_marker(f"marker_{k + 1}", n_types, rng, platform) for k in range(panel)
        )
        types: tuple[str, ...] = tuple(f"type_{k + 1}" for k in range(n_types))
        clustering = float(rng.uniform(0, 1.5))
        optics = tuple(draw_optics(platform, rng) for _ in markers)
        return DrawnPanel(platform, markers, optics, types, composition, None, clustering)
    named = panel if isinstance(panel, TissuePanel) else DEMO_PANEL
    markers = (
        named.markers(platform, rng)
        if panel is None or isinstance(panel, TissuePanel)
        else tuple(panel)
    )
    optics = tuple(demo_optics(platform, rng) for _ in markers)
    kinds = ("follicle", "epithelium", "stroma", "mixed")
    return DrawnPanel(platform, markers, optics, named.types, named.composition, kinds, 0.4)


def render_tissue(
    drawn: DrawnPanel,
    shape: tuple[int, int],
    mpp: float,
    *,
    rng: np.random.Generator,
    observation: str | None = None,
    errors: float = 1.0,
) -> SimulatedTissue:
    """Lay out, stain and image tissue; the parameters are those of `simulate_tissue`."""
    shrink = 2 if mpp > 0.75 else 1
    fine = (shape[0] * shrink, shape[1] * shrink)
    layout = make_layout(
        fine,
        mpp / shrink,
        rng,
        composition=drawn.composition,
        kinds=drawn.kinds,
        clustering=drawn.clustering,
    )
    labels = observe(layout, rng, observation, errors)
    if shrink > 1:
        labels = _blocks(labels)
    owners = overlap_with_cells(labels, layout.cells)
    results = [
        render_channel(layout, labels, owners, marker, optics, rng=rng, shrink=shrink)
        for marker, optics in zip(drawn.markers, drawn.optics, strict=True)
    ]
    names = np.array([*drawn.types, "none"])
    return SimulatedTissue(
        image=np.stack([image for image, _, _ in results]),
        labels=labels[::shrink, ::shrink],
        truth=np.stack([truth[1:] for _, truth, _ in results], axis=1),
        carried=np.stack([carried[1:] for _, _, carried in results], axis=1),
        channels=tuple(m.name for m in drawn.markers),
        cell_types=tuple(str(t) for t in names[layout.types[owners.owner[1:]]]),
        mixture=owners.mixture[1:],
        mpp=mpp,
        platform=drawn.platform,
        markers=drawn.markers,
        optics=drawn.optics,
    )
