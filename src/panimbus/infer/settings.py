"""Settings of a prediction: everything except its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields

from panimbus.core.errors import InputError
from panimbus.core.objects import check_limits
from panimbus.core.scan import ON_ERROR
from panimbus.model.card import ModelCard

MAP_FORMATS = ("tiff", "zarr")
MAP_GRIDS = ("model", "image")


@dataclass(frozen=True)
class MapStyle:
    """Format of score maps; fields as ``maps_...`` of `PredictSettings`."""

    format: str = "tiff"
    grid: str = "model"
    background: bool = False

    @property
    def pixels(self) -> str:
        """Grid and background, on which the pixels depend."""
        return f"{self.grid} grid, {'everywhere' if self.background else 'cells only'}"

    @property
    def name(self) -> str:
        """Format, grid and background as one text."""
        return f"{self.format}, {self.pixels}"


@dataclass(frozen=True, repr=False)
class PredictSettings:
    """Settings of `predict`: everything except its input.

    Parameters
    ----------
    tta
        Test-time augmentation. ``full``: mean over the 8 flips and rotations. ``auto``: as many of
        these views as each tile of a channel needs (1, 2, 4 or 8); with the default model, which
        asks for it, fewer than 1 in 200 decisions (positive or not) differ from those of all views
        (``benchmarks/compute/adaptive.md``); other models were not measured. ``none``: one view.
        Default: what the model's card says.
    tile
        Longest side of a tile in model pixels; default: what suits the model. Results do not
        depend on it (float32: 1e-5), except with ``tta="auto"``, which decides tile by tile.
    precision
        ``auto`` or ``float32``.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    threads
        CPU threads; 0: all cores.
    maps
        Write pixel score maps (needs an output folder).
    on_error
        Pixels of a channel that cannot be read. ``raise``: an error names the place. ``skip``: the
        scores and mean intensities of cells on such pixels are missing (NaN), never negative.
    maps_format
        ``tiff`` (OME-TIFF) or ``zarr`` (OME-Zarr), both with a pyramid.
    maps_grid
        ``model``: the net's grid (1 µm/px). ``image``: the image's grid; each pixel has the score
        of the model pixel at its centre.
    maps_background
        Keep the scores outside cells, for which the net is not trained; otherwise they are 0.
    dask
        Address of a Dask scheduler, its scheduler file, or ``local:N`` for N local processes (extra
        ``cluster``). Default: run in this process.
    evidence
        Also measure rim, inside and touching neighbours per cell and channel
        (`panimbus.core.evidence`).
    thresholds
        Marker -> lowest score at which a cell is positive; default: the card's. Scores do not
        depend on thresholds.
    min_area, max_area
        Smallest and largest area of a cell in µm². Smaller and larger objects are scored, too, and
        marked ``sliver`` or ``large`` in obs ``object``. Default: as in
        `panimbus.core.objects.object_kinds`.
    allow_odd_labels
        Continue with a warning where the objects of a label image cannot be cells: one id in many
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
            raise InputError(f"Unknown value of on_error: {self.on_error!r}.", available=ON_ERROR)
        if self.maps_format not in MAP_FORMATS:
            raise InputError(
                f"Unknown format of score maps {self.maps_format!r}.", available=MAP_FORMATS
            )
        if self.maps_grid not in MAP_GRIDS:
            raise InputError(f"Unknown grid of score maps {self.maps_grid!r}.", available=MAP_GRIDS)
        if not self.maps and (self.maps_grid, self.maps_background) != ("model", False):
            raise InputError(
                "There are options of score maps, but no score maps are asked for.",
                fix="pass --maps (maps=True)",
            )
        if self.maps and self.dask is not None:
            raise InputError(
                "Score maps are written by one process.", fix="leave out the maps, or Dask"
            )

    def __repr__(self) -> str:
        """Only what differs from the defaults."""
        changed = [
            f"{f.name}={value!r}"
            for f in fields(self)
            if (value := getattr(self, f.name)) != (None if f.default is MISSING else f.default)
            and value != {}
        ]
        return f"PredictSettings({', '.join(changed)})"

    @property
    def map_style(self) -> MapStyle | None:
        """How score maps are written; None without maps."""
        return (
            MapStyle(self.maps_format, self.maps_grid, self.maps_background) if self.maps else None
        )

    def thresholds_for(self, channels: Sequence[str], card: ModelCard) -> dict[str, float]:
        """The threshold of each channel."""
        return {c: float(self.thresholds.get(c, card.threshold)) for c in channels}

    def tta_for(self, card: ModelCard) -> str:
        """The test-time augmentation; default: the card's."""
        return card.tta if self.tta is None else self.tta

    def tile_for(self, card: ModelCard) -> int:
        """Longest side of a window; default: what suits the model.

        Large windows overlap less, but the paper's net takes 3 GB for one of 1024 px.
        """
        return self.tile or (1024 if card.architecture == "paper_unet" else 1536)
