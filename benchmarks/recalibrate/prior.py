"""Fit the priors of `panimbus.finetune.marker_model` to the annotated training FOVs.

    python benchmarks/recalibrate/prior.py --data ../shared/data --run /tmp/run

writes ``src/panimbus/finetune/priors.json``. The annotations are ``tools/cell_calls.csv.gz``, made
on FOVs that the default model was trained on (eleven of the spleen, two of lymphoid_mibi,
squamous_imc, vectra_inform), and nothing else: no annotation of dev_gold, of the other markers of
its four FOVs, of the spleen's r28 and r30, or of dcis_mibi. Mean and width of the coefficients over
markers are those of an empirical Bayes fit (EM with Laplace's approximation), in which each dataset
weighs the same.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from data import ROOT, TRAINED_ON, annotations, scores
from scipy.special import expit

from panimbus.core.table import CELL, EVIDENCE, FOV, MEAN, SD
from panimbus.finetune.marker_model import FEATURES, Answers, Prior, cell_features, fit_marker
from panimbus.model.weights import DEFAULT_MODEL

OUT = ROOT / "src" / "panimbus" / "finetune" / "priors.json"
CAUTION = 0.5
"""Share of the fitted variance that the prior has: as good on the training annotations after 3, 5
and 10 answers (0.846, 0.856, 0.868; all of it: 0.848, 0.856, 0.869), and a marker that was right
already is moved less."""
PLAIN = ("score", "score_rank", "intensity_rank", "spread")
ABOUT = "benchmarks/recalibrate/prior.py, from tools/cell_calls.csv.gz"


@dataclass(frozen=True, eq=False)
class Marker:
    """The annotated cells of a marker of a dataset: n of them."""

    dataset: str
    channel: str
    features: dict[str, Any]
    mean: Any
    otsu: float
    spread: float  # standard deviation of the log mean intensity, all cells
    score: Any
    truth: Any
    weight: Any
    fov: Any


def markers(frame: pd.DataFrame, data: Path, run: Path) -> list[Marker]:
    """The markers of annotations; features are ranked among all cells of the dataset."""
    from panimbus.core.stats import otsu_positive

    out = []
    for dataset, rows in frame.groupby("dataset", sort=True):
        table = scores(str(dataset), data, run)
        names = list(map(str, table.var_names))
        keys = pd.MultiIndex.from_arrays([table.obs[FOV].astype(str), table.obs[CELL]])
        for channel, own in rows.groupby("channel", sort=True):
            k = names.index(str(channel))
            mean, score = (np.asarray(x)[:, k] for x in (table.layers[MEAN], table.X))
            layers = {name: np.asarray(table.layers[name])[:, k] for name in EVIDENCE}
            features = cell_features(score, np.asarray(table.layers[SD])[:, k], mean, layers)
            at = keys.get_indexer(pd.MultiIndex.from_frame(own[["fov", "cell_id"]]))
            above = mean[otsu_positive(mean)]
            out.append(
                Marker(
                    str(dataset),
                    str(channel),
                    {name: features[name][at] for name in FEATURES},
                    mean[at],
                    float(above.min()) if len(above) else np.inf,
                    float(np.std(np.log(mean[mean > 0]))) if (mean > 0).any() else 1.0,
                    score[at],
                    own["truth"].to_numpy(float),
                    own["sampling_weight"].to_numpy(float),
                    own["fov"].to_numpy(str),
                )
            )
    return out


def fit_prior(those: list[Marker], features: tuple[str, ...], *, rounds: int = 60) -> Prior:
    """The prior of the coefficients over markers, by empirical Bayes."""
    pooled = {f: np.concatenate([m.features[f] for m in those]) for f in features}
    centre = tuple(0.0 if f == "score" else float(x.mean()) for f, x in pooled.items())
    scale = tuple(float(x.std()) for x in pooled.values())
    p = len(features) + 1
    mean, variance = np.zeros(p), np.ones(p)
    mean[1] = scale[0]  # the score's own logit
    plain = Prior(
        features=features, centre=centre, scale=scale, mean=tuple(mean), width=tuple(variance)
    )
    answers = [Answers(plain.design(m.features), m.truth) for m in those]
    count = {d: sum(m.dataset == d for m in those) for d in {m.dataset for m in those}}
    share = np.array([1 / count[m.dataset] for m in those]) / len(count)
    for _ in range(rounds):
        fits = np.array([fit_marker(a, mean, 1 / variance) for a in answers])
        around = []
        for a, b in zip(answers, fits, strict=True):
            q = expit(a.design @ b)
            hessian = (a.design.T * (q * (1 - q))) @ a.design + np.diag(1 / variance)
            around.append(np.diag(np.linalg.inv(hessian)))
        mean = share @ fits
        variance = share @ ((fits - mean) ** 2 + np.array(around))
        variance = (variance * len(those) + 5 * 0.1) / (len(those) + 5)  # never none at all
    width = tuple(np.sqrt(CAUTION * variance))
    return plain.model_copy(update={"mean": tuple(mean), "width": width})


def rounded(prior: Prior) -> dict[str, Any]:
    """JSON-able, with six digits."""
    data = prior.model_dump()
    return {
        k: [float(f"{x:.6g}") if isinstance(x, float) else x for x in v]
        if isinstance(v, tuple)
        else v
        for k, v in data.items()
    }


def main() -> None:
    """Write the priors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="where scores are kept")
    given = parser.parse_args()
    those = markers(annotations(given.data, "training"), given.data, given.run)
    if missing := set(TRAINED_ON) - {m.dataset for m in those}:
        raise SystemExit(f"no annotations of {missing}")
    document = {"model": DEFAULT_MODEL, "about": ABOUT}
    for name, features in (("evidence", FEATURES), ("plain", PLAIN)):
        document[name] = rounded(fit_prior(those, features))
    OUT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
