"""The development test: annotated cells of seven datasets, pooled so that models can be compared.

    python benchmarks/model/dev.py --models compact-7 compact-7 --half open

The annotations are those of dev_gold, of the other markers of its FOVs, of two FOVs of the spleen,
and of 28 channels of four datasets that no model has seen (``unseen_calls.csv.gz``). All were made
by vision models that looked at crops, two readers each but for dev_gold; they are no pathologists.
No FOV is trained on; of two datasets (the spleen, lymph node by MIBI) other FOVs are.

Recipes are chosen on the datasets of `OPEN`. Those of `FROZEN` are looked at once, when the model is
fixed: ``--half frozen``.

A channel counts once, whatever the number of its annotated cells; cells count by their sampling
weight. Channels are of four kinds: *common* (at least 5 % of the cells positive), *rare*, *absent*
(no positive cell) and *everywhere* (no negative cell). F1 and AUC are means over common and rare
channels, then over datasets. Standard errors come from a bootstrap of channels within datasets, and
of cells within their strata; for a difference between two models the same draws are used for both.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.stats import auc
from panimbus.core.stats.bootstrap import strata
from panimbus.evaluate.config import read_evaluation_file
from panimbus.evaluate.inputs import from_config
from panimbus.evaluate.tables import table
from panimbus.io.files import atomic_path

Array = npt.NDArray[np.float64]
FOLDER = Path(__file__).parent
OPEN = ("spleen_imc", "lymphoma_codex", "lymphoid_mibi_more")
FROZEN = ("dcis_mibi", "hubmap_codex", "brain_mibi", "melc_lung")
COMMITTED = ("other_markers_calls.csv.gz", "spleen_blind_calls.csv.gz", "unseen_calls.csv.gz")
CHANNEL = ["dataset", "fov", "channel"]
RARE, DRAWS, BINS, THRESHOLD = 0.05, 500, 10, 0.5
INTENSITY = "mean intensity"


def annotations(data: Path) -> pd.DataFrame:
    """All annotated cells, one row each, with the source of the annotation."""
    files = {"dev_gold": data / "dev_gold/dev_gold.csv"}
    files |= {name.split("_calls")[0]: FOLDER / name for name in COMMITTED}
    parts = [pd.read_csv(path).assign(source=name) for name, path in files.items()]
    out = pd.concat(parts, ignore_index=True)
    return out.drop_duplicates([*CHANNEL, "cell_id"])  # dev_gold's stand first


def scored(calls: pd.DataFrame, datasets: tuple[str, ...], model: str, tta: str) -> pd.DataFrame:
    """Score and mean intensity of each annotated cell; undetermined cells are left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.csv"
        calls[calls["dataset"].isin(datasets)].to_csv(path, index=False)
        config = read_evaluation_file(FOLDER / "dev.toml").only(datasets)
        inputs = from_config(
            config.model_copy(update={"calls": path}), model=model, tta=tta, say=print
        )
    out = pd.concat(inputs.scored, ignore_index=True)
    out = out[out["truth"] >= 0].merge(
        calls[[*CHANNEL, "cell_id", "source"]], on=[*CHANNEL, "cell_id"], validate="one_to_one"
    )
    return out[[*CHANNEL, "cell_id", "source", "truth", "weight", "score", "intensity", "otsu"]]


def f1(positive: Array, truth: Array, weight: Array) -> float:
    """Weighted F1; 1 where no cell is positive and none is predicted so."""
    both = (weight * positive * truth).sum()
    either = (weight * (positive + truth)).sum()
    return float(2 * both / either) if either > 0 else 1.0


def kind_of(truth: Array, weight: Array) -> str:
    """Kind of a channel by its share of positive cells."""
    share = float((weight * truth).sum() / weight.sum())
    if share in (0.0, 1.0):
        return "absent" if share == 0 else "everywhere"
    return "common" if share >= RARE else "rare"


