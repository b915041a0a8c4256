"""`inspect_fovs`: what was recognised, problems, warnings, and the cost of `predict`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.channel_types import describe_id_channel, find_counterstains, id_channels
from panimbus.core.counterstain import ALIKE, reference_channels
from panimbus.core.dark import common_dark_level, describe_dark_level
from panimbus.core.errors import InputError, PanimbusError, format_list
from panimbus.core.excluded import Excluded, excluded_part, warn_of_masks
from panimbus.core.fov import Fov
from panimbus.core.histogram import Histogram
from panimbus.core.messages import group_messages
from panimbus.core.normaliser import PooledStats
from panimbus.core.objects import object_kinds, object_shares
from panimbus.core.progress import OnProgress, Progress
from panimbus.core.registration import describe_misfit
from panimbus.core.scale import COUNTERSTAIN, ChannelScale, ChannelStats
from panimbus.core.scan import scan_fov
from panimbus.infer.cost import FovSize, estimate_cost
from panimbus.infer.inputs import Images, Labels, resolve_fovs
from panimbus.infer.inspection_report import ChannelReport, FovReport, InspectionReport
from panimbus.infer.label_channels import describe_label_channel, label_channels
from panimbus.infer.label_report import (
    ALLOW,
    LabelReport,
    describe,
    impossible,
    problems_of,
    warnings_of,
)
from panimbus.infer.progress import default_progress
from panimbus.infer.settings import PredictSettings
from panimbus.infer.validating import ValidatingArray, clean_labels, count_pieces
from panimbus.model.weights import ModelFiles, resolve_model

SATURATED = 0.005


@dataclass
class _Inspection:
    """Results collected FOV by FOV."""

    model: ModelFiles
    channels: tuple[str, ...]
    reference: tuple[str, ...]
    settings: PredictSettings
    fovs: list[FovReport] = field(default_factory=list)
    sizes: list[FovSize] = field(default_factory=list)
    areas: list[npt.NDArray[np.float64]] = field(default_factory=list)
    pooled: PooledStats = field(default_factory=PooledStats)
    bad: dict[str, int] = field(default_factory=dict)
    digests: dict[str, list[str]] = field(default_factory=dict)
    dtypes: dict[str, set[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    scan_s: float = 0.0


def inspect_fovs(
    fovs: Images,
    *,
    labels: Labels | None = None,
    mpp: float | None = None,
    channels: Sequence[str] | None = None,
    model: str | Path | None = None,
    settings: PredictSettings | None = None,
    progress: OnProgress | None = None,
) -> InspectionReport:
    """Inspect the input of `predict`: read all pixels once, in bounded memory.

    Parameters
    ----------
    fovs
        FOVs from `open_fovs` or `from_array`, or paths of images. Missing label images and pixel
        sizes are reported as problems.
    labels, mpp
        Label images and µm per pixel of images given as paths, as `open_fovs` takes them.
    channels
        Names of channels; default: all channels. Counterstains are looked at, too.
    model, settings
        As for `predict`; they determine the normaliser, the cost, and the limits of cell areas.
    progress
        Called with a `Progress` from time to time; default: a bar in a notebook, nothing elsewhere.

    Returns
    -------
    InspectionReport
        Problems of the input are listed in it, not raised.

    Examples
    --------
    >>> import panimbus
    >>> tissue = panimbus.simulate_tissue((96, 96), panel=1, seed=1)
    >>> fov = panimbus.from_array(tissue.image, channels=["CD3"], mpp=tissue.mpp)
    >>> panimbus.inspect_fovs(fov).ok  # without labels
    False
    """
    chosen = resolve_fovs(fovs, labels, mpp, channels)
    if not chosen:
        raise InputError("There is no FOV to look at.")
    settings, files = settings or PredictSettings(), resolve_model(model)
    progress = progress or default_progress()
    wanted = chosen[0].channels if channels is None else tuple(channels)
    for channel in wanted:
        chosen[0].index(channel)
    inspection = _Inspection(
        files, wanted, reference_channels(wanted, chosen, [COUNTERSTAIN]), settings
    )
    inspection.problems.extend(_missing(chosen))
    for k, fov in enumerate(chosen):
        progress(Progress("scan", fov.fov_id, k, len(chosen)))
        _inspect_fov(fov, inspection)
    progress(Progress("scan", chosen[-1].fov_id, len(chosen), len(chosen)))
    pooled = inspection.pooled.to_dict(inspection.channels)
    seen = _channels(inspection, pooled)
    _check_dataset(inspection)
    inspection.warnings += _other_labels(chosen, inspection, pooled)
    stains = find_counterstains([*wanted, *inspection.reference], chosen[0].channel_types)
    if correlated := [c for c in seen if c.name not in stains and (c.counterstain or 0.0) > ALIKE]:
        names = format_list([f"{c.name} ({c.counterstain:.2f})" for c in correlated])
        inspection.warnings.append(
            "bright in the same cells as the counterstain, so stains of all nuclei, or only"
            f" their haze: {names} (rank correlation of the cells' mean intensities)"
        )
    if (level := common_dark_level({c: one.pixels for c, one in pooled.items()})) is not None:
        inspection.warnings.append(describe_dark_level(level))
    live = sum(not c.blank for c in seen)
    cost = (
        estimate_cost(inspection.sizes, live, files, settings, inspection.scan_s)
        if inspection.sizes
        else None
    )
    return InspectionReport(
        model=files.card.name,
        percentile=files.card.percentile,
        fovs=tuple(inspection.fovs),
        channels=tuple(seen),
        counterstains=tuple(stains),
        objects=_objects(inspection),
        problems=tuple(group_messages(inspection.problems)),
        warnings=tuple(group_messages(inspection.warnings)),
        cost=cost,
    )


def _other_labels(
    chosen: Sequence[Fov], inspection: _Inspection, pooled: Mapping[str, ChannelStats]
) -> list[str]:
    """Warnings about channels that are label images of other objects."""
    rest = [c for c in inspection.channels if describe_id_channel(c) not in inspection.warnings]
    return [describe_label_channel(c) for c in label_channels(chosen, rest, pooled)]


def _missing(chosen: Sequence[Fov]) -> list[str]:
    """Problems that show before any pixel is read."""
    ids = [f.fov_id for f in chosen]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    bare = [f.fov_id for f in chosen if f.labels is None]
    unsized = [f.fov_id for f in chosen if f.mpp is None]
    return [
        *([f"FOV names are not unique: {format_list(twice)}"] if twice else []),
        *(
            [f"{_fovs(bare)} without a label image: pass --labels (Python: labels=)"]
            if bare
            else []
        ),
        *(
            [
                (
                    f"{_fovs(unsized)} whose files do not say how large a pixel is: pass --mpp"
                    " (Python: mpp=)"
                )
            ]
            if unsized
            else []
        ),
    ]


def _fovs(names: Sequence[str]) -> str:
    return f"{len(names)} FOV{'s' * (len(names) != 1)} ({format_list(names, 5)})"


def _inspect_fov(fov: Fov, inspection: _Inspection) -> None:
    """Read one FOV; errors become problems."""
    name = f"FOV {fov.fov_id!r}"
    if missing := [c for c in inspection.channels if c not in fov.channels]:
        inspection.problems.append(
            f"{name} lacks the channels {format_list(missing)}, which"
            f" {inspection.fovs[0].fov_id!r} has"
        )
    mpp, model_mpp = fov.mpp, inspection.model.card.mpp
    labels: LabelReport | None = None
    excluded: Excluded | None = None
    image = ValidatingArray(fov.image)
    try:
        none = np.broadcast_to(np.uint8(0), fov.shape_yx)
        negative, clean = clean_labels(none if fov.labels is None else fov.labels)
        plain = fov.with_(image=image, labels=clean, mpp=mpp or model_mpp)
        begin = time.perf_counter()
        channels = [c for c in inspection.channels if c in fov.channels]
        cells, scan = scan_fov(plain, channels, model_mpp, reference=inspection.reference)
        inspection.scan_s += time.perf_counter() - begin
        excluded = excluded_part(fov, cells)
        for line in map(describe_id_channel, id_channels(scan.mean, cells.index.ids, channels)):
            inspection.warnings += [line] if line not in inspection.warnings else []
        for channel in channels:
            _pool(inspection, channel, scan.stats[channel], image, fov)
        lost = {channel for channel, _ in scan.skipped} | {
            c for c in inspection.reference if image.not_finite[fov.index(c)]
        }
        if lost:
            inspection.warnings.append(
                f"{name}: parts of the counterstain {format_list(sorted(lost))} cannot be read: not"
                " looked at"
            )
        if fov.labels is not None:
            pieces = count_pieces(clean, cells.index)
            labels = describe(fov, cells, negative, inspection.settings.min_area, pieces)
            if (odd := impossible(fov, cells, pieces)) is not None:
                (
                    inspection.warnings
                    if inspection.settings.allow_odd_labels
                    else inspection.problems
                ).append(f"{name}: {odd} ({ALLOW} continues anyway)")
            if (
                moved := describe_misfit(
                    fov.with_(labels=clean), (*channels, *inspection.reference)
                )
            ) is not None:
                inspection.warnings.append(f"{name}: {moved}")
            if fov.mpp is not None:
                inspection.areas.append(np.asarray(cells.geometry.count * fov.mpp**2, np.float64))
            inspection.sizes.append(
                FovSize(
                    fov.shape_yx,
                    cells.y.scale,
                    fov.image.dtype.itemsize,
                    fov.labels.dtype.itemsize,
                    cells.n,
                )
            )
    except (PanimbusError, OSError) as error:
        text = str(error)
        inspection.problems.append(text if fov.fov_id in text else f"{name}: {text}")
    if labels is not None:
        inspection.problems += [f"{name}: {text}" for text in problems_of(labels)]
        inspection.warnings += [
            f"{name}: {text}" for text in warnings_of(labels, inspection.settings.min_area)
        ]
    source = fov.source
    inspection.fovs.append(
        FovReport(
            fov.fov_id,
            str(source.get("format", "array")),
            str(source.get("image", "")),
            (len(fov.channels), *fov.shape_yx),
            str(fov.image.dtype),
            mpp,
            labels,
            tuple(fov.notes),
            excluded,
        )
    )


def _pool(
    inspection: _Inspection, channel: str, stats: ChannelStats, image: ValidatingArray, fov: Fov
) -> None:
    plane = fov.index(channel)
    bad = image.not_finite[plane]
    if bad:  # they were read as 0
        pixels = stats.pixels
        counts = np.maximum(pixels.counts - np.where(pixels.keys == 0, bad, 0), 0)
        stats.pixels = Histogram(pixels.keys, counts, pixels.is_float).where(counts > 0)
        inspection.problems.append(
            f"FOV {fov.fov_id!r}, channel {channel!r}: {bad:,} pixels are NaN or infinite: replace"
            " them, e.g. with 0"
        )
    inspection.bad[channel] = inspection.bad.get(channel, 0) + bad
    inspection.pooled.add({channel: stats})
    inspection.digests.setdefault(channel, []).append(image.digest(plane))
    inspection.dtypes.setdefault(channel, set()).add(str(fov.image.dtype))


def _objects(inspection: _Inspection) -> dict[str, dict[str, Any]]:
    area = np.concatenate([np.zeros(0), *inspection.areas])
    return object_shares(
        object_kinds(area, inspection.settings.min_area, inspection.settings.max_area), area
    )


def _channels(inspection: _Inspection, pooled: Mapping[str, ChannelStats]) -> list[ChannelReport]:
    card = inspection.model.card
    scale = ChannelScale.fit(pooled, percentile=card.percentile, over=card.percentile_over)
    out: list[ChannelReport] = []
    seen: dict[tuple[str, ...], str] = {}
    for name in inspection.channels:
        pixels, value = pooled[name].pixels, scale.value(name)
        values, total = pixels.values(), max(pixels.total, 1)
        kinds = sorted(inspection.dtypes.get(name, ()))
        blank = scale.blank(name)
        key = tuple(inspection.digests.get(name, ()))
        same = None if blank or not key else seen.setdefault(key, name)
        out.append(
            ChannelReport(
                name=name,
                dtype=", ".join(kinds),
                min=float(values[0]) if len(values) else None,
                max=float(values[-1]) if len(values) else None,
                normaliser=None if blank else value,
                blank=blank,
                saturated=_saturated(pixels, kinds),
                not_finite=inspection.bad.get(name, 0),
                nonzero=1 - float(pixels.counts[pixels.keys == 0].sum()) / total,
                same_as=None if same == name else same,
                counterstain=scale.stats[name].get(COUNTERSTAIN),
                note=scale.notes.get(name, ""),
            )
        )
        _check_channel(out[-1], inspection)
    return out


def _saturated(pixels: Histogram, kinds: Sequence[str]) -> float:
    """Share of pixels at the maximum, if that is the type's largest value or a spike."""
    if len(pixels.keys) < 3:
        return 0.0
    share = float(pixels.counts[-1] / pixels.total)
    ceiling = [float(np.iinfo(k).max) for k in kinds if np.dtype(k).kind in "ui"]
    below = pixels.counts[-11:-1]
    spike = len(pixels.keys) > 20 and share > 1e-4 and pixels.counts[-1] > 10 * float(below.max())
    return share if spike or float(pixels.values()[-1]) in ceiling else 0.0


