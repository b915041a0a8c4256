"""AnnData files of other people: looked at before they are loaded, then read under guard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panimbus.core.errors import ReadError
from panimbus.core.guard import guarded
from panimbus.io.documents import check_regular

if TYPE_CHECKING:
    from anndata import AnnData

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_ITEMS, _DEEPEST = 100_000, 30


def read_h5ad(
    path: str | Path, expected: str = "cells.h5ad of `panimbus predict`, or another AnnData file"
) -> AnnData:
    """Read an AnnData file.

    Nothing outside the file is followed, nothing is unpickled, and what would not fit into memory
    is refused first.

    Parameters
    ----------
    path
    expected
        What the file should be, for messages.

    Raises
    ------
    ReadError
        If it is missing, another kind of file, damaged, or too large.
    """
    path = Path(path)
    check_regular(path, expected)
    with guarded(
        path, "the table cannot be read.", fix="copy it again, or write it anew with anndata"
    ):
        with path.open("rb") as file:
            begins = file.read(len(_SIGNATURE))
        if begins != _SIGNATURE:
            raise ReadError(
                f"{path}: the table cannot be read.",
                expected=expected,
                got="a file that is not HDF5",
            )
        import anndata
        import h5py

        with h5py.File(path, "r") as opened:
            _check_hdf5(path, opened, expected)
        return anndata.read_h5ad(path)


def _check_hdf5(path: Path, file: Any, expected: str) -> None:
    """Refuse links that lead elsewhere, trees without end, and arrays larger than memory."""
    import h5py

    if "X" not in file and "obs" not in file:
        raise ReadError(
            f"{path}: this HDF5 file is no AnnData file.",
            expected=expected,
            got=f"{', '.join(list(file)[:8])}",
        )
    level, items, size = [file], 0, 0
    for _ in range(_DEEPEST):
        below = []
        for group in level:
            for name in group:
                items += 1
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise ReadError(
                        f"{path}: it links to what lies elsewhere.", got=f"{group.name}/{name}"
                    )
                item = group[name]
                if isinstance(item, h5py.Group):
                    below.append(item)
                elif isinstance(item, h5py.Dataset):
                    size += item.size * item.dtype.itemsize if item.shape is not None else 0
                    if item.external or item.is_virtual:
                        raise ReadError(f"{path}: its values lie in other files.", got=item.name)
            if items > _MOST_ITEMS:
                raise ReadError(
                    f"{path}: it holds more than {_MOST_ITEMS:,} arrays and groups.",
                    expected=expected,
                )
        if not below:
            break
        level = below
    else:
        raise ReadError(
            f"{path}: its groups are nested more than {_DEEPEST} deep.", expected=expected
        )
    if size > _memory_bytes():
        raise ReadError(
            f"{path}: it needs more memory than there is.", got=f"{size / 2**30:,.0f} GB of values"
        )


def _memory_bytes() -> int:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system says so
        return 1 << 40