def channel_rows(cells: pd.DataFrame, score: str) -> pd.DataFrame:
    """One row per channel: kind, F1, AUC, share of negatives and of positives called positive."""
    rows = []
    for key, of in cells.groupby(CHANNEL, sort=True):
        truth, weight = of["truth"].to_numpy(float), of["weight"].to_numpy(float)
        positive = (of[score].to_numpy() >= THRESHOLD).astype(float)
        kind = kind_of(truth, weight)
        mixed = kind in ("common", "rare")
        shares = [
            float((weight * positive)[truth == t].sum() / max(weight[truth == t].sum(), 1e-12))
            if (truth == t).any()
            else np.nan
            for t in (0, 1)
        ]
        rows.append(
            (
                *key,
                of["source"].iloc[0],
                kind,
                f1(positive, truth, weight),
                auc(of[score].to_numpy(), truth == 1, weight) if mixed else np.nan,
                auc(of["intensity"].to_numpy(), truth == 1, weight) if mixed else np.nan,
                *shares,
            )
        )
    names = ["source", "kind", "f1", "auc", "auc_intensity", "false_positive", "recall"]
    return pd.DataFrame(rows, columns=[*CHANNEL, *names])


def mean_f1(rows: pd.DataFrame, *, by_channel: bool = False) -> float:
    """Mean over the channels with positive and negative cells, then over datasets (or not)."""
    mixed = rows[rows["kind"].isin(["common", "rare"])]
    if by_channel:
        return float(mixed["f1"].mean())
    return float(mixed.groupby("dataset")["f1"].mean().mean())


def calibration_error(cells: pd.DataFrame, score: str) -> float:
    """Expected calibration error over ten bins, weighted so that each channel counts the same."""
    weight = cells["weight"] / cells.groupby(CHANNEL)["weight"].transform("sum")
    bins = np.minimum((cells[score] * BINS).astype(int), BINS - 1)
    gap = (weight * (cells["truth"] - cells[score])).groupby(bins).sum().abs().sum()
    return float(gap / weight.sum())


def draws_of_f1(
    cells: pd.DataFrame, scores: tuple[str, ...], *, by_channel: bool = False, seed: int = 0
) -> Array:
    """(draws, models) mean F1 of bootstrapped channels and cells, the same for all models.

    The mean over datasets; ``by_channel``: over all channels.
    """
    rng = np.random.default_rng(seed)
    channels: dict[str, list[tuple[Array, Array, Array, Array]]] = {}
    for key, of in cells.groupby(CHANNEL, sort=True):
        truth, weight = of["truth"].to_numpy(float), of["weight"].to_numpy(float)
        if kind_of(truth, weight) in ("common", "rare"):
            positive = (of[list(scores)].to_numpy() >= THRESHOLD).astype(float)
            channels.setdefault(key[0], []).append((positive, truth, weight, strata(weight)))
    total = sum(map(len, channels.values()))
    out = np.zeros((DRAWS, len(scores)))
    for draw in range(DRAWS):
        for of_dataset in channels.values():
            n = len(of_dataset)
            values = [_drawn(of_dataset[k], rng) for k in rng.integers(0, n, n)]
            share = n / total if by_channel else 1 / len(channels)
            out[draw] += share * np.mean(values, axis=0)
    return out


def _drawn(channel: tuple[Array, Array, Array, Array], rng: np.random.Generator) -> list[float]:
    """F1 of each model on cells drawn with replacement within their stratum."""
    positive, truth, weight, stratum = channel
    at = np.concatenate(
        [rng.choice(members := np.flatnonzero(stratum == s), len(members)) for s in set(stratum)]
    )
    return [f1(p, truth[at], weight[at]) for p in positive[at].T]


