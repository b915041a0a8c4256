"""Types of a million cells x 40 markers: time and memory of `assign_types`, types and clusters
together.

    python benchmarks/phenotype/million.py

Scores are drawn for twelve types with 5 % of the calls wrong; 22 of the 40 markers tell types. The
baseline in the same run is `assign_types` on a tenth of the cells. Writes million.md beside this
file.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
IMMUNE = (
    "CD45",
    "CD3",
    "CD4",
    "CD8",
    "FoxP3",
    "CD20",
    "CD19",
    "PAX5",
    "CD138",
    "CD56",
    "Tryptase",
    "CD68",
    "CD163",
    "CD14",
)
MARKERS = (*IMMUNE, "CD11c", "MPO", "PanCK", "E-cadherin", "CD31", "Vimentin", "SMA", "CollagenI")
TYPES = (
    "CD45 CD3 CD4",
    "CD45 CD3 CD4 FoxP3",
    "CD45 CD3 CD8",
    "CD45 CD20 CD19 PAX5",
    "CD45 CD138",
    "CD45 CD56",
)
TYPES += (
    "CD45 Tryptase",
    "CD45 CD68 CD163 CD4",
    "CD45 CD14",
    "PanCK E-cadherin",
    "CD31 Vimentin",
    "Vimentin CollagenI",
)


def table(cells):
    from anndata import AnnData

    rng = np.random.default_rng(0)
    channels = [*MARKERS, *(f"M{i}" for i in range(40 - len(MARKERS)))]
    carried = np.array([[c in t.split() for c in channels] for t in TYPES])[
        rng.integers(0, len(TYPES), cells)
    ]
    positive = carried ^ (rng.random(carried.shape) < 0.05)
    scores = np.where(positive, 0.7, 0.02).astype(np.float32)
    scores += 0.28 * rng.random(scores.shape, np.float32)
    obs = pd.DataFrame(
        {
            "fov_id": pd.Categorical(["slide"] * cells),
            "cell_id": np.arange(1, cells + 1),
            "area_um2": 60.0,
        }
    )
    obs.index = obs.index.astype(str)
    return AnnData(X=scores, obs=obs, var=pd.DataFrame(index=channels))


def measure(cells):
    from panimbus import assign_types

    data = table(cells)
    start = time.perf_counter()
    typed = assign_types(data)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:.1f} {peak:.0f} {(typed.obs['cell_type'] == 'unassigned').mean():.3f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    rows = []
    for cells in (100_000, 1_000_000):
        runs = [
            subprocess.run(
                [sys.executable, __file__, "--measure", str(cells)],
                capture_output=True,
                text=True,
                check=True,
            )
            for _ in range(3)
        ]
        rows.append(
            (cells, np.median([[float(v) for v in r.stdout.split()] for r in runs], axis=0))
        )
    lines = ["# Types of a million cells", "", "    python benchmarks/phenotype/million.py", ""]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines += [f"{datetime.now(UTC):%Y-%m-%d}, {machine}. Median of 3 runs."]
    lines += ["", "| cells | seconds | peak memory (MB), the table included |", "|---|---|---|"]
    lines += [f"| {cells:,} | {m[0]:.1f} | {m[1]:,.0f} |" for cells, m in rows]
    (HERE / "million.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
