"""How fast the first pass is: python benchmarks/first_pass.py [--side 8192] [--channels 4] [--cell
15] [--float] [--factor 2]

A made-up FOV in memory: square cells that touch, counts that follow a gamma distribution. Prints
seconds, how often each pixel was read, and the peak memory above that of the FOV itself (Linux).
"""

import argparse
import time
from pathlib import Path

import numpy as np

from panimbus.core.fov import Fov
from panimbus.core.scan import fov_bands, scan_band, scan_fov


class Counted:
    """An array that counts the pixels read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, key):
        part = self.array[key].copy()
        self.read += part.size
        return part

    @property
    def times(self):
        return self.read / self.array.size


def make(args):
    rows = np.arange(args.side)
    of = rows // args.cell
    labels = (of[:, None] * (of[-1] + 1) + of[None] + 1).astype(np.uint32)
    labels[rows % args.cell == 0] = 0
    rng = np.random.default_rng(0)
    patch = rng.poisson(rng.gamma(1, 150, (args.channels, 1024, 1024))).astype(np.uint16)
    times = -(-args.side // 1024)
    image = np.tile(patch, (1, times, times))[:, : args.side, : args.side]
    image = image.astype(np.float32) * np.float32(1.37) if args.float else image.copy()
    return Fov(
        "f", Counted(image), tuple(f"c{k}" for k in range(args.channels)), Counted(labels), 0.5
    )


def peak():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=8192, help="pixels")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--cell", type=int, default=15, help="pixels across")
    parser.add_argument("--float", action="store_true")
    parser.add_argument(
        "--factor", type=float, default=2.0, help="pixels of the image in one of the model"
    )
    args = parser.parse_args()
    fov, mpp = make(args), 0.5 * args.factor
    Path("/proc/self/clear_refs").write_text("5")
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    cells, _ = scan_fov(fov, fov.channels, mpp)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    area = args.side**2 * args.channels / 1e6
    print(
        f"{cells.n:,} cells, {len(cells.rescued):,} of them smaller than a model pixel;"
        f" {len(fov_bands(fov, mpp))} bands"
    )
    print(f"wall {wall:.2f} s, CPU {cpu:.2f} s: {1e3 * cpu / area:.1f} ms CPU a megapixel-channel")
    print(f"labels read {fov.labels.times:.2f} times, channels {fov.image.times:.2f} times")
    print(f"peak memory above the FOV's own: {peak() - before:.0f} MB")
    part = scan_band(fov, fov.channels, mpp, fov_bands(fov, mpp)[0])
    print(
        f"what is kept of a band: {sum(a.nbytes for a in part.to_arrays().values()) / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
