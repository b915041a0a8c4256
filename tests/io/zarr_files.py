"""Small OME-Zarr images, for tests of their readers."""

import json

import numpy as np
import zarr

NAMES = ("CD3", "CD20", "DAPI")


def stack(height=70, width=50):
    """(C, Y, X) = (3, height, width) uint16, no pixel 0 and every one different."""
    return np.arange(1, 1 + 3 * height * width, dtype=np.uint16).reshape(3, height, width)


def axes(letters, unit="micrometer"):
    return [{"name": a, **({"unit": unit} if a in "yx" else {})} for a in letters]


def write(
    path,
    data=None,
    version="0.5",
    *,
    names=NAMES,
    labels=None,
    chunks=(1, 32, 32),
    scale=0.5,
    **options,
):
    """Write an image, with label images ``labels`` inside; returns the path."""
    data = stack() if data is None else data
    form = 3 if version == "0.5" else 2
    if form == 2:
        options = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} | options
    group = zarr.open_group(store=str(path), mode="w", zarr_format=form)
    letters = "cyx"[-data.ndim :]
    group.create_array("0", data=data, chunks=chunks[-data.ndim :], **options)
    step = {"type": "scale", "scale": [1.0 if a == "c" else scale for a in letters]}
    meta = {
        "multiscales": [
            {
                "axes": axes(letters),
                "datasets": [{"path": "0", "coordinateTransformations": [step]}],
            }
        ]
    }
    if data.ndim == 3:
        meta["omero"] = {"channels": [{"label": n} for n in names]}
    group.attrs.update({"ome": {"version": version, **meta}} if form == 3 else meta)
    if labels:
        inner = group.create_group("labels")
        listed = {"labels": list(labels)}
        inner.attrs.update({"ome": {"version": version, **listed}} if form == 3 else listed)
        for name, array in labels.items():
            write(path / "labels" / name, array, version, chunks=chunks)
    return path


def edit(path, change):
    """Change a JSON document in place."""
    data = json.loads(path.read_text())
    changed = change(data)
    path.write_text(json.dumps(data if changed is None else changed))
