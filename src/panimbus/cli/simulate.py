"""``panimbus simulate``: simulated tissue with its truth, as a dataset for `panimbus build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options
from panimbus.io.files import write_text

_TOML = """\
# Simulated tissue. The labels are the truth; with the cell types in cells.csv an assignment matrix
# can be used instead.
name = "{name}"
tissue = "simulated"
images = "images"
labels = "labels"

[cells]
table = "cells.csv"
type = "cell_type"

[silver]
labels = "truth.csv"
"""


def command(  # noqa: PLR0913 (one parameter an option)
    *,
    out: Annotated[Path, options.folder("--out", "New folder for the dataset.")],
    fovs: Annotated[int, typer.Option("--fovs", min=1, max=100_000, help="Number of FOVs.")] = 10,
    seed: options.Seed = 0,
    side: Annotated[
        int, typer.Option(min=64, max=16384, help="Width and height of an FOV in pixels.")
    ] = 512,
    mpp: Annotated[
        float, typer.Option("--mpp", min=0.1, max=4.0, help="Micrometres per pixel.")
    ] = 0.5,
    markers: Annotated[
        int,
        typer.Option(min=0, max=1000, help="Number of random markers; 0 uses the named panel."),
    ] = 0,
    platform: Annotated[
        options.Platform, options.choice("--platform", "Imaging platform of all FOVs.")
    ] = options.Platform.random,
    errors: Annotated[
        float,
        typer.Option(min=0, max=100, help="Factor on the frequency of segmentation errors."),
    ] = 1.0,
    name: Annotated[str, typer.Option(help="Name of the dataset.")] = "simulated",
) -> None:
    """Simulate tissue and write it as a dataset with its truth.

    Writes images, label images, cells.csv, truth.csv and dataset.toml to --out. truth.csv has one
    value per cell and marker: 1 (positive), 0 (negative) or empty (too dim to be visible, or a
    label that covers several cells).
    """
    import pandas as pd

    from panimbus.cli.inputs import prepare_out
    from panimbus.core.errors import InputError
    from panimbus.io import atomic_path, write_labels, write_ome_tiff
    from panimbus.simulate import simulate_dataset

    prepare_out(out)
    if (out / "dataset.toml").exists():
        raise InputError(f"--out {out} already contains a dataset.", fix="choose a new folder")
    if '"' in name or "\\" in name or "/" in name or not name.strip():
        raise InputError("This is not a valid name of a dataset.", got=name)
    cells, truth = [], []
    tissues = simulate_dataset(
        fovs,
        (side, side),
        mpp=mpp,
        panel=markers or None,
        seed=seed,
        platform=str(platform),
        errors=errors,
    )
    for k, tissue in enumerate(tissues):
        fov = f"fov{k + 1:03d}"
        write_ome_tiff(
            out / "images" / f"{fov}.ome.tiff", tissue.image, tissue.channels, tissue.mpp
        )
        write_labels(out / "labels" / f"{fov}.tiff", tissue.labels)
        ids = pd.DataFrame({"fov": fov, "cell_id": range(1, len(tissue.truth) + 1)})
        cells.append(ids.assign(cell_type=tissue.cell_types))
        calls = pd.DataFrame(tissue.truth, columns=list(tissue.channels)).astype("Int8")
        truth.append(pd.concat([ids, calls.mask(calls < 0)], axis=1))
    for rows, path in ((cells, out / "cells.csv"), (truth, out / "truth.csv")):
        with atomic_path(path) as temporary:
            pd.concat(rows).to_csv(temporary, index=False)
    write_text(out / "dataset.toml", _TOML.format(name=name))
    count = sum(len(t) for t in truth)
    typer.echo(
        f"{out}: {fovs} FOVs ({tissue.platform}), {count:,} cells, {len(tissue.channels)} markers"
    )
    typer.echo(f"next: panimbus build {out / 'dataset.toml'} --out STORE")
