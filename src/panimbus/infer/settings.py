"""How to run, as opposed to on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from panimbus.core.errors import InputError
from panimbus.core.objects import check_limits
from panimbus.core.scan import ON_ERROR
from panimbus.model.card import ModelCard

MAP_FORMATS = ("tiff", "zarr")
MAP_GRIDS = ("model", "image")


@dataclass(frozen=True)
class MapStyle:
    """How score maps are written; fields as ``maps_...`` of `PredictSettings`."""

    format: str = "tiff"
    grid: str = "model"
    background: bool = False

    @property
    def pixels(self) -> str:
        """What the pixels depend on, whatever the format."""
        return f"{self.grid} grid, {'everywhere' if self.background else 'cells only'}"

    @property
    def name(self) -> str:
        """All of it in words."""
        return f"{self.format}, {self.pixels}"


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``done`` of ``total`` units of a stage (``scan``: bands of rows.

    ``score``: model pixels).
    """

    stage: str
    fov_id: str
    done: float
    total: float


@dataclass(frozen=True)
class PredictSettings:
    """How to run, as opposed to on what.

    Parameters
    ----------
    tta
        ``full``: the mean over the 8 flips and rotations. ``auto``: as many of them as a tile of a
        channel needs (1, 2, 4 or 8; the mean and the spread are those of the views taken); with the
        default model fewer than 1 in 200 calls come out other than with all
        (``benchmarks/compute/adaptive.md``), with others that was not measured. ``none``: one pass.
        None: what the model's card says.
    tile
        Longest side of a window in model pixels, None for what suits the model; results do not
        depend on it (float32: 1e-5), but for ``tta="auto"``, which decides tile by tile.
    precision
        ``auto`` or ``float32``.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    threads
        CPU threads, 0 = all.
    maps
        Write pixel score maps (needs an output folder).
    on_error
        What to do where pixels of a channel cannot be read. ``raise``: say where. ``skip``: go on;
        the scores and mean intensities of the cells that lie on such pixels are missing (NaN),
        never negative.
    maps_format
        ``tiff`` (OME-TIFF) or ``zarr`` (OME-Zarr), both with a pyramid.
    maps_grid
        ``model``: as the net gives them (1 µm/px); ``image``: each pixel of the image has the score
        of the model pixel at its centre.
    maps_background
        Keep what the net gives outside cells, for which it is not trained; else the maps are 0
        there.
    dask
        Address of a Dask scheduler, its scheduler file, or ``local:N`` for N processes here (extra
        ``cluster``): its workers do the work. None does it in this process.
    evidence
        Also measure, for each cell and channel, its rim, its inside and the cells that touch it
        (`panimbus.core.evidence`).
    thresholds
        Marker -> score from which a cell is positive; those that are left out have the card's.
        Scores do not depend on them.
    min_area, max_area
        Smallest and largest area of a cell in µm²: what is beyond is marked as ``sliver`` or
        ``large`` in obs ``object``, and scored all the same. None: as in
        `panimbus.core.objects.object_kinds`.
    allow_odd_labels
        Go on, with a warning, where the objects of a label image cannot be cells: one id in many
        pieces far apart, specks of a pixel or two, a median width below 2 or above 60 µm.
    """

    tta: str | None = None
    tile: int | None = None
    precision: str = "auto"
    device: str = "auto"
    threads: int = 0
    maps: bool = False
    on_error: str = "raise"
    maps_format: str = "tiff"
    maps_grid: str = "model"
    maps_background: bool = False
    dask: str | None = None
    evidence: bool = True
    thresholds: Mapping[str, float] = field(default_factory=dict)
    min_area: float | None = None
    max_area: float | None = None
    allow_odd_labels: bool = False

    def __post_init__(self) -> None:
        check_limits(self.min_area, self.max_area)
        if self.on_error not in ON_ERROR:
            raise InputError(f"Unknown way to meet errors {self.on_error!r}.", available=ON_ERROR)
        if self.maps_format not in MAP_FORMATS:
            raise InputError(
                f"Unknown format of score maps {self.maps_format!r}.", available=MAP_FORMATS
            )
        if self.maps_grid not in MAP_GRIDS:
            raise InputError(f"Unknown grid of score maps {self.maps_grid!r}.", available=MAP_GRIDS)
        if not self.maps and (self.maps_grid, self.maps_background) != ("model", False):
            raise InputError(
                "It was said how score maps are to be written, but not that they are.",
                fix="pass --maps (maps=True)",
            )
        if self.maps and self.dask is not None:
            raise InputError(
                "Score maps are written by one process.", fix="leave out the maps, or Dask"
            )

    @property
    def map_style(self) -> MapStyle | None:
        """How score maps are written, None if there are to be none."""
        return (
            MapStyle(self.maps_format, self.maps_grid, self.maps_background) if self.maps else None
        )

    def thresholds_for(self, channels: Sequence[str], card: ModelCard) -> dict[str, float]:
        """The threshold of each channel."""
        return {c: float(self.thresholds.get(c, card.threshold)) for c in channels}

    def tta_for(self, card: ModelCard) -> str:
        """The test-time augmentation, or the card's."""
        return card.tta if self.tta is None else self.tta

    def tile_for(self, card: ModelCard) -> int:
        """The tile, or what suits the model.

        Large windows repeat less, but the paper's net takes 3 GB for one of 1024 px.
        """
        return self.tile or (1024 if card.architecture == "paper_unet" else 1536)
