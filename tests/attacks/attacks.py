"""The register of bad inputs, and what their authors need: a folder with a good image and a good
label image at hand."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

CHANNELS = ("CD3", "CD20", "DAPI")
MPP = 0.5


@dataclass(frozen=True)
class Attack:
    """A bad input.

    Parameters
    ----------
    name
        Area and function.
    make
        Writes it into a `Folder` and returns the arguments of the command.
    words
        What the message must say.
    """

    name: str
    make: Callable
    words: tuple[str, ...]


ATTACKS: dict[str, Attack] = {}


def attack(*words):
    """Register a function as an input that must be refused with these words: exit code 2, one
    message, nothing half-written."""

    def register(make):
        name = f"{make.__module__.rpartition('.')[2].removeprefix('cases_')}-{make.__name__}"
        if (
            name in ATTACKS and ATTACKS[name].make.__code__ != make.__code__
        ):  # pytest imports it again to look for doctests
            raise ValueError(f"two cases are called {name}")
        ATTACKS[name] = Attack(name, make, words)
        return make

    return register


class Folder:
    """An empty folder, and good inputs on demand: 90 x 80 pixels of 0.5 µm, 12 cells, three
    channels.

    ``folder / "name"`` is a path in it.
    """

    def __init__(self, root):
        self.root = Path(root)

    def __truediv__(self, name):
        return self.root / name

    def arrays(self):
        """(3, 90, 80) uint16 image and (90, 80) uint16 labels."""
        labels = np.zeros((90, 80), np.uint16)
        for i in range(12):
            y, x = 5 + 22 * (i // 3), 5 + 25 * (i % 3)
            labels[y : y + 14, x : x + 16] = i + 1
        rng = np.random.default_rng(0)
        image = (
            rng.gamma(2, 20, (3, 90, 80))
            + 300 * (labels % 3 == np.arange(3)[:, None, None]) * (labels > 0)
        ).astype(np.uint16)
        return image, labels

    def image(self, name="fov1.ome.tif", **options):
        """Write a good OME-TIFF; ``options`` go to tifffile."""
        meta = {"axes": "CYX", "Channel": {"Name": list(CHANNELS)}}
        meta |= {
            "PhysicalSizeX": MPP,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": MPP,
            "PhysicalSizeYUnit": "µm",
        }
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            path, self.arrays()[0], ome=True, metadata=meta, photometric="minisblack", **options
        )
        return path

    def labels(self, name="fov1_whole_cell.tif"):
        """Write a good label image."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, self.arrays()[1])
        return path

    def predict(self, *more, image=None, labels=None):
        """Arguments of ``predict`` on the good image and labels, or on others."""
        image, labels = image or self.image(), labels or self.labels()
        return [
            "predict",
            image,
            "--labels",
            labels,
            "--out",
            self.root / "out",
            "--tta",
            "none",
            "--threads",
            "1",
            *more,
        ]

    def inspect(self, *more, image=None, labels=None):
        """Arguments of ``inspect``, likewise."""
        return ["inspect", image or self.image(), "--labels", labels or self.labels(), *more]
