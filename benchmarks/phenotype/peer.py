"""pyFlowSOM on a table of cells; run by the benchmarks with the Python that has it.

    python peer.py CELLS.npy SEED RESULT.npz [PASSES]

CELLS.npy is (n, C); RESULT.npz gets ``codes`` (225, C), ``nodes`` (n,) from 0, ``error``, ``fit_s``
and ``assign_s`` (CPU) and ``wall_s``. The map is 15 x 15, all else as pyFlowSOM has it: 10 passes,
double precision, one thread.
"""

import sys
import time

import numpy as np
import pyFlowSOM


def main() -> None:
    source, seed, target = sys.argv[1:4]
    passes = int(sys.argv[4]) if len(sys.argv) > 4 else 10
    cells = np.asfortranarray(np.load(source), dtype=np.float64)
    wall, start = time.perf_counter(), time.process_time()
    codes = pyFlowSOM.som(cells, 15, 15, rlen=passes, seed=int(seed))
    fitted = time.process_time()
    nodes, distance = pyFlowSOM.map_data_to_nodes(np.asfortranarray(codes), cells)
    done = time.process_time()
    np.savez(
        target,
        codes=codes,
        nodes=np.asarray(nodes) - 1,
        error=float(np.mean(distance)),
        fit_s=fitted - start,
        assign_s=done - fitted,
        wall_s=time.perf_counter() - wall,
    )


if __name__ == "__main__":
    main()
