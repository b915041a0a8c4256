"""Peak memory of `panimbus predict` by the number of channels: one FOV of 3,000 x 3,000 px, 12,000
cells, uint16.

    python benchmarks/slide/channels.py

5, 20 and 40 channels, a plane each, and 40 side by side in every pixel (interleaved). Writes
benchmarks/results/channels.md. About three minutes on two cores.
"""

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tifffile
from skimage.segmentation import expand_labels

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "peers")]
from measure import machine  # noqa: E402

SIDE, CELLS = 3000, 12_000
RUN = """
import sys
from panimbus.cli import main
try:
    main()
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    print("peak", peak, file=sys.stderr)
"""


def make(folder, channels, *, interleaved):
    rng = np.random.default_rng(0)
    labels = np.zeros((SIDE, SIDE), np.int64)
    labels[rng.integers(0, SIDE, CELLS), rng.integers(0, SIDE, CELLS)] = np.arange(1, CELLS + 1)
    labels = expand_labels(labels, 9).astype(np.uint32)
    tifffile.imwrite(folder / "labels.tif", labels, compression="zlib")

    def planes():
        for _ in range(channels):
            bright = rng.random(CELLS + 1) < 0.3
            yield rng.gamma(2.0, 20.0 + 100.0 * bright[labels] * (labels > 0)).astype(np.uint16)

    options = {"photometric": "minisblack", "metadata": None}
    if interleaved:
        image = np.stack([*planes()], axis=-1)
        tifffile.imwrite(folder / "image.tif", image, planarconfig="contig", **options)
    else:
        tifffile.imwrite(
            folder / "image.tif",
            planes(),
            shape=(channels, SIDE, SIDE),
            dtype=np.uint16,
            rowsperstrip=64,
            **options,
        )
    (folder / "names.txt").write_text("\n".join(f"M{k}" for k in range(channels)))


def measure(channels, *, interleaved=False):
    """(MB, seconds) of one run."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder, channels, interleaved=interleaved)
        arguments = [
            "predict",
            "image.tif",
            "--labels",
            "labels.tif",
            "--channel-names",
            "names.txt",
            "--mpp",
            "0.5",
            "--out",
            "out",
        ]
        begin = time.perf_counter()
        command = [sys.executable, "-c", RUN, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - begin
    return int(done.stderr.rsplit("peak ", 1)[1]) / 1024, seconds


def main():
    rows = []
    for channels, interleaved in ((5, False), (20, False), (40, False), (40, True)):
        peak, seconds = measure(channels, interleaved=interleaved)
        rows.append(
            f"| {channels} | {'interleaved' if interleaved else 'a plane each'} | {peak:.0f} MB |"
            f" {seconds:.0f} s |"
        )
        print(rows[-1], flush=True)
    about = machine()
    when = (
        f"{datetime.now(UTC):%Y-%m-%d}. {about['cpu']}, {about['cores']} cores, load"
        f" {about['load_before']:.1f} at the end."
    )
    text = [
        "# Peak memory by the number of channels",
        "",
        f"{when} One FOV of {SIDE} x {SIDE} px at 0.5 µm/px,",
        f"{CELLS:,} cells, uint16, all views (`python benchmarks/slide/channels.py`).",
        "",
        "| channels | pixels | peak memory | time |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    (HERE.parent / "results" / "channels.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
