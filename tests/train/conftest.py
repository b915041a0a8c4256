"""A store in memory: tiles of bright and dim cells."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from panimbus.data.store import DatasetInfo, Example, StoreInfo


@dataclass
class FakeStore:
    """Tiles of random cells; a positive cell is bright. What `panimbus.train` needs of a store, and
    no file."""

    tile: int = 64
    shares: tuple = (1.0,)
    markers: tuple = ("a", "b")
    flip: float = 0.0
    seed: int = 0
    mpp: float = 1.0
    per_split: dict = field(default_factory=lambda: {"train": 4, "val": 2, "test": 1})

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        names = [f"d{k}" for k in range(len(self.shares))]
        self.info = StoreInfo(
            mpp=self.mpp,
            tile=self.tile,
            percentile=99.9,
            percentile_over="all",
            datasets=tuple(
                DatasetInfo(name=n, share=s, markers=self.markers, fovs=7, source="x")
                for n, s in zip(names, self.shares, strict=True)
            ),
        )
        self.tiles, rows = [], []
        for dataset in names:
            for split, count in self.per_split.items():
                for k in range(count):
                    for marker in self.markers:
                        example = self.made(rng, dataset, marker, f"{split}{k}")
                        known = int((example.target >= 0).sum())
                        rows.append(
                            (
                                dataset,
                                example.fov,
                                "",
                                split,
                                marker,
                                "",
                                known,
                                int((example.target > 0.5).sum()),
                            )
                        )
                        self.tiles.append(example)
        self.examples = pd.DataFrame(
            rows,
            columns=["dataset", "fov", "patient", "split", "marker", "tissue", "known", "positive"],
        )

    def made(self, rng, dataset, marker, fov):
        from skimage.segmentation import expand_labels

        s, n = self.tile, max(4, self.tile**2 // 120)
        labels = np.zeros((s, s), int)
        labels[rng.integers(0, s, n), rng.integers(0, s, n)] = np.arange(1, n + 1)
        labels = expand_labels(labels, 5)
        ids, compact = np.unique(labels, return_inverse=True)
        index = (compact.reshape(s, s) - 1).astype(np.int32)
        k = len(ids) - 1
        positive = rng.random(k) < 0.4
        level = np.append(np.where(positive, 0.7, 0.1), 0.05)
        image = np.clip(level[index] + rng.normal(0, 0.05, (s, s)), 0, 8).astype(np.float32)
        mean = np.array([image[index == c].mean() for c in range(k)], np.float32)
        target = np.where(rng.random(k) < self.flip, ~positive, positive).astype(np.float32)
        target[rng.random(k) < 0.1] = -1
        stats = {f"q{q:02d}": float(np.percentile(mean, q)) for q in range(1, 100)} | {
            "outside": 0.05
        }
        share = np.ones(k, np.float32)
        return Example(
            image,
            index,
            ids[1:].astype(np.int64),
            target,
            mean,
            share,
            stats,
            dataset,
            marker,
            fov,
        )

    def read(self, row):
        return self.tiles[row]

    def rows(self, split, *, leave_out=None):
        mine = self.examples["known"].to_numpy() > 0
        out = (self.examples["dataset"] == leave_out).to_numpy()
        here = (self.examples["split"] == split).to_numpy()
        return np.flatnonzero(
            mine
            & (
                out | (here & (split == "test") & (leave_out is None))
                if split == "test"
                else here & ~out
            )
        )


TINY = {
    "name": "tiny",
    "net": {
        "settings": {"widths": [8, 12], "blocks": 1, "unshuffle": 2},
        "planes": ["image", "interior"],
        "stats": ["q50", "outside"],
    },
    "data": {"crop": 32, "batch": 4},
    "loss": {"pixel": 0.5, "cell": 1.0, "f1": 1.0, "weighting": "cell"},
    "optimiser": {"kind": "adamw", "rate": 5e-3, "ema": 0.9},
    "stages": {"naive": 12, "robust": 6},
    "check": {"every": 6, "save": 3, "tiles": 2, "pictures": 2},
    "machine": {"workers": 0, "threads": 1, "device": "cpu"},
}


@pytest.fixture(scope="session")
def fake_store():
    """``fake_store(tile=, shares=, markers=, flip=, seed=)``."""
    return FakeStore


@pytest.fixture
def tiny():
    """``tiny(stages={...}, ...)``: settings of a run of a second, with changes laid over."""
    from panimbus.train.config import make_config, overlaid

    def made(**changes):
        return make_config(overlaid(TINY, changes), source="test")

    return made
