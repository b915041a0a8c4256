"""Measure a model and its baselines on dev_gold (calls made by eye): tables under benchmarks/model/.

    python tools/eval_gold.py --model compact-1 [--data ../shared/data] [--out benchmarks/model]

Per dataset and marker, at threshold 0.5: precision, recall and F1 with the sampling weights, cells called "undetermined" left
out; then the mean over a dataset's markers, and the mean over datasets. Baselines read the mean intensity of the cells of the
FOV: Otsu, a two-component Gaussian mixture on the logarithm, and the best threshold possible (an oracle). The normaliser and
the statistics pool every FOV of the dataset that is there. Intervals: 1,000 bootstrap draws of the calls, per marker.
dev_gold only measures; no parameter is fitted to it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from skimage.filters import threshold_otsu

from panimbus.core.labels import CellIndex, sample_labels, unique_ids
from panimbus.core.planes import channel_planes, label_planes
from panimbus.core.regions import cell_sums
from panimbus.core.resample import Axis, shrink
from panimbus.core.scale import ChannelStats, Histogram
from panimbus.model.weights import SHIPPED

MODEL_MPP = 1.0
CONTROLS = (
    ("spleen_imc", "r10", ("DNA1", "HistoneH3")),
    ("lymphoma_codex", "core", ("DAPI",)),
    ("dcis_mibi", "Point2307", ("HH3",)),
)
NULL = "mean intensity, best threshold"
DATASET_MPP = {"spleen_imc": 1.0, "lymphoma_codex": 0.5, "dcis_mibi": 500 / 1024}


@dataclass
class GoldChannel:
    """One FOV and marker of dev_gold, ready for a net."""

    dataset: str
    fov: str
    channel: str
    image: np.ndarray  # (h, w) float32 at model resolution, in raw units
    index: np.ndarray  # (h, w) int32, -1 = background
    cell_mean: np.ndarray  # (n,) raw units
    quantiles: np.ndarray  # raw statistics of the dataset: q01..q99
    outside: float
    pixels: Histogram
    cells: np.ndarray  # positions of the called cells
    call: np.ndarray  # 1, 0, -1
    weight: np.ndarray

    def normaliser(self, percentile: float = 99.9) -> float:
        """Pooled percentile; of the positive pixels where that is 0."""
        value = self.pixels.percentile(percentile)
        return value if value > 0 else self.pixels.where(self.pixels.values() > 0).percentile(percentile)

    def inputs(
        self, planes: tuple[str, ...], stats: tuple[str, ...], percentile: float = 99.9, factor: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """(P, h, w) planes and (S,) stats; ``factor`` multiplies the normaliser, for robustness tests."""
        norm = self.normaliser(percentile) * factor
        base = label_planes(planes, self.index)
        mean = (self.cell_mean / norm).astype(np.float32)
        filled = channel_planes(base, planes, self.image / np.float32(norm), self.index, mean)
        raw = [self.outside if s == "outside" else self.quantiles[int(s[1:]) - 1] for s in stats]
        return filled, np.sqrt(np.clip(np.array(raw) / norm, 0, 1)).astype(np.float32)


Scorer = Callable[[GoldChannel], np.ndarray]
KEY = ["dataset", "fov", "channel"]


def channel_names(path: Path) -> list[str]:
    """Names in the OME header."""
    with tifffile.TiffFile(path) as tif:
        return re.findall(r'<Channel [^>]*Name="([^"]*)"', tif.ome_metadata or "")


def load_gold(data: Path) -> list[GoldChannel]:
    """Read dev_gold's FOVs and the pooled statistics of their datasets."""
    table = pd.read_csv(data / "dev_gold" / "dev_gold.csv")
    out = []
    for dataset, calls in table.groupby("dataset"):
        files = {p.name.removesuffix(".ome.tiff"): p for p in sorted((data / dataset / "images").glob("*.ome.tiff"))}
        pooled: dict[str, ChannelStats] = {c: ChannelStats() for c in calls.channel.unique()}
        kept = {}
        for fov, path in files.items():
            short = fov.split("_")[0]
            lab = data / dataset / "labels" / f"{short}.tiff"
            names, stack = channel_names(path), tifffile.imread(path)
            labels = tifffile.imread(lab) if lab.exists() else None
            if short in set(calls.fov):
                kept[short] = (names, stack, labels)
            for channel, so_far in pooled.items():
                pooled[channel] = so_far.merge(_stats(stack[names.index(channel)], labels))
        for (fov, channel), rows in calls.groupby(["fov", "channel"]):
            names, stack, labels = kept[fov]
            out.append(_channel((dataset, fov, channel), stack[names.index(channel)], labels, pooled[channel], rows))
    return out


