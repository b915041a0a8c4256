"""The result of `inspect_fovs`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from panimbus.core.excluded import Excluded
from panimbus.infer.cost import Cost
from panimbus.infer.label_report import LabelReport


@dataclass(frozen=True)
class FovReport:
    """One FOV: its source, its shape (channels, rows, columns) and its µm per pixel.

    ``excluded``: its excluded part; None without a mask.
    """

    fov_id: str
    format: str
    path: str
    shape: tuple[int, int, int]
    dtype: str
    mpp: float | None
    labels: LabelReport | None
    notes: tuple[str, ...]
    excluded: Excluded | None = None


@dataclass(frozen=True)
class ChannelReport:
    """One channel, with the pixels of all FOVs pooled.

    Parameters
    ----------
    name, dtype
    min, max
        Smallest and largest finite pixel.
    normaliser
        Intensity that becomes 1.0 (the model's percentile); None for a blank channel.
    blank
        Whether there is nothing to score: every score is 0.
    saturated
        Share of pixels at the largest value of the type, or at a suspiciously frequent maximum.
    not_finite
        Number of pixels that are NaN or infinite.
    nonzero
        Share of pixels other than 0.
    same_as
        Earlier channel with the same pixels in all FOVs.
    counterstain
        Rank correlation of the cells' mean intensities with the counterstain (1 for a
        counterstain); None without one.
    note
        Note of the normaliser.
    """

    name: str
    dtype: str
    min: float | None
    max: float | None
    normaliser: float | None
    blank: bool
    saturated: float
    not_finite: int
    nonzero: float
    same_as: str | None
    counterstain: float | None
    note: str


@dataclass(frozen=True, repr=False)
class InspectionReport:
    """Result of `inspect_fovs`.

    Parameters
    ----------
    model, percentile
        Name of the model, and the percentile of its normaliser.
    fovs, channels
        One report each.
    counterstains
        Names of the counterstains.
    objects
        Objects too small or too large for cells: `panimbus.core.objects.object_shares` of all FOVs.
    problems, warnings
        Problems would stop `predict`, warnings would not.
    cost
        Expected time and memory; None if no FOV can be scored.
    """

    model: str
    percentile: float
    fovs: tuple[FovReport, ...]
    channels: tuple[ChannelReport, ...]
    counterstains: tuple[str, ...]
    objects: dict[str, dict[str, Any]]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    cost: Cost | None

    @property
    def ok(self) -> bool:
        """Whether `predict` would run."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {"ok": self.ok, **asdict(self)}

    def __repr__(self) -> str:
        head = (
            f"InspectionReport({len(self.fovs)} FOVs, {len(self.channels)} channels,"
            f" {len(self.problems)} problems, {len(self.warnings)} warnings)"
        )
        return "\n  ".join(
            [
                head,
                *(f"problem: {text}" for text in self.problems[:5]),
                *(f"warning: {text}" for text in self.warnings[:5]),
            ]
        )
