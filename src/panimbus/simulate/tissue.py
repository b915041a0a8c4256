"""Simulated FOVs of multiplexed tissue with a known truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import format_list
from panimbus.core.types import Float32Array, UInt32Array
from panimbus.simulate.draw import draw_marker
from panimbus.simulate.instruments import draw_hard_optics
from panimbus.simulate.layout import REGIONS, Layout, Structures, make_layout
from panimbus.simulate.optics import PLATFORMS, Optics, detect, expected_signal, grey_step
from panimbus.simulate.panel import DEMO_PANEL, TissuePanel, demo_optics
from panimbus.simulate.segmentation import observe
from panimbus.simulate.stain import Stain, StainMarker, stain
from panimbus.simulate.truth import (
    LabelOverlap,
    LabelSignal,
    label_means,
    label_truth,
    overlap_with_cells,
)

if TYPE_CHECKING:
    import pandas as pd


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
    """Render one channel: its pixels, and the results of `label_truth`.

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
    seen = _Seen(layout, labels, owners, shrink)
    return _image(seen, stain(layout, marker, rng), marker, optics, rng)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A layout, its observed segmentation, and the width of a detector pixel."""

    layout: Layout
    labels: UInt32Array
    owners: LabelOverlap
    shrink: int


def _image(
    seen: _Seen, stained: Stain, marker: StainMarker, optics: Optics, rng: np.random.Generator
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Image one stain, and say what can be seen of it; see `render_channel`."""
    layout, labels, owners = seen.layout, seen.labels, seen.owners
    total, specific = expected_signal(stained, optics, layout.mpp, rng)
    image = detect(_shrink(total, seen.shrink), optics, layout.mpp * seen.shrink, rng)
    own_only = np.where(owners.owner[labels] == layout.cells, stained.own, 0)
    own, of_specific, of_total = (
        label_means(np.asarray(a, dtype=np.float32), labels, owners.area)
        for a in (own_only, specific, total)
    )
    free = (labels == 0) & (layout.regions > 0)
    typical = np.array([*marker.level, 1.0])[layout.types[owners.owner]]
    signal = LabelSignal(
        np.minimum(own, of_total),  # subtracted signal is not visible
        of_specific,
        of_total,
        outside=float(np.median(total[free])) if free.any() else 0.0,
        glow=marker.glow > 0 or optics.residue > 0,
        texture=marker.grains > 0 or marker.mesh > 0,
        level=np.where(typical > 0, typical, 1.0) if marker.two_levels else None,
        step=grey_step(total, optics, layout.mpp),
        read_noise=optics.read_noise / seen.shrink,
    )
    counts = optics.counts * layout.mpp**2 / 0.25
    truth, carried = label_truth(owners, stained.positive, signal, counts=counts)
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
        ``codex``, ``mibi``, ``imc``, ``cycif``, ``opal``, ``melc``, ``phenocycler``, or ``random``:
        any of them for random markers, one of the first three otherwise.
    observation
        Kind of segmentation, one of `panimbus.simulate.segmentation.OBSERVATIONS`; None
        draws one of the usual kinds.
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
    structures : Structures, optional
        Vessels, whose walls are cells of the last type, and the size of tumour cells.
    """

    platform: str
    markers: tuple[StainMarker, ...]
    optics: tuple[Optics, ...]
    types: tuple[str, ...]
    composition: npt.NDArray[np.float64]
    kinds: tuple[str, ...] | None
    clustering: float
    structures: Structures | None = None


def draw_panel(
    panel: TissuePanel | Sequence[StainMarker] | int | None, platform: str, rng: np.random.Generator
) -> DrawnPanel:
    """Draw platform, markers, cell types and optics.

    The parameters are those of `simulate_tissue`.
    """
    if platform == "random":
        platform = str(rng.choice(PLATFORMS if isinstance(panel, int) else PLATFORMS[:3]))
    if platform not in PLATFORMS:
        raise ValueError(
            f"platform {platform!r} is unknown; there are random, {', '.join(PLATFORMS)}"
        )
    if isinstance(panel, int):
        return _random_panel(panel, platform, rng)
    named = panel if isinstance(panel, TissuePanel) else DEMO_PANEL
    markers = (
        named.markers(platform, rng)
        if panel is None or isinstance(panel, TissuePanel)
        else tuple(panel)
    )
    optics = tuple(demo_optics(platform, rng) for _ in markers)
    kinds = ("follicle", "epithelium", "stroma", "mixed")
    return DrawnPanel(platform, markers, optics, named.types, named.composition, kinds, 0.4)


def _random_panel(count: int, platform: str, rng: np.random.Generator) -> DrawnPanel:
    """Random markers of random cell types; in two of three tissues the last type lines vessels."""
    n_types = int(rng.integers(4, 10))
    composition = rng.dirichlet(np.full(n_types, rng.uniform(0.3, 1.5)), size=len(REGIONS))
    vessels = float(rng.uniform(30, 250) * (rng.random() < 0.65))
    if vessels > 0:
        composition[:, -1] *= 0.02
        composition /= composition.sum(1, keepdims=True)
    markers = tuple(
        draw_marker(f"marker_{k + 1}", n_types, rng, platform, vessels=vessels > 0)
        for k in range(count)
    )
    optics = tuple(draw_hard_optics(platform, rng) for _ in markers)
    # subtraction would make a glow without positive cells look like a marker of all cells
    optics = tuple(
        replace(o, subtract=0.0) if m.glow > 0 and max(m.level) == 0 else o
        for m, o in zip(markers, optics, strict=True)
    )
    types = tuple(f"type_{k + 1}" for k in range(n_types))
    clustering = float(rng.uniform(0, 1.5))
    return DrawnPanel(
        platform, markers, optics, types, composition, None, clustering, Structures(vessels)
    )


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
        structures=drawn.structures,
    )
    labels = observe(layout, rng, observation, errors)
    if shrink > 1:
        labels = _blocks(labels)
    owners = overlap_with_cells(labels, layout.cells)
    seen = _Seen(layout, labels, owners, shrink)
    results = []
    neighbour: Float32Array | None = None
    for marker, optics in zip(drawn.markers, drawn.optics, strict=True):
        stained = stain(layout, marker, rng)
        signal = stained.own + stained.stray
        if optics.residue > 0 and neighbour is not None:
            stained = replace(stained, base=stained.base + np.float32(optics.residue) * neighbour)
        results.append(_image(seen, stained, marker, optics, rng))
        neighbour = signal
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