def _stats(plane: np.ndarray, labels: np.ndarray | None) -> ChannelStats:
    stats = ChannelStats(pixels=Histogram.of(plane))
    if labels is None:
        return stats
    index = CellIndex(unique_ids(labels))
    at = index(labels)
    sums = cell_sums(plane, at, len(index))
    count = cell_sums(np.ones(plane.shape), at, len(index))
    stats.cell_means = Histogram.of((sums[1:] / count[1:]).astype(np.float32))
    stats.outside_sum, stats.outside_count = float(sums[0]), int(count[0])
    return stats


def _channel(
    key: tuple[str, str, str], plane: np.ndarray, labels: np.ndarray, pooled: ChannelStats, rows: pd.DataFrame
) -> GoldChannel:
    scale = MODEL_MPP / DATASET_MPP[key[0]]
    if abs(scale - round(scale)) < 0.01:
        scale = float(round(scale))
    y, x = Axis(plane.shape[0], scale), Axis(plane.shape[1], scale)
    window = (0, y.size, 0, x.size)
    index = CellIndex(unique_ids(labels))
    at = index(labels)
    mean = cell_sums(plane, at, len(index))[1:] / cell_sums(np.ones(plane.shape), at, len(index))[1:]
    small = index(sample_labels(labels, y, x, window))
    position = index(rows.cell_id.to_numpy())
    call = rows.call.map({"positive": 1, "negative": 0, "undetermined": -1}).to_numpy()
    q = np.array([pooled.cell_means.percentile(k) for k in range(1, 100)])
    outside = pooled.outside_sum / max(pooled.outside_count, 1)
    return GoldChannel(
        *key, shrink(plane, y, x, window), small, mean, q, outside, pooled.pixels, position, call,
        rows.sampling_weight.to_numpy(float),
    )  # fmt: skip