def summary(cells: pd.DataFrame, models: tuple[str, ...]) -> str:
    """The tables of the test, as Markdown."""
    rows = {name: channel_rows(cells, name) for name in (*models, "otsu")}
    datasets = list(dict.fromkeys(cells["dataset"]))
    lines = ["## F1 at 0.5\n"]
    head = ["", *datasets, "mean", "standard error", "mean of channels", "rare", "dev_gold"]
    draws = draws_of_f1(cells, models)
    body = [head]
    for k, (name, of) in enumerate(rows.items()):
        mixed = of[of["kind"].isin(["common", "rare"])]
        by = mixed.groupby("dataset")["f1"].mean()
        gold = of[of["source"] == "dev_gold"]
        body.append(
            [
                name,
                *(f"{by.get(d, np.nan):.3f}" for d in datasets),
                f"{mean_f1(of):.3f}",
                f"{draws[:, k].std(ddof=1):.3f}" if k < len(models) else "",
                f"{mean_f1(of, by_channel=True):.3f}",
                f"{of.loc[of['kind'] == 'rare', 'f1'].mean():.3f}",
                f"{gold.groupby('dataset')['f1'].mean().mean():.3f}",
            ]
        )
    lines.append(table(body))
    first = models[0]
    for by_channel, what in ((False, "mean over datasets"), (True, "mean over channels")):
        drawn = draws_of_f1(cells, models, by_channel=True) if by_channel else draws
        for k, name in enumerate(models[1:], start=1):
            gain, was = (mean_f1(rows[m], by_channel=by_channel) for m in (name, first))
            error = (drawn[:, k] - drawn[:, 0]).std(ddof=1)
            lines.append(
                f"\n- {name} less {first}, {what}: {gain - was:+.4f}, paired standard error"
                f" {error:.4f} ({(gain - was) / error:+.1f} standard errors)"
            )
    lines.append("\n## Ranking: weighted AUC\n")
    body = [["", *datasets, "mean"]]
    for name, column, of in [
        *((m, "auc", rows[m]) for m in models),
        (INTENSITY, "auc_intensity", rows[first]),
    ]:
        by = of.groupby("dataset")[column].mean()
        body.append([name, *(f"{by.get(d, np.nan):.4f}" for d in datasets), f"{by.mean():.4f}"])
    lines.append(table(body))
    lines.append(
        "\n## Negative cells called positive (%), recall of markers everywhere, calibration\n"
    )
    body = [
        [
            "",
            *datasets,
            "mean",
            "absent markers",
            "everywhere: recall",
            "calibration error",
            "worst channels (%)",
        ]
    ]
    for name, of in rows.items():
        by = of.groupby("dataset")["false_positive"].mean() * 100
        worst = of.sort_values("false_positive", ascending=False).head(6)
        body.append(
            [
                name,
                *(f"{by.get(d, np.nan):.1f}" for d in datasets),
                f"{by.mean():.2f}",
                f"{100 * of.loc[of['kind'] == 'absent', 'false_positive'].mean():.2f}",
                f"{of.loc[of['kind'] == 'everywhere', 'recall'].mean():.3f}",
                f"{calibration_error(cells, name):.3f}" if name != "otsu" else "",
                ", ".join(
                    f"{r.dataset} {r.channel} {100 * r.false_positive:.0f}"
                    for r in worst.itertuples()
                ),
            ]
        )
    lines.append(table(body))
    counts = rows[first].groupby(["dataset", "kind"]).size().unstack(fill_value=0)
    lines.append("\n## Channels\n")
    lines.append(table([["", *counts.columns], *([d, *map(str, counts.loc[d])] for d in datasets)]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Score, print, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["compact-7"], help="names or files")
    parser.add_argument("--half", choices=["open", "frozen", "both"], default="open")
    parser.add_argument("--data", type=Path, default=FOLDER / "../../../shared/data")
    parser.add_argument("--tta", default="full", help="test-time augmentation")
    parser.add_argument("--out", type=Path, help="stem of a Markdown and a CSV file")
    args = parser.parse_args()
    datasets = {"open": OPEN, "frozen": FROZEN, "both": OPEN + FROZEN}[args.half]
    calls, cells = annotations(args.data), pd.DataFrame()
    names = tuple(Path(m).stem if m.endswith(".safetensors") else m for m in args.models)
    for name, model in zip(names, args.models, strict=True):
        of = scored(calls, datasets, model, args.tta).rename(columns={"score": name})
        key = [*CHANNEL, "cell_id"]
        cells = of if cells.empty else cells.merge(of[[*key, name]], on=key, validate="one_to_one")
    text = summary(cells, names)
    print(text)
    if args.out:
        half = "" if args.half == "both" else f" --half {args.half}"
        title = f"# Development test\n\nMade by `python benchmarks/model/dev.py --models {' '.join(names)}{half}`.\n\n"
        with atomic_path(args.out.with_suffix(".md")) as path:
            path.write_text(title + text, encoding="utf-8")
        rows = pd.concat([channel_rows(cells, n).assign(model=n) for n in (*names, "otsu")])
        with atomic_path(args.out.with_suffix(".csv")) as path:
            rows.round(5).to_csv(path, index=False)


if __name__ == "__main__":
    main()
