"""Recalibration: a small logistic model per marker, drawn to what other data taught.

The log odds of being positive are linear in a cell's evidence. The coefficients of the markers of
one result scatter around a mean of their own, and that mean around the prior's (a hierarchical
model with Gaussian priors; Gelman & Hill 2007). So a few answers per marker are enough: they move
the marker, and all of them together its fellows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from panimbus.core.table import EVIDENCE, INSIDE_MEAN, NEIGHBOUR_MAX, RIM_LOW
from panimbus.core.types import Array, Float64Array
from panimbus.io.documents import Strict, read_json, validate

FEATURES = ("score", "score_rank", "intensity_rank", "rim", "inside", "neighbour", "spread")
PRIORS = Path(__file__).with_name("priors.json")
_EDGE, _FAR, _ROUNDS = 1e-3, 4.0, 20
_Numbers = Annotated[tuple[float, ...], Field(min_length=1)]


class Prior(Strict):
    """Mean and width of the coefficients of a marker, before any answer.

    Attributes
    ----------
    features
        Some of `FEATURES`.
    centre, scale
        Per feature: what is subtracted, and then divided by.
    mean, width
        Of the offset and of each feature's coefficient: mean and standard deviation over markers.
    pooling
        Variance of the mean of one result's markers, in units of ``width`` squared.
    """

    features: tuple[str, ...]
    centre: _Numbers
    scale: _Numbers
    mean: _Numbers
    width: _Numbers
    pooling: Annotated[float, Field(gt=0)] = 0.3

    def design(self, features: Mapping[str, Float64Array]) -> Float64Array:
        """(n, 1 + p) a column of ones and the scaled features, from `cell_features`."""
        columns = [
            np.clip((features[name] - c) / s, -_FAR, _FAR)
            for name, c, s in zip(self.features, self.centre, self.scale, strict=True)
        ]
        return np.stack([np.ones_like(columns[0]), *columns], 1)


OFFSET = Prior(features=("score",), centre=(0.0,), scale=(1.0,), mean=(0.0, 1.0), width=(1.0, 1e-3))
"""The score's logit, moved by an offset: for models that the shipped priors do not know."""


class _Priors(Strict):
    model: str
    about: str
    evidence: Prior
    plain: Prior


def prior_for(model: str, layers: Sequence[str]) -> tuple[str, Prior]:
    """The prior for scores of a model, and its name.

    ``evidence``; ``plain`` for tables without evidence layers; ``offset`` for scores of other
    models than the shipped priors were fitted to.

    Parameters
    ----------
    model
        Name of the model that gave the scores.
    layers
        Layers of the cell table.
    """
    shipped = validate(_Priors, read_json(PRIORS), "The shipped priors cannot be used.")
    if model not in (shipped.model, f"{shipped.model}-tuned"):
        return "offset", OFFSET
    if set(EVIDENCE) <= set(layers):
        return "evidence", shipped.evidence
    return "plain", shipped.plain


def cell_features(
    score: Array, score_sd: Array, mean: Array, evidence: Mapping[str, Array]
) -> dict[str, Float64Array]:
    """The evidence of all cells of a result for one marker.

    Parameters
    ----------
    score, score_sd, mean : (n,) float
        Score, its standard deviation over the views, mean intensity. NaN = missing.
    evidence
        Layer -> (n,) float; without them the features ``rim``, ``inside`` and ``neighbour`` are
        left out.

    Returns
    -------
    dict
        Name of `FEATURES` -> (n,) float64. ``score``: logit. Ranks: normal scores of the rank among
        all cells. ``rim``, ``inside``, ``neighbour``: log ratio of ``rim_low``, ``inside_mean`` and
        ``neighbour_max`` to the cell's mean, where a tenth of the middle half's width is added to
        both. ``spread``: ``score_sd``.
    """
    own = np.asarray(score, np.float64)
    level = np.asarray(mean, np.float64)
    low, high, top = (float(q) for q in np.nanpercentile(level, [25, 75, 99]))
    floor = 0.1 * max(high - low, 0.05 * top) + 1e-9
    out = {
        "score": logit(np.clip(own, _EDGE, 1 - _EDGE)),
        "score_rank": _normal_rank(own),
        "intensity_rank": _normal_rank(level),
        "spread": np.asarray(score_sd, np.float64),
    }
    for name, layer in (("rim", RIM_LOW), ("inside", INSIDE_MEAN), ("neighbour", NEIGHBOUR_MAX)):
        if layer in evidence:
            values = np.asarray(evidence[layer], np.float64)
            out[name] = np.log((values + floor) / (level + floor))
    return out


