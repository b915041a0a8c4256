"""100,000 cells to QuPath objects: time of outlines and file, 40 measurements a cell.

    python benchmarks/phenotype/geojson.py [--cells 100000]

Writes geojson.json beside this file. The promise is 20 s on a quiet machine; on a busy one look at
the processor's time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
from skimage.segmentation import expand_labels

from panimbus.io.outlines import trace_outlines
from panimbus.io.qupath import CellObjects, write_qupath


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=100_000)
    n = parser.parse_args().cells
    rng = np.random.default_rng(0)
    side = int(np.sqrt(n * 160))
    labels = np.zeros((side, side), np.int32)
    labels.flat[rng.choice(side * side, n, replace=False)] = np.arange(1, n + 1)
    labels = expand_labels(labels, 7)
    ids = np.arange(1, n + 1)
    scores = {f"marker {k}": rng.random(n).astype(np.float32) for k in range(40)}
    cells = CellObjects(
        ids, ["T cell"] * n, {"T cell": (1, 2, 3)}, scores, {"reason": ["CD45+ CD3+ CD4+"] * n}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.geojson"
        wall, cpu = time.perf_counter(), time.process_time()
        write_qupath(path, trace_outlines(labels), cells, fov_id="fov")
        result = {
            "cells": n,
            "wall_s": time.perf_counter() - wall,
            "processor_s": time.process_time() - cpu,
            "MB": path.stat().st_size / 1e6,
        }
    result |= {
        "load_average": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    text = json.dumps(
        {k: round(v, 2) if isinstance(v, float) else v for k, v in result.items()}, indent=1
    )
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
