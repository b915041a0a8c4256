"""Overviews of large files without a pyramid: one pass over the file, kept in a cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import InputError, PanimbusError
from panimbus.core.fov import ArrayLike, Fov
from panimbus.core.types import Array
from panimbus.io.files import check_folder
from panimbus.io.location import parse_location
from panimbus.io.write import tile_writer
from panimbus.viewer.pictures import Pictures
from panimbus.viewer.pixels import MOST_STEP, Pyramid, block_mean

_ROWS = 1024
logger = logging.getLogger(__name__)


@dataclass
class Pass:
    """A pass over a FOV's files, running or ended.

    Parameters
    ----------
    share
        Part that is done, 0 to 1.
    error
        Why it failed; "" if it did not.
    done
        Whether it ended.
    """

    share: float = 0.0
    error: str = ""
    done: bool = False


class Overviews:
    """Makes overviews where files need them.

    Parameters
    ----------
    pictures
    folder
        Where overviews are kept; None: nowhere, so that such files cannot be shown.
    """

    def __init__(self, pictures: Pictures, folder: Path | None) -> None:
        self._pictures, self.folder = pictures, folder
        self._passes: dict[str, Pass] = {}
        self._lock = threading.Lock()

    def needed(self, fov_id: str) -> int:
        """Bytes that the pass over a FOV will write, before compression; 0: none is needed."""
        parts = [p for p in self._pictures.pyramids(fov_id) if p is not None and _step(p)]
        if not parts:
            return 0
        self._reuse(fov_id)
        parts = [p for p in self._pictures.pyramids(fov_id) if p is not None and _step(p)]
        return sum(_bytes(p) for p in parts)

    def start(self, fov_id: str) -> Pass:
        """Start the pass over a FOV in the background, or give the one that runs."""
        with self._lock:
            running = self._passes.get(fov_id)
            if running is None or (running.done and running.error):
                running = self._passes[fov_id] = Pass()
                threading.Thread(target=self._make, args=(fov_id, running), daemon=True).start()
            return running

    def _make(self, fov_id: str, state: Pass) -> None:
        try:
            self.make(fov_id, state)
        except PanimbusError as error:
            state.error = str(error)
        except Exception as error:
            logger.exception("%s: the overview failed", fov_id)
            state.error = f"{type(error).__name__}: {error}"
        finally:
            state.done = True

    def make(self, fov_id: str, state: Pass | None = None) -> None:
        """Make the overview of a FOV's image and labels, as far as they need one.

        Raises
        ------
        InputError
            If there is no cache folder, or too little room in it.
        """
        need, state = self.needed(fov_id), state or Pass()
        if not need:
            return
        if self.folder is None:
            raise InputError(
                f"FOV {fov_id!r}: the file has no pyramid, and its overview can be kept nowhere.",
                fix="pass --cache FOLDER, or leave --read-only away",
            )
        check_folder(self.folder, need, "the overview")
        fov = self._pictures.result.fov(fov_id)
        logger.warning(
            "%s: no pyramid in the file; one pass writes an overview (at most %d MB) to %s",
            fov_id, need >> 20, self.folder,
        )  # fmt: skip
        parts = [(p, k) for k, p in enumerate(self._pictures.pyramids(fov_id)) if p is not None]
        for pyramid, k in parts:
            if step := _step(pyramid):
                share = (state.share, (1 - state.share) * (0.9 if k == 0 else 1))
                _write(pyramid, self._place(fov, labels=k == 1), step, state, share)
        self._reuse(fov_id)
        state.share = 1.0

    def _reuse(self, fov_id: str) -> None:
        """Take the overviews that are in the cache."""
        fov, chosen = self._pictures.result.fov(fov_id), []
        for k, pyramid in enumerate(self._pictures.pyramids(fov_id)):
            place = self._place(fov, labels=k == 1) if pyramid is not None else None
            if pyramid is None or place is None or not _step(pyramid) or not place.is_dir():
                chosen.append(pyramid)
                continue
            chosen.append(_with_levels(pyramid, _open(place, labels=k == 1)))
        self._pictures.replace(fov_id, chosen[0], chosen[1])  # type: ignore[arg-type]

    def _place(self, fov: Fov, *, labels: bool) -> Path:
        key = {k: v for k, v in fov.source.items() if k.startswith("labels") == labels}
        text = json.dumps([fov.shape_yx, fov.channels, key], sort_keys=True, default=str)
        digest = hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
        return (self.folder or Path()) / f"{digest}-{'labels' if labels else 'image'}.ome.zarr"


def _step(pyramid: Pyramid) -> int:
    """Step of the finest level that the cache must hold; 0: none."""
    if pyramid.needs_copy and pyramid.levels[0][0] == 1 and len(pyramid.levels) == 1:
        return 1
    return MOST_STEP if pyramid.needs_overview else 0


def _bytes(pyramid: Pyramid) -> int:
    array = pyramid.levels[0][1]
    return int(np.prod(array.shape)) * array.dtype.itemsize * 4 // (3 * _step(pyramid) ** 2)


def _write(
    pyramid: Pyramid, place: Path, step: int, state: Pass, share: tuple[float, float]
) -> None:
    array = pyramid.levels[0][1]
    labels = len(array.shape) == 2
    count = 1 if labels else array.shape[0]
    height, width = pyramid.shape
    shape = (count, -(-height // step), -(-width // step))
    begin, part = share
    bands = range(0, height, _ROWS)
    with tile_writer(
        place, shape, array.dtype, channels=[str(k) for k in range(count)], mpp=None, labels=labels
    ) as put:
        for n, y0 in enumerate(bands):
            rows = slice(y0, min(y0 + _ROWS, height))
            where = slice(y0 // step, -(-rows.stop // step)), slice(0, shape[2])
            for channel in range(count):
                index = (rows, slice(0, width))
                band = np.asarray(array[index if labels else (channel, *index)])
                put(channel, where, _thinned(band, step, labels=labels))
                state.share = begin + part * (n + (channel + 1) / count) / len(bands)


def _thinned(band: Array, step: int, *, labels: bool) -> Array:
    if step == 1:
        return band
    if labels:
        return band[::step, ::step]
    mean = block_mean(band, step)
    return mean if band.dtype.kind == "f" else np.rint(mean).astype(band.dtype)


def _open(place: Path, *, labels: bool) -> ArrayLike:
    from panimbus.io.omezarr import read_ome_image
    from panimbus.io.zarr_planes import open_group

    where = parse_location(place)
    image = read_ome_image(open_group(where), where).image
    return _Flat(image) if labels else image


class _Flat:
    """The only plane of an image as labels (Y, X)."""

    def __init__(self, image: ArrayLike) -> None:
        self._image = image

    @property
    def shape(self) -> tuple[int, ...]:
        """(Y, X)."""
        return tuple(self._image.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the ids."""
        return self._image.dtype

    def __getitem__(self, key: Any, /) -> Array:
        rows, columns = key
        return self._image[0, rows, columns]

    def coarser(self) -> list[_Flat]:
        """Levels of lower resolution."""
        from panimbus.io.levels import coarser_levels

        return [_Flat(level) for level in coarser_levels(self._image)]


def _with_levels(pyramid: Pyramid, first: ArrayLike) -> Pyramid:
    """The pyramid with the levels of an overview, whose first level may be the whole image."""
    from panimbus.io.levels import coarser_levels, level_factor

    own = pyramid.levels[0]
    more = first.coarser() if isinstance(first, _Flat) else coarser_levels(first)
    levels = [(level_factor(own[1].shape, one.shape), one) for one in (first, *more)]
    head = () if levels[0][0] == 1 else (own,)
    return Pyramid((*head, *levels), pyramid.key, pyramid.planes)