def _normal_rank(values: Float64Array) -> Float64Array:
    """(n,) normal scores of the ranks; ties share theirs, NaN stays."""
    n = int(np.count_nonzero(~np.isnan(values))) or 1
    return np.asarray(norm.ppf((rankdata(values, nan_policy="omit") - 0.5) / n))


@dataclass(frozen=True, eq=False)
class Answers:
    """Annotated cells of one marker.

    Parameters
    ----------
    design : (n, 1 + p) float64
        From `Prior.design`.
    target : (n,) float64
        1 positive, 0 negative, in between: likely.
    """

    design: Float64Array
    target: Float64Array

    def without(self, dropped: Array) -> Answers:
        """The others; ``dropped`` is (n,) bool."""
        return Answers(self.design[~dropped], self.target[~dropped])


def fit_marker(answers: Answers, mean: Float64Array, precision: Float64Array) -> Float64Array:
    """The likeliest coefficients of a marker under a Gaussian prior, by Newton's method.

    Parameters
    ----------
    answers
        None at all give the prior's mean.
    mean, precision : (1 + p,) float64
        Of the prior; precision is one over the variance.

    Returns
    -------
    (1 + p,) float64
    """
    x, b = answers.design, np.array(mean, np.float64)
    for _ in range(50):
        p = expit(x @ b)
        gradient = x.T @ (p - answers.target) + precision * (b - mean)
        hessian = (x.T * (p * (1 - p))) @ x + np.diag(precision)
        step = np.linalg.solve(hessian, gradient)
        longest = float(np.abs(step).max())
        b -= step * (3 / longest if longest > 3 else 1.0)
        if longest < 1e-8:
            break
    return b


def fit_markers(answers: Sequence[Answers], prior: Prior) -> list[Float64Array]:
    """The likeliest coefficients of all markers of a result, and of their common mean.

    Parameters
    ----------
    answers
        Of each marker; a marker without any does not move the others.
    prior
        Of the mean of the markers.

    Returns
    -------
    list of (1 + p,) float64
        In the order of ``answers``.
    """
    centre = np.array(prior.mean)
    precision = 1 / np.square(np.array(prior.width))
    asked = [k for k, one in enumerate(answers) if len(one.target)]
    mean = centre.copy()
    out = [mean] * len(answers)
    for _ in range(_ROUNDS):
        out = [fit_marker(one, mean, precision) for one in answers]
        together = sum((out[k] for k in asked), centre / prior.pooling)
        new = together / (len(asked) + 1 / prior.pooling)
        if np.abs(new - mean).max() < 1e-3:
            break
        mean = new
    return out


def held_out_logits(
    answers: Sequence[Answers], prior: Prior, *, folds: int = 20, seed: int = 0
) -> list[Float64Array]:
    """The logits of every answered cell by a fit that did not see its answer.

    Leaves out one answer of each marker at a time, or as many as ``folds`` fits need.

    Parameters
    ----------
    answers, prior
        As for `fit_markers`.
    folds
        Largest number of fits.
    seed
        Of the order in which answers are left out.

    Returns
    -------
    list of (n,) float64
        In the order of ``answers``.
    """
    rng = np.random.default_rng(seed)
    fold = [rng.permutation(len(one.target)) % folds for one in answers]
    out = [np.zeros(len(one.target)) for one in answers]
    for k in range(max((int(f.max()) + 1 for f in fold if len(f)), default=0)):
        fits = fit_markers([a.without(f == k) for a, f in zip(answers, fold, strict=True)], prior)
        for one, f, b, logits in zip(answers, fold, fits, out, strict=True):
            logits[f == k] = one.design[f == k] @ b
    return out


def clearly_worse(old: Float64Array, new: Float64Array, target: Float64Array) -> bool:
    """Whether held-out logits are worse than the old ones: the guard of a marker.

    Worse are a log loss that is higher by more than 1.64 standard errors, and more wrong calls. A
    stricter guard was measured to cost more than it saves: answers next to the boundary, which is
    what a user is asked, are the hardest of the new scores and not of the old
    (`benchmarks/recalibrate`).

    Parameters
    ----------
    old, new : (n,) float64
        Logits at which 0 is the threshold.
    target : (n,) float64
        0 to 1.
    """
    if len(target) < 3:
        return False
    loss = [np.logaddexp(0, logits) - target * logits for logits in (old, new)]
    more = loss[1] - loss[0]
    wrong = [int(((logits >= 0) != (target >= 0.5)).sum()) for logits in (old, new)]
    error = float(more.std(ddof=1)) / np.sqrt(len(more))
    return bool(more.mean() > 1.64 * error and wrong[1] > wrong[0])
