"""Statistics of positive and negative cells, shared by evaluation, training and silver labels.

Two conventions hold everywhere:

- A cell is positive from its threshold on (``score >= threshold``).
- F1 is 1 for a marker without positive cells of which none is predicted positive, 0 if one is, and
  NaN only where no cell was judged.
"""

from panimbus.core.stats.agreement import cohen_kappa
from panimbus.core.stats.bootstrap import bootstrap_confusion, interval, strata
from panimbus.core.stats.classification import (
    FN,
    FP,
    TN,
    TP,
    UNJUDGED,
    Rates,
    confusion,
    f1_score,
    outcomes,
    rates,
    ratio,
    split_labels,
    tally,
    wilson,
)
from panimbus.core.stats.information import (
    entropy,
    mutual_information,
    permuted_information,
)
from panimbus.core.stats.mixture import (
    Mixture,
    bic_gain,
    fit_gaussians,
    fit_mixture,
    otsu_positive,
)
from panimbus.core.stats.ranking import auc, auc_interval, best_threshold

__all__ = [
    "FN",
    "FP",
    "TN",
    "TP",
    "UNJUDGED",
    "Mixture",
    "Rates",
    "auc",
    "auc_interval",
    "best_threshold",
    "bic_gain",
    "bootstrap_confusion",
    "cohen_kappa",
    "confusion",
    "entropy",
    "f1_score",
    "fit_gaussians",
    "fit_mixture",
    "interval",
    "mutual_information",
    "otsu_positive",
    "outcomes",
    "permuted_information",
    "rates",
    "ratio",
    "split_labels",
    "strata",
    "tally",
    "wilson",
]
