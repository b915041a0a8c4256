"""The output folder: finished parts are kept, and a run with the same input continues there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from panimbus.core.band import BandScan
from panimbus.core.errors import ReadError
from panimbus.core.fov import Fov
from panimbus.core.guard import guarded
from panimbus.core.histogram import Histogram
from panimbus.core.labels import CellIndex
from panimbus.core.scale import ChannelStats
from panimbus.core.scan import CellGeometry, FovCells, FovScan, model_axes
from panimbus.core.table import EVIDENCE
from panimbus.infer.blocks import BlockPart, Scored
from panimbus.infer.settings import MAP_FORMATS, MapStyle
from panimbus.io.files import atomic_path, remove_path
from panimbus.io.names import safe_name, safe_names
from panimbus.io.pyramid import ImageSpec
from panimbus.io.write import TileWriter, image_writer

Part = BlockPart | BandScan
P = TypeVar("P", BlockPart, BandScan)
_FORMAT = 8  # raise it when the meaning of what is stored changes


def input_fingerprint(data: Any) -> str:
    """A short hash of anything JSON-able."""
    return hashlib.blake2b(
        json.dumps([_FORMAT, data], sort_keys=True, default=str).encode(), digest_size=16
    ).hexdigest()


def source_key(fov: Fov) -> Any:
    """Identity of a FOV's files without reading pixels: path, size and time, or a server's tag.

    None for arrays in memory and for servers without tags: these are read again.
    """
    unknown = (
        "image" not in fov.source
        or (fov.excluded is not None and "excluded" not in fov.source)
        or None in [fov.source.get(f"{of}stamp", "") for of in ("", "labels_", "excluded_")]
    )
    return None if unknown else dict(fov.source)


class FolderStore:
    """Results per FOV, each in a file that is complete or absent.

    ``fovs/<fov>/scan.npz`` is the first pass, ``fovs/<fov>/scores.npz`` the second;
    ``maps/<fov>.ome.tiff`` the score maps. Until a FOV is complete its parts are kept in
    ``fovs/<fov>/bands`` and ``fovs/<fov>/blocks``, its maps in ``fovs/<fov>/maps-<key>``. Each file
    carries a key of everything that it depends on.

    Parameters
    ----------
    out
        The folder.
    fov_ids
        All FOVs of the run, whose file names must differ (`safe_names`).
    """

    def __init__(self, out: Path, fov_ids: Sequence[str] = ()) -> None:
        self.out = out
        self._names = safe_names(fov_ids)

    def _name(self, fov: Fov) -> str:
        return self._names.get(fov.fov_id) or safe_name(fov.fov_id)

    def load_scan(self, fov: Fov, key: str, mpp: float) -> tuple[FovCells, FovScan] | None:
        """The stored first pass, if it has this key; ``mpp``: µm per pixel of the model's grid."""
        data = self._load(self._path(fov, "scan"), key)
        if data is None:
            return None
        with (
            suppress(ReadError),
            guarded(self._path(fov, "scan")),
        ):  # unusable files are computed again
            return self._scan_in(data, fov, mpp)
        return None

    @staticmethod
    def _scan_in(data: Mapping[str, Any], fov: Fov, mpp: float) -> tuple[FovCells, FovScan]:
        stats = {}
        for k, name in enumerate(json.loads(str(data["channels"]))):
            pixels, means = (
                Histogram(
                    data[f"{prefix}_keys_{k}"],
                    data[f"{prefix}_counts_{k}"],
                    _kind(data[f"{prefix}_kind_{k}"]),
                )
                for prefix in ("pixels", "means")
            )
            numbers = (
                int(data[prefix][k]) for prefix in ("outside_count", "likeness", "likeness_cells")
            )
            stats[name] = ChannelStats(pixels, means, float(data["outside_sum"][k]), *numbers)
        geometry = CellGeometry(data["count"], data["sum_y"], data["sum_x"])
        skipped = tuple(
            (str(channel), tuple(box)) for channel, box in json.loads(str(data["skipped"]))
        )
        cells = FovCells(
            CellIndex(data["ids"]),
            geometry,
            *model_axes(fov, mpp),
            data["rescued"],
            data["pixels"],
            data["spread"],
            data.get("excluded"),
            int(data.get("excluded_pixels", 0)),
        )
        return cells, FovScan(stats, data["mean"], str(data["digest"]), skipped)

    def save_scan(self, fov: Fov, key: str, cells: FovCells, scan: FovScan) -> None:
        """Keep the first pass of a FOV."""
        arrays: dict[str, Any] = {
            "channels": json.dumps(list(scan.stats)),
            "mean": scan.mean,
            "digest": scan.digest,
            "outside_sum": [s.outside_sum for s in scan.stats.values()],
            "outside_count": [s.outside_count for s in scan.stats.values()],
            "likeness": [s.likeness for s in scan.stats.values()],
            "likeness_cells": [s.likeness_cells for s in scan.stats.values()],
            "ids": cells.index.ids,
            "count": cells.geometry.count,
            "sum_y": cells.geometry.sum_y,
            "sum_x": cells.geometry.sum_x,
            "rescued": cells.rescued,
            "pixels": cells.pixels,
            "spread": cells.spread,
            "skipped": json.dumps(scan.skipped),
        }
        if cells.excluded is not None:
            arrays |= {"excluded": cells.excluded, "excluded_pixels": cells.excluded_pixels}
        for k, stats in enumerate(scan.stats.values()):
            for prefix, histogram in (("pixels", stats.pixels), ("means", stats.cell_means)):
                arrays[f"{prefix}_keys_{k}"], arrays[f"{prefix}_counts_{k}"] = (
                    histogram.keys,
                    histogram.counts,
                )
                arrays[f"{prefix}_kind_{k}"] = {None: -1, False: 0, True: 1}[histogram.is_float]
        self._save(self._path(fov, "scan"), key, arrays)

    def finished(self, fov: Fov) -> bool:
        """Whether scores of a FOV exist, of any run."""
        return self._path(fov, "scores").exists()

    def load_scores(self, fov: Fov, key: str, *, maps: MapStyle | None) -> Scored | None:
        """The stored scores and evidence, if they have this key, and maps of this style."""
        data = self._load(self._path(fov, "scores"), key)
        if data is None or not {"score", "score_sd", "maps"} <= set(data):
            return None
        if data["score"].ndim != 2 or data["score"].shape != data["score_sd"].shape:
            return None
        if maps is not None and not (
            str(data["maps"]) == maps.name and self.map_path(fov, maps.format).exists()
        ):
            return None
        return Scored(
            data["score"], data["score_sd"], {name: data[name] for name in EVIDENCE if name in data}
        )

    def save_scores(self, fov: Fov, key: str, scored: Scored, *, maps: MapStyle | None) -> None:
        """Keep the scores of a FOV, which is finished now; remove maps of other scores."""
        kept = maps.format if maps else None
        _remove(
            *(self.map_path(fov, kind) for kind in MAP_FORMATS if kind != kept),
            *self._canvases(fov),
        )
        arrays = {
            "score": scored.score,
            "score_sd": scored.score_sd,
            **scored.evidence,
            "maps": maps.name if maps else "",
        }
        self._save(self._path(fov, "scores"), key, arrays)

    def map_path(self, fov: Fov, kind: str) -> Path:
        """Path of the score maps of a FOV."""
        return self.out / "maps" / f"{self._name(fov)}.ome.{kind}"

    def maps_kept(self, fov: Fov, key: str, style: MapStyle | None, *, whole: bool) -> bool:
        """Whether the maps of finished parts still exist: on the canvas, or all in the file."""
        return (
            style is None
            or (
                self.map_path(fov, style.format) if whole else self._canvas(fov, key, style)
            ).exists()
        )

    def _canvas(self, fov: Fov, key: str, style: MapStyle) -> Path:
        return (
            self.out
            / "fovs"
            / self._name(fov)
            / f"maps-{input_fingerprint([key, style.pixels])[:16]}"
        )

    def _canvases(self, fov: Fov) -> list[Path]:
        return list((self.out / "fovs" / self._name(fov)).glob("maps-*"))

    @contextmanager
    def map_sink(
        self, fov: Fov, key: str, image: ImageSpec, style: MapStyle
    ) -> Iterator[TileWriter]:
        """Collect score maps tile by tile, in any order; an interrupted run continues them."""
        canvas = self._canvas(fov, key, style)
        old = [self.map_path(fov, k) for k in MAP_FORMATS] + [
            c for c in self._canvases(fov) if c != canvas
        ]
        _remove(self._path(fov, "scores"), *old)  # they belong together
        with image_writer(self.map_path(fov, style.format), image, canvas=canvas) as put:
            if not put.resumed:  # nothing that was finished is in it
                self.drop_parts(fov, BlockPart)
            yield put

    def parts(self, fov: Fov, kind: type[Part], key: str) -> set[int]:
        """Numbers of the parts of a FOV that exist with this key."""
        return {
            int(path.stem)
            for path in self._folder(fov, kind).glob("*.npz")
            if path.stem.isdigit() and self._has(path, key)
        }

    def save_part(self, fov: Fov, key: str, number: int, part: Part) -> None:
        """Keep a part of a FOV."""
        self._save(self._folder(fov, type(part)) / f"{number:06d}.npz", key, part.to_arrays())

    def load_part(self, fov: Fov, kind: type[P], key: str, number: int) -> P:
        """A part that `parts` listed."""
        path = self._folder(fov, kind) / f"{number:06d}.npz"
        data = self._load(path, key)
        with suppress(ReadError), guarded(path):
            return kind.from_arrays({} if data is None else data)
        path.unlink(missing_ok=True)  # the next run computes it
        raise ReadError(
            f"{path}: a finished part could no longer be read, and was removed.",
            fix="run the same command again",
        )

    def drop_parts(self, fov: Fov, kind: type[Part]) -> None:
        """Remove the parts of a complete FOV."""
        shutil.rmtree(self._folder(fov, kind), ignore_errors=True)

    def _folder(self, fov: Fov, kind: type[Part]) -> Path:
        return self.out / "fovs" / self._name(fov) / ("blocks" if kind is BlockPart else "bands")

    def _path(self, fov: Fov, name: str) -> Path:
        return self.out / "fovs" / self._name(fov) / f"{name}.npz"

    @staticmethod
    def _has(path: Path, key: str) -> bool:
        """Whether a file has this key and is undamaged."""
        with (
            suppress(ReadError),
            guarded(path),
            path.open("rb") as file,
            np.load(file, allow_pickle=False) as data,
        ):
            return str(data["key"]) == key and data.zip.testzip() is None
        return False

    @staticmethod
    def _load(path: Path, key: str) -> dict[str, Any] | None:
        with (
            suppress(ReadError),
            guarded(path),
            path.open("rb") as file,
            np.load(file, allow_pickle=False) as data,
        ):
            return dict(data) if str(data["key"]) == key else None
        return None  # absent, damaged, or of another version: computed again

    @staticmethod
    def _save(path: Path, key: str, arrays: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, key=key, **arrays)


def _remove(*paths: Path) -> None:
    for path in paths:
        remove_path(path)


def _kind(value: Any) -> bool | None:
    return {-1: None, 0: False, 1: True}[int(value)]
