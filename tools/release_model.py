"""A model of `panimbus train` with the card that it is shipped with.

    panimbus train default --store STORE --out RUN
    panimbus evaluate examples/dev_gold.toml --model RUN/model.safetensors --out GOLD
    python tools/release_model.py --run RUN --name compact-7 --card card.toml --evaluation GOLD

``card.toml``: texts of the card (``trained_on``, ``measured``, ``not_for``, ``licence``); those
left out are kept from the run. The figures of the evaluation become the card's ``metrics``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from panimbus.model.weights import load_torch, save_model

METHODS = ("model", "otsu", "intensity_best")
TEXTS = {"trained_on", "measured", "not_for", "licence"}


def read_figures(evaluation: Path) -> dict[str, Any]:
    """F1 per method and dataset, its interval, and the calibration error of an evaluation."""
    data = json.loads((evaluation / "evaluation.json").read_text(encoding="utf-8"))
    f1: dict[str, dict[str, float]] = {}
    intervals = {}
    for row in data["means"]:
        if row["method"] in METHODS:
            f1.setdefault(row["method"], {})[row["dataset"]] = round(row["f1"], 4)
        if row["method"] == "model":
            intervals[row["dataset"]] = [round(row["f1_low"], 4), round(row["f1_high"], 4)]
    ece = round(data["calibration_error"]["mean"], 4)
    return {"dev_gold_f1": f1, "interval_95": intervals, "ece": ece}


def main() -> None:
    """Write ``<name>.safetensors`` and ``<name>.onnx``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of `panimbus train`")
    parser.add_argument("--name", required=True, help="name of the model")
    parser.add_argument("--card", type=Path, help="TOML file with texts of the card")
    parser.add_argument("--evaluation", type=Path, help="folder of `panimbus evaluate`")
    parser.add_argument("--out", type=Path, default=Path("src/panimbus/model/shipped"))
    args = parser.parse_args()
    texts = tomllib.loads(args.card.read_text(encoding="utf-8")) if args.card else {}
    if unknown := sorted(set(texts) - TEXTS):
        parser.error(f"{args.card}: unknown texts: {', '.join(unknown)}")
    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    net, card = load_torch(args.run / "model.safetensors")
    metrics = read_figures(args.evaluation) if args.evaluation else card.metrics
    changes = {**texts, "name": args.name, "commit": commit, "metrics": metrics}
    save_model(args.out / args.name, net, card.model_copy(update=changes))


if __name__ == "__main__":
    main()
