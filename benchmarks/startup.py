"""How long it takes to start: ``import panimbus``, ``panimbus --help``; and that a CPU prediction
imports no torch.

    python benchmarks/startup.py

Each is run in fresh processes, the interpreter's own start taken off for the import. Goals: 0.1 s
and 0.5 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 7


def seconds(*command: str) -> float:
    """Median wall time of a command."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    bare = seconds(sys.executable, "-c", "pass")
    print(
        f"import panimbus:  {seconds(sys.executable, '-c', 'import panimbus') - bare:.3f} s (goal"
        " 0.1)"
    )
    print(
        f"panimbus --help:  {seconds(sys.executable, '-m', 'panimbus', '--help'):.3f} s (goal 0.5)"
    )


if __name__ == "__main__":
    main()
