"""Score maps: their grid, their background, and their files."""

from __future__ import annotations

import csv
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from panimbus.core.fov import Fov
from panimbus.core.scan import FovCells
from panimbus.core.types import Float32Array
from panimbus.core.window import read_index
from panimbus.infer.executor import Plan
from panimbus.infer.settings import MAP_FORMATS, MapStyle
from panimbus.io.files import atomic_path, remove_path
from panimbus.io.names import safe_names
from panimbus.io.pyramid import CHUNK, ImageSpec
from panimbus.io.write import TileWriter

Box = tuple[slice, slice]
_KEPT = 1 << 26  # bytes of masks that are kept for the next channel
LISTING = "files.csv"


def map_image(fov: Fov, cells: FovCells, plan: Plan, style: MapStyle) -> ImageSpec:
    """Shape, channels and description of the map file of a FOV."""
    own = style.grid == "image"
    channels, mpp = plan.channels, fov.mpp if own else plan.model.card.mpp
    return ImageSpec(
        (len(channels), *(fov.shape_yx if own else cells.shape)),
        np.dtype(np.float32),
        channels,
        mpp,
        display=(0.0, 1.0),
        about=f"panimbus: scores of pixels, 0 to 1, at {mpp:g} µm/px"
        + ("" if style.background else "; 0 outside cells, where the net is not trained"),
    )


class MapSheet:
    """`MapSink` that writes scores on the grid of a `MapStyle`, by default 0 outside cells.

    Parameters
    ----------
    put
        Takes the tiles of the file.
    fov, cells
        The FOV.
    style
        Which grid, and whether the background is kept.
    """

    def __init__(self, put: TileWriter, fov: Fov, cells: FovCells, style: MapStyle) -> None:
        self._put, self._fov, self._cells, self._style = put, fov, cells, style
        self._nearest = (
            [axis.nearest() for axis in (cells.y, cells.x)] if style.grid == "image" else []
        )
        self._masks: OrderedDict[tuple[int, ...], npt.NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    @property
    def everywhere(self) -> bool:
        """Whether tiles without a cell on the model's grid are needed, too."""
        return self._style.background or self._style.grid == "image"

    def __call__(self, channel: int, where: Box, values: Float32Array) -> None:
        """Take the scores of a channel at (rows, columns) of the model's grid."""
        for box, part in self._placed(where, values):
            if self._style.background:
                self._put(channel, box, part())
                continue
            inside = self._inside(box)
            if inside.any():  # the rest of the file is 0
                self._put(channel, box, np.where(inside, part(), np.float32(0)))

    def flush(self) -> None:
        """Write everything received so far to disk."""
        self._put.flush()

    def _placed(
        self, where: Box, values: Float32Array
    ) -> Iterator[tuple[Box, Callable[[], Float32Array]]]:
        """Boxes of the file and their values, on the image's grid in strips to bound memory."""
        if self._style.grid == "model":
            yield where, lambda: values
            return
        (y0, y1), (x0, x1) = (
            np.searchsorted(n, (s.start, s.stop)).tolist()
            for n, s in zip(self._nearest, where, strict=True)
        )
        rows, cols = self._nearest[0] - where[0].start, self._nearest[1][x0:x1] - where[1].start
        edges = [y0, *range((y0 // CHUNK + 1) * CHUNK, y1, CHUNK), y1]
        for a, b in pairwise(edges):
            if a < b and x0 < x1:
                yield (slice(a, b), slice(x0, x1)), lambda a=a, b=b: values[rows[a:b, None], cols]  # type: ignore[misc]

    def _inside(self, box: Box) -> npt.NDArray[np.bool_]:
        """Which pixels of a box lie in a cell; cached for the next channel within limits."""
        window = (box[0].start, box[0].stop, box[1].start, box[1].stop)
        shape = window[1] - window[0], window[3] - window[2]
        packed = self._masks.get(window)
        if packed is None:
            if self._style.grid == "model":
                inside = read_index(self._fov, self._cells, window) >= 0
            else:
                inside = (
                    np.asarray(
                        self._fov.labels[box] if self._fov.labels is not None else np.zeros(shape)
                    )
                    > 0
                )
            packed = self._masks[window] = np.packbits(inside)
            self._bytes += packed.nbytes
            while self._bytes > _KEPT and len(self._masks) > 1:
                self._bytes -= self._masks.popitem(last=False)[1].nbytes
        return np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).view(np.bool_)


def write_listing(out: Path, files: Mapping[str, Path]) -> None:
    """Write ``files.csv``: FOV -> its map file, whose name every file system allows."""
    with atomic_path(out / LISTING) as path, path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["fov", "map"])
        rows.writerows([fov_id, path.relative_to(out).as_posix()] for fov_id, path in files.items())


def remove_maps(out: Path, before: Sequence[str], now: Sequence[str]) -> set[str]:
    """Remove the map files of FOVs that are no longer in a run, and take them off the list.

    Maps of the others are kept.

    Parameters
    ----------
    out
        Folder of the run.
    before, now
        FOV ids of the earlier run and of this one.

    Returns
    -------
    set of str
        What was removed, relative to ``out``.
    """
    names = safe_names(now)
    gone = [
        f"maps/{name}.ome.{kind}"
        for name in set(safe_names(before).values()) - set(names.values())
        for kind in MAP_FORMATS
    ]
    removed = {name for name in gone if (out / name).exists()}
    for name in removed:
        remove_path(out / name)
    if removed and not any((out / "maps").iterdir()):
        (out / "maps").rmdir()
    if not _is_listing(out / LISTING):
        return removed
    paths = {
        fov: [out / "maps" / f"{name}.ome.{kind}" for kind in MAP_FORMATS]
        for fov, name in names.items()
    }
    maps = {fov: path for fov, both in paths.items() for path in both if path.exists()}
    if maps:
        write_listing(out, maps)
        return removed
    remove_path(out / LISTING)
    return removed | {LISTING}


def _is_listing(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline(20).rstrip() == b"fov,map"


def map_note(out: Path, fovs: Sequence[Fov], style: MapStyle, mpp: float) -> str:
    """Message about the maps at the end of a run; ``mpp`` is the model's."""
    own = sorted({f"{float(f.mpp):g}" for f in fovs if f.mpp is not None})
    where = f"the images' own grid ({', '.join(own[:3])}{', ...' * (len(own) > 3)} µm/px)"
    if style.grid == "model":
        where = f"{mpp:g} µm/px, the model's grid, not {where}: --maps-grid image writes them on it"
    kept = (
        "with the background, for which the net is not trained"
        if style.background
        else "0 outside cells"
    )
    return f"score maps: {out / 'maps'} (which is whose: {LISTING}), at {where}; {kept}"