def _check_channel(channel: ChannelReport, inspection: _Inspection) -> None:
    name = f"channel {channel.name!r}"
    if channel.note:
        inspection.warnings.append(f"{name}: {channel.note}")
    if channel.same_as is not None:
        inspection.warnings.append(f"{name} has exactly the pixels of {channel.same_as!r}")
    if channel.saturated > SATURATED:
        inspection.warnings.append(
            f"{name}: {100 * channel.saturated:.1f} % of the pixels are saturated (at"
            f" {channel.max:g})"
        )
    if channel.min is not None and channel.min < 0:
        inspection.warnings.append(
            f"{name}: there are values below 0 (the lowest {channel.min:g}); they count as 0"
        )
    if ", " in channel.dtype:
        inspection.warnings.append(
            f"{name}: the FOVs have different pixel types ({channel.dtype}): one normaliser may not"
            " fit all"
        )


def _check_dataset(inspection: _Inspection) -> None:
    """Warnings about the dataset as a whole."""
    masked = [f.excluded for f in inspection.fovs if f.excluded is not None]
    inspection.warnings += warn_of_masks(masked)
    sizes = sorted({f.mpp for f in inspection.fovs if f.mpp is not None})
    if len(sizes) > 1 and sizes[-1] > 1.02 * sizes[0]:
        inspection.warnings.append(
            f"the FOVs have different pixel sizes, {sizes[0]:g} to {sizes[-1]:g} µm/px"
        )
    model_mpp = inspection.model.card.mpp
    if sizes and sizes[-1] > 1.5 * model_mpp:
        inspection.warnings.append(
            f"the images ({sizes[-1]:g} µm/px) are coarser than the model works at ({model_mpp:g}"
            " µm/px)"
        )
