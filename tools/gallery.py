"""The gallery of the documentation: the paper's figures for three simulated datasets.

    python tools/gallery.py                  # writes docs/gallery/*.svg (make gallery)
    python tools/gallery.py --out FOLDER --work FOLDER

Two FOVs of simulated tissue of each of three platforms, whose truth takes the place of annotations.
Silver labels are the truth with errors: one cell in twenty is turned over. Everything else is
`panimbus evaluate --figures`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import panimbus

HOME = Path(__file__).resolve().parents[1]
PLATFORMS = {"codex": "lymph node", "mibi": "breast", "imc": "spleen"}
"""Platform -> tissue; the tissues are names alone."""
SIDE, FOVS, MPP, WRONG = 384, 2, 0.5, 0.05


def write_datasets(folder: Path, seed: int = 0) -> Path:
    """Write images, label images, tables and the TOML file of the evaluation; return that file."""
    rng = np.random.default_rng(seed)
    text = ['unit = "dataset"', "draws = 500"]
    for number, (platform, tissue) in enumerate(PLATFORMS.items()):
        room = folder / platform
        calls, types = [], []
        for f in range(FOVS):
            one = panimbus.simulate_tissue(
                (SIDE, SIDE), MPP, platform=platform, seed=10 * number + f + seed
            )
            name = f"fov{f + 1}"
            (room / "images").mkdir(parents=True, exist_ok=True)
            (room / "labels").mkdir(parents=True, exist_ok=True)
            panimbus.write_ome_tiff(
                room / "images" / f"{name}.ome.tiff", one.image, one.channels, one.mpp
            )
            panimbus.write_labels(room / "labels" / f"{name}.tiff", one.labels)
            calls.append(one.annotations(name))
            cells = {"fov": name, "cell_id": range(1, len(one.cell_types) + 1)}
            types.append(pd.DataFrame(cells | {"cell_type": one.cell_types}))
        annotated = pd.concat(calls)
        annotated.assign(dataset=platform).to_csv(room / "calls.csv", index=False)
        kinds = pd.concat(types)
        kinds[kinds["cell_type"] != "none"].to_csv(room / "types.csv", index=False)
        label = (annotated["call"] == "positive") ^ (rng.random(len(annotated)) < WRONG)
        silver = annotated.drop(columns="call").assign(label=label.astype(int))
        silver[annotated["call"] != "undetermined"].to_csv(room / "silver.csv", index=False)
        text += [
            "[[dataset]]",
            f'name = "{platform}"\ntissue = "{tissue}"',
            f'images = "{platform}/images"\nlabels = "{platform}/labels"',
            f'calls = "{platform}/calls.csv"\ncell_types = {{ file = "{platform}/types.csv" }}',
            f'silver = {{ file = "{platform}/silver.csv" }}',
        ]
    path = folder / "gallery.toml"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HOME / "docs" / "gallery")
    parser.add_argument("--work", type=Path, help="folder for the datasets; default: temporary")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = given.work or Path(name)
        source = write_datasets(work)
        command = [sys.executable, "-m", "panimbus", "evaluate", source, "--figures"]
        subprocess.run([*command, "--out", work / "report", "--overwrite"], check=True)  # noqa: S603
        given.out.mkdir(parents=True, exist_ok=True)
        for path in sorted((work / "report" / "figures").glob("*.svg")):
            if path.stem in {"figure_5d_2", "figure_5d_3"}:
                continue
            shutil.copyfile(path, given.out / path.name)
            print(given.out / path.name)


if __name__ == "__main__":
    main()
