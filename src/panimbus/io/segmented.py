"""Label images and images of the FOVs in a cell table, checked against its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError, MatchError, ReadError, format_list
from panimbus.core.fov import ArrayLike, Fov, check_labels
from panimbus.core.labels import unique_ids
from panimbus.core.table import CELL, FOV, PROVENANCE
from panimbus.core.types import Array
from panimbus.io.documents import parse_json
from panimbus.io.fovs import open_fovs
from panimbus.io.label_matching import match_by_name, match_by_pairs, read_pairs
from panimbus.io.labels import label_locations, open_labels
from panimbus.io.location import Location

if TYPE_CHECKING:
    from anndata import AnnData


BAND = 1024
"""Rows of a label image that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Segmented:
    """A FOV's label image, and its image where there is one.

    Parameters
    ----------
    fov_id
    labels : (Y, X) integer, lazy
    mpp
        Micrometres per pixel, None if unknown.
    image
        None where only labels were given.
    """

    fov_id: str
    labels: ArrayLike
    mpp: float | None
    image: Fov | None = None

    def read(self) -> Array:
        """The whole label image."""
        return self.labels[0 : self.labels.shape[0], 0 : self.labels.shape[1]]

    def bands(self) -> Iterator[tuple[slice, Array]]:
        """The label image band by band, with the rows of each."""
        for start in range(0, self.labels.shape[0], BAND):
            rows = slice(start, min(start + BAND, self.labels.shape[0]))
            yield rows, np.asarray(self.labels[rows, 0 : self.labels.shape[1]])

    def thinned(self, most: int) -> tuple[Array, int]:
        """Every n-th pixel, at most ``most`` per side; and n."""
        step = max(1, -(-max(self.labels.shape) // most))
        return (
            np.concatenate(
                [band[-rows.start % step :: step, ::step] for rows, band in self.bands()]
            ),
            step,
        )

    @cached_property
    def ids(self) -> Array:
        """(n,) int64 labels of all cells, sorted."""
        bands = [unique_ids(band).astype(np.int64) for _, band in self.bands()]
        return np.unique(np.concatenate(bands))


def find_label_images(
    table: AnnData,
    labels: Sequence[Location],
    images: Sequence[Location] = (),
    *,
    pairs: str | None = None,
) -> list[Segmented]:
    """Find the label image of each FOV of a table, in the table's order.

    Parameters
    ----------
    table
        Cell table with obs ``fov_id``; pixel sizes come from its provenance where `predict` wrote
        it, else from the images.
    labels
        Files or folders, matched to FOVs by name; more FOVs may be there than the table has.
    images
        The same for the images, which GeoJSON labels and Mantis Viewer's channels need.
    pairs
        Instead of ``labels``: a CSV file of pairs that names the table's FOVs.
    """
    fovs = list(dict.fromkeys(table.obs[FOV].astype(str)))
    sizes = pixel_sizes(table)
    opened = {f.fov_id: f for f in open_fovs(list(images))} if images else {}
    if images and (lonely := [f for f in fovs if f not in opened]):
        raise MatchError(
            "FOVs of the table have no image.", got=format_list(lonely), available=opened
        )
    if pairs is not None:
        places = match_by_pairs(
            read_pairs(pairs),
            {f: str(opened[f].source.get("image", "")) if f in opened else "" for f in fovs},
            pairs,
        )
    else:
        places = _matched(fovs, labels)
    out = []
    for fov in fovs:
        image, polygons = opened.get(fov), places[fov].name.lower().endswith((".geojson", ".json"))
        if polygons and image is None:
            raise InputError(
                f"{places[fov]}: polygons do not say how large their image is.",
                fix="give the images, too: --images",
            )
        array = open_labels(places[fov], image.shape_yx if image is not None else (0, 0)).labels
        if image is not None:
            check_labels(array, fov, image.shape_yx)
        out.append(
            Segmented(
                fov, array, sizes.get(fov) or (image.mpp if image is not None else None), image
            )
        )
    return out


def _matched(fovs: Sequence[str], labels: Sequence[Location]) -> dict[str, Location]:
    """The label image of each FOV by name; one FOV and one file that the user named are a pair."""
    files: list[Location] = []
    for path in labels:
        if isinstance(path, Path) and not path.exists():
            raise ReadError(f"{path}: there is no such label image or folder.")
        files += label_locations(path)
    one = len(fovs) == len(files) == 1 and not (isinstance(labels[0], Path) and labels[0].is_dir())
    return {fovs[0]: files[0]} if one else match_by_name(fovs, files, subset=True)


def check_cells(table: AnnData, one: Segmented) -> tuple[Array, npt.NDArray[np.int64]]:
    """Rows of a FOV in the table and their ids, which must be in the label image."""
    rows = np.flatnonzero((table.obs[FOV].astype(str) == one.fov_id).to_numpy())
    ids = table.obs[CELL].to_numpy(np.int64)[rows]
    missing = np.setdiff1d(ids, one.ids)
    if len(missing):
        raise InputError(
            f"FOV {one.fov_id!r}: {len(missing)} of {len(ids)} cells of the table are not in the"
            " label image.",
            got=f"cell_id {format_list([str(i) for i in missing[:10]])}",
            fix="pass the label images that the cells were scored with",
        )
    return rows, ids


def pixel_sizes(table: AnnData) -> dict[str, float]:
    """FOV -> µm per pixel, from the provenance of the table."""
    provenance = table.uns.get(PROVENANCE, {})
    inputs = provenance.get("inputs") if isinstance(provenance, Mapping) else None
    if inputs is None:
        return {}
    data = parse_json(str(inputs), 'uns["panimbus"]["inputs"] of the table')
    sizes = (
        {fov: about.get("mpp") for fov, about in data.items() if isinstance(about, dict)}
        if isinstance(data, dict)
        else {}
    )
    return {
        fov: float(mpp)
        for fov, mpp in sizes.items()
        if isinstance(mpp, int | float) and 0 < mpp < 1e6
    }
