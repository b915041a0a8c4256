"""A small scored table with calls: two FOVs, two channels, cells on a grid."""

import json

import numpy as np
import pandas as pd
import pytest

from panimbus.core.fov import Fov
from panimbus.core.table import FovScores, to_anndata

MPP = 0.5


@pytest.fixture(scope="session")
def scene():
    """``table, calls, fovs``: 2 FOVs of 64 cells of 8 x 8 px at 0.5 µm; CD3 is scored well, CD20
    badly."""
    rng = np.random.default_rng(0)
    labels = (np.arange(64)[:, None] // 8 * 8 + np.arange(64)[None] // 8 + 1).astype(np.uint32)
    ids = np.arange(1, 65)
    parts, fovs, rows = [], [], []
    for fov in ("a", "b"):
        truth = rng.random((64, 2)) < 0.3
        score = np.where(truth, 0.9, 0.1)
        score[:, 1] = np.where(rng.random(64) < 0.4, 1 - score[:, 1], score[:, 1])
        mean = np.where(truth, 60.0, 10.0) + rng.random((64, 2))
        image = np.moveaxis(mean[labels - 1], 2, 0).astype(np.float32)
        fovs.append(Fov(fov, image, ("CD3", "CD20"), labels, MPP))
        row, col = np.divmod(ids - 1, 8)
        xy = np.stack([col * 8 + 4, row * 8 + 4], 1) * MPP
        flat = [x.astype(np.float32) for x in (score, score * 0, mean)]
        parts.append(FovScores(fov, ids, *flat, np.full(64, 64 * MPP**2), xy))
        for k, channel in enumerate(("CD3", "CD20")):
            call = np.where(truth[:, k], "positive", "negative").astype(object)
            call[:3] = "undetermined"
            rows.append(
                pd.DataFrame({"fov": fov, "cell_id": ids, "channel": channel, "call": call})
            )
    provenance = {
        "model": "toy", "model_version": "1", "model_sha256": "0123456789ab", "version": "0",
        "threshold": 0.5, "settings": {"tta": "none"},
        "inputs": json.dumps({f: {"mpp": MPP} for f in "ab"}), "scale": "{}",
    }  # fmt: skip
    table = to_anndata(
        parts, ("CD3", "CD20"), normaliser={"CD3": 100.0, "CD20": 100.0}, provenance=provenance
    )
    calls = pd.concat(rows, ignore_index=True)
    calls["sampling_weight"] = np.where(calls["cell_id"] % 2, 1.0, 3.0)
    return table, calls, fovs
