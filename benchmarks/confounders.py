"""Time and memory of the confounder analysis at the size of the paper's gold standard.

1.1 million annotations, five confounders, three methods: python benchmarks/confounders.py
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd

from panimbus.evaluate.confounders import CONFOUNDERS, confounder_table

METHODS = ("model", "intensity", "silver")


def annotations(n: int) -> pd.DataFrame:
    """Random annotations whose errors depend on cell size."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"truth": (rng.random(n) < 0.2).astype(float)})
    table["cell_size"] = rng.integers(30, 900, n)
    table["density"] = rng.integers(0, 300, n)
    table["sparsity"] = rng.integers(0, 60, n)
    table["rarity"] = rng.choice(rng.random(400), n)
    table["heterogeneity"] = rng.choice(rng.lognormal(0, 0.5, 400), n)
    for method in METHODS:
        wrong = rng.random(n) < np.where(table["cell_size"] < 200, 0.12, 0.06)
        table[method] = np.where(wrong, 1 - table["truth"], table["truth"])
    return table


def main() -> None:
    """Print seconds, memory and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, default=1_100_000)
    n = parser.parse_args().annotations
    calls = annotations(n)
    begin = time.perf_counter()
    table = confounder_table(calls, METHODS)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n:,} annotations, {len(CONFOUNDERS)} confounders, {len(METHODS)} methods:")
    print(f"{seconds:.1f} s, peak {peak:,.0f} MB")
    print(table[["confounder", "method", "information", "chance"]].round(5).to_string(index=False))


if __name__ == "__main__":
    main()