def cell_scores(scores: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Mean score over each cell's pixels; 0 where a cell has none."""
    return cell_sums(scores, index, n)[1:] / np.maximum(cell_sums(np.ones(index.shape), index, n)[1:], 1)


def torch_scorer(
    net: Any,
    planes: tuple[str, ...],
    stats: tuple[str, ...],
    *,
    percentile: float = 99.9,
    factor: float = 1.0,
    views: int = 8,
    stride: int = 16,
) -> Scorer:
    """Score of every cell of a FOV by a net: the mean of the first ``views`` of the 8 flips and rotations."""
    import torch

    def score(gold: GoldChannel) -> np.ndarray:
        x, s = gold.inputs(planes, stats, percentile, factor)
        h, w = x.shape[1:]
        side_y, side_x = h + -h % stride, w + -w % stride
        padded = torch.from_numpy(np.pad(x, ((0, 0), (0, side_y - h), (0, side_x - w))))[None]
        total = torch.zeros(side_y, side_x)
        with torch.inference_mode():
            for view in range(views):
                turns, flip = view % 4, view // 4
                seen = torch.rot90(padded.flip(3) if flip else padded, turns, (2, 3))
                back = torch.rot90(net(seen, torch.from_numpy(s)[None])[0, 0], -turns, (0, 1))
                total += back.flip(1) if flip else back
        return cell_scores(total[:h, :w].numpy() / views, gold.index, len(gold.cell_mean))

    return score


def otsu(gold: GoldChannel) -> np.ndarray:
    """1 above Otsu's threshold of the FOV's cell means."""
    m = gold.cell_mean
    return (m > threshold_otsu(m)).astype(float) if m.max() > m.min() else np.zeros(len(m))


def mixture(gold: GoldChannel) -> np.ndarray:
    """Posterior of the brighter of two Gaussians on the logarithm of the cell means."""
    from sklearn.mixture import GaussianMixture

    m = np.log(gold.cell_mean + 0.01 * gold.normaliser())[:, None]
    if np.ptp(m) == 0:
        return np.zeros(len(m))
    fit = GaussianMixture(2, random_state=0, reg_covar=1e-4).fit(m)
    return fit.predict_proba(m)[:, int(np.argmax(fit.means_[:, 0]))]


def prf(call: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> tuple[float, float, float]:
    """Weighted precision, recall, F1; where there is nothing to find and nothing is found all are 1."""
    tp = weight[(call == 1) & positive].sum()
    fp = weight[(call == 0) & positive].sum()
    fn = weight[(call == 1) & ~positive].sum()
    if tp + fp + fn == 0:
        return 1.0, 1.0, 1.0
    return tp / max(tp + fp, 1e-9), tp / max(tp + fn, 1e-9), 2 * tp / (2 * tp + fp + fn)


def auc(call: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """Weighted area under the ROC curve; NaN with one class only."""
    p, n = call == 1, call == 0
    if not p.any() or not n.any():
        return float("nan")
    d = score[p][:, None] - score[n][None]
    w = weight[p][:, None] * weight[n][None]
    return float((w * ((d > 0) + 0.5 * (d == 0))).sum() / w.sum())


def best_threshold(call: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """Highest F1 that any threshold on the score gives (an oracle)."""
    cuts = np.concatenate([np.unique(score), [np.inf]])
    return max(prf(call, score >= c, weight)[2] for c in cuts)


def evaluate(golds: list[GoldChannel], scorers: dict[str, Scorer], *, boots: int = 0) -> pd.DataFrame:
    """One row a method, dataset, FOV and marker."""
    rows = []
    for gold in golds:
        known = gold.call >= 0
        call, weight = gold.call[known], gold.weight[known]
        for name, scorer in scorers.items():
            s = scorer(gold)[gold.cells][known]
            p, r, f = prf(call, s > 0.5, weight)
            row = dict(zip(KEY, (gold.dataset, gold.fov, gold.channel), strict=True))
            row |= {"method": name, "n": len(call), "precision": p, "recall": r, "f1": f}
            row |= {"f1_best": best_threshold(call, s, weight), "auc": auc(call, s, weight)}
            row |= {"bias": np.average(s - call, weights=weight), "brier": np.average((s - call) ** 2, weights=weight)}
            if boots:
                rng = np.random.default_rng(0)
                draws = rng.integers(0, len(call), (boots, len(call)))
                row["boot"] = np.array([prf(call[d], s[d] > 0.5, weight[d])[2] for d in draws])
            rows.append(row)
        mean = gold.cell_mean[gold.cells][known]
        row = dict(zip(KEY, (gold.dataset, gold.fov, gold.channel), strict=True))
        rows.append(
            row | {"method": NULL, "n": len(call), "f1": best_threshold(call, mean, weight), "auc": auc(call, mean, weight)}
        )
    return pd.DataFrame(rows)


def expected_calibration_error(golds: list[GoldChannel], scorer: Scorer) -> float:
    """Weighted ECE over 10 bins of all calls, each marker with equal total weight."""
    s, c, w = [], [], []
    for gold in golds:
        known = gold.call >= 0
        s.append(scorer(gold)[gold.cells][known])
        c.append(gold.call[known])
        w.append(gold.weight[known] / gold.weight[known].sum())
    score, call, weight = map(np.concatenate, (s, c, w))
    bins = np.minimum((score * 10).astype(int), 9)
    gap = [abs((weight * (score - call))[bins == b].sum()) for b in range(10)]
    return float(np.sum(gap) / weight.sum())


def controls(data: Path, scorer: Scorer) -> dict[str, float]:
    """Share of cells called positive in channels that all cells carry (histone, DNA) and in pure noise."""
    out = {}
    nothing = pd.DataFrame({"cell_id": np.array([], int), "call": [], "sampling_weight": []})
    rng = np.random.default_rng(0)
    for dataset, fov, channels in CONTROLS:
        path = next((data / dataset / "images").glob(f"{fov}*.ome.tiff"))
        names, stack = channel_names(path), tifffile.imread(path)
        labels = tifffile.imread(data / dataset / "labels" / f"{fov}.tiff")
        planes = {name: stack[names.index(name)] for name in channels}
        planes |= {f"noise, {rate} counts a pixel": rng.poisson(rate, labels.shape) for rate in (0.05, 1.0, 30.0)}
        for name, plane in planes.items():
            gold = _channel((dataset, fov, name), plane, labels, _stats(plane, labels), nothing)
            out[f"{dataset} {name}"] = float((scorer(gold) > 0.5).mean())
    return out


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean F1 over markers: methods x datasets, and their mean."""
    out = table.groupby(["method", "dataset"]).f1.mean().unstack()
    out["mean"] = out.mean(axis=1)
    return out


def interval(table: pd.DataFrame, method: str, dataset: str | None = None) -> tuple[float, float]:
    """95 % bootstrap interval of a method's mean F1 (over markers, then datasets)."""
    rows = table[(table.method == method) & ((table.dataset == dataset) if dataset else True)]
    per = [np.stack(list(g.boot)).mean(0) for _, g in rows.groupby("dataset")]
    low, high = np.percentile(np.mean(per, axis=0), [2.5, 97.5])
    return float(low), float(high)


def load_net(spec: str) -> tuple[Any, tuple[str, ...], tuple[str, ...], float]:
    """A training checkpoint (.pt), or a model by name or path: net, planes, stats, percentile."""
    import torch

    from panimbus.model.unet import CompactUNet

    if spec.endswith(".pt"):
        state = torch.load(spec, map_location="cpu", weights_only=True)
        net = CompactUNet(**state["settings"])
        net.load_state_dict(state["ema"])
        return net.eval(), tuple(state["planes"]), tuple(state["stats"]), state["percentile"]
    from panimbus.model.weights import load_torch, shipped_models

    path = SHIPPED / f"{spec}.safetensors" if spec in shipped_models() else Path(spec)
    loaded, card = load_torch(path)
    return loaded.eval(), card.planes, card.stats, card.percentile


def _cells(values: list[str]) -> str:
    return "| " + " | ".join(values) + " |"


def summary_lines(table: pd.DataFrame) -> list[str]:
    """The table of means, with intervals for the model."""
    s = summary(table)
    lines = [_cells(["method", *s.columns]), "|---" * (len(s.columns) + 1) + "|"]
    for method, row in s.iterrows():
        texts = [f"{row[c]:.3f}" for c in s.columns]
        if method == "model":
            bounds = [interval(table, "model", None if c == "mean" else c) for c in s.columns]
            texts = [f"{t} ({low:.2f}-{high:.2f})" for t, (low, high) in zip(texts, bounds, strict=True)]
        lines.append(_cells([str(method), *texts]))
    return lines


def marker_lines(table: pd.DataFrame) -> list[str]:
    """One row a marker."""
    head = ["dataset", "FOV", "marker", "calls", "P", "R", "F1", "95 %", "F1 best thr.", "AUC", "score - truth"]
    head += ["Otsu F1", "mean intensity best thr. F1"]
    lines = [_cells(head), "|---" * len(head) + "|"]
    other = {m: g.set_index(KEY).f1 for m, g in table.groupby("method")}
    for _, r in table[table.method == "model"].iterrows():
        k = tuple(r[c] for c in KEY)
        low, high = np.percentile(r.boot, [2.5, 97.5])
        texts = [*k, str(r.n), *(f"{r[c]:.2f}" for c in ("precision", "recall", "f1")), f"{low:.2f}-{high:.2f}"]
        texts += [f"{r.f1_best:.2f}", f"{r.auc:.2f}", f"{r.bias:+.2f}"]
        lines.append(_cells([*texts, f"{other['Otsu on mean intensity'][k]:.2f}", f"{other[NULL][k]:.2f}"]))
    return lines


def write(table: pd.DataFrame, figures: dict[str, Any], out: Path, name: str) -> None:
    """dev_gold.csv and dev_gold.md."""
    ece, flips = figures["ece"], figures["flips_with_normaliser"]
    out.mkdir(parents=True, exist_ok=True)
    table.drop(columns="boot").round(4).to_csv(out / "dev_gold.csv", index=False)
    best = table[table.method == "model"].groupby("dataset").f1_best.mean()
    per = ", ".join(f"{k} {v:.3f}" for k, v in best.items())
    off = ", ".join(f"x{k}: {v:.1%}" for k, v in flips.items())
    lines = [
        "# dev_gold",
        f"Model: `{name}`, {figures['views']} views. Made by `python tools/eval_gold.py --model {name} --out {out}`.",
        "## Mean over markers of F1 at 0.5 (95 % bootstrap interval)",
        "\n".join(summary_lines(table)),
        f"With the best threshold a marker the model's scores would give {best.mean():.3f} ({per}).",
        f"Expected calibration error {ece:.3f}. Cells that flip when the normaliser is off by {off}.",
        "## Channels that all cells carry, and noise: share of cells called positive",
        "\n".join(f"- {k}: {v:.1%}" for k, v in figures["controls"].items()),
        "## Per marker",
        "\n".join(marker_lines(table)),
    ]
    (out / "dev_gold.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Evaluate and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a shipped model's name, a model file or a checkpoint")
    parser.add_argument("--views", type=int, default=8, help="test-time views: 1 or 8 (what `panimbus predict` does)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="folder for dev_gold.md and dev_gold.csv")
    parser.add_argument("--json", type=Path, help="file for the figures of the model's card")
    args = parser.parse_args()
    golds = load_gold(args.data)
    net, planes, stats, percentile = load_net(args.model)
    scorer = torch_scorer(net, planes, stats, percentile=percentile, views=args.views)
    table = evaluate(
        golds, {"model": scorer, "Otsu on mean intensity": otsu, "Gaussian mixture on log mean": mixture}, boots=1000
    )
    one_view = torch_scorer(net, planes, stats, percentile=percentile, views=1)
    plain = [one_view(g) > 0.5 for g in golds]
    flips = {}
    for factor in (0.5, 2.0):
        off = torch_scorer(net, planes, stats, percentile=percentile, factor=factor, views=1)
        flips[str(factor)] = float(np.mean([np.mean((off(g) > 0.5) != p) for g, p in zip(golds, plain, strict=True)]))
    ece = expected_calibration_error(golds, scorer)
    means = summary(table)
    low, high = interval(table, "model")
    figures = {
        "dev_gold_f1_at_0.5": {m: {k: round(float(v), 4) for k, v in row.items()} for m, row in means.iterrows()},
        "interval_95": [round(low, 4), round(high, 4)],
        "ece": round(ece, 4),
        "views": args.views,
        "flips_with_normaliser": {k: round(v, 4) for k, v in flips.items()},
        "controls": {k: round(v, 4) for k, v in controls(args.data, one_view).items()},
    }
    print(means.round(3).to_string())
    print(json.dumps({k: v for k, v in figures.items() if k != "dev_gold_f1_at_0.5"}, indent=1))
    if args.out:
        write(table, figures, args.out, args.model)
    if args.json:
        args.json.write_text(json.dumps({"metrics": figures}, indent=1))


if __name__ == "__main__":
    main()
