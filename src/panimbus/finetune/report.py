"""What is written after fine-tuning.

The model if it was kept, and a report that says why or why not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from panimbus import __version__
from panimbus.annotations import table as gold
from panimbus.core.errors import InputError
from panimbus.core.escape import escape_markdown
from panimbus.finetune.annotated import TRUTH
from panimbus.finetune.finetune import HELD_OUT, NEW, OLD, Finetuned
from panimbus.finetune.guard import figures
from panimbus.io.files import write_json, write_text
from panimbus.io.write_table import write_csv
from panimbus.model.card import ModelCard
from panimbus.model.weights import save_model

REPORT, TABLE, SUMMARY = "report.md", "held_out.csv", "report.json"


def check_out(out: Path) -> None:
    """Refuse a folder that holds an earlier result: its model might be one that is in use."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file.", expected="a folder")
    if (out / SUMMARY).exists() or list(out.glob("*.safetensors")):
        raise InputError(f"--out {out} holds a model or a report already.", fix="name a new folder")


def save_finetuned(result: Finetuned, out: str | Path, *, command: str = "") -> Path | None:
    """Write report.md, report.json, held_out.csv, and the model if it was kept.

    Returns
    -------
    Path or None
        The new model's safetensors file, None if the old model stays.
    """
    out = Path(out)
    check_out(out)
    card = new_card(result, command=command)
    path = save_model(out / card.name, result.net, card).safetensors if result.kept else None
    held = result.calls[result.calls[HELD_OUT]].drop(columns=HELD_OUT)
    worst = (held[NEW] - held[TRUTH]).abs().sort_values(ascending=False, kind="stable").index
    write_csv(out / TABLE, held.loc[worst], float_format="%.6g")
    write_json(out / SUMMARY, to_dict(result, path))
    write_text(out / REPORT, report_markdown(result, path, command=command))
    return path


def new_card(result: Finetuned, *, command: str = "") -> ModelCard:
    """The changed model's card.

    Where it came from, on what it was changed, and how it did on held-out calls.
    """
    old, verdict = result.start.card, result.verdict
    trained_on = (
        f"Fine-tuned with panimbus {__version__} on {_calls(result)},"
        f" starting from {old.name} (version {old.version}, sha256 {result.start.sha256})."
    )
    measured = (
        f"On {int(result.calls[HELD_OUT].sum()):,} held-out calls of the same dataset: F1"
        f" {verdict.old.f1:.3f} before and {verdict.new.f1:.3f} after, balanced accuracy"
        f" {verdict.old.balanced_accuracy:.3f} and {verdict.new.balanced_accuracy:.3f}. Other"
        " datasets were not measured again."
    )
    return result.card.model_copy(
        update={
            "name": f"{old.name}-tuned",
            "trained_on": f"{old.trained_on} {trained_on}".strip(),
            "measured": f"{measured} The model it began with: {old.measured}".strip(),
            "metrics": {"finetune": verdict.to_dict()},
            "date": datetime.now(UTC).date().isoformat(),
            "commit": "",
            "seed": result.settings.seed,
            "command": command,
        }
    )


def _calls(result: Finetuned) -> str:
    calls = result.calls
    return (
        f"{len(calls):,} calls ({int(calls[TRUTH].sum()):,} positive) of"
        f" {calls[gold.CHANNEL].nunique()} markers in {calls[gold.FOV].nunique()} FOVs"
    )


def to_dict(result: Finetuned, path: Path | None) -> dict[str, Any]:
    """The report as JSON-able data."""
    calls = result.calls
    return {
        "kept": result.kept,
        "model": None if path is None else path.name,
        "start": {
            "name": result.start.card.name,
            "version": result.start.card.version,
            "sha256": result.start.sha256,
        },
        "settings": result.settings.model_dump(),
        "calls": {
            "used": len(calls),
            "positive": int(calls[TRUTH].sum()),
            "held_out": int(calls[HELD_OUT].sum()),
            "markers": calls[gold.CHANNEL].nunique(),
            "fovs": calls[gold.FOV].nunique(),
        },
        "verdict": result.verdict.to_dict(),
        "calibration": {m: list(c) for m, c in result.card.calibration.items()},
        "by_marker": [
            {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}
            for row in by_marker(result)
        ],
        "notes": list(result.notes),
        "panimbus": __version__,
    }


def by_marker(result: Finetuned) -> list[dict[str, Any]]:
    """Held-out calls, positives, F1 before and after, a row a marker.

    NaN where nothing is or is called positive.
    """
    held = result.calls[result.calls[HELD_OUT]]
    threshold = result.start.card.threshold
    rows = []
    for marker, group in held.groupby(gold.CHANNEL, sort=True):
        weights = (
            group[gold.WEIGHT].to_numpy(np.float64)
            if gold.WEIGHT in group.columns
            else np.ones(len(group))
        )
        truth = group[TRUTH].to_numpy(np.float64)
        before, after = (
            figures(group[c].to_numpy(np.float64), truth, weights, threshold).f1 for c in (OLD, NEW)
        )
        rows.append(
            {
                "marker": str(marker),
                "held_out": len(group),
                "positive": int(truth.sum()),
                "f1_before": before,
                "f1_after": after,
            }
        )
    return rows


def sentence(result: Finetuned) -> str:
    """The decision in a sentence."""
    verdict = result.verdict
    gains = ", ".join(
        f"{name.replace('_', ' ').replace('f1', 'F1')} {getattr(verdict.old, name):.3f} ->"
        f" {getattr(verdict.new, name):.3f} (95 % interval of the change {low:+.3f} to {high:+.3f})"
        for name, (low, high) in verdict.gain.items()
    )
    n = int(result.calls[HELD_OUT].sum())
    if result.kept:
        return f"The new model is kept: it is better on {n:,} held-out calls: {gains}."
    return (
        f"The old model stays, {result.start.card.name}: the changed one is not clearly better on"
        f" {n:,} held-out calls: {gains}. No model was written."
    )


def report_markdown(result: Finetuned, path: Path | None, *, command: str = "") -> str:
    """The report as Markdown."""
    calls, settings = result.calls, result.settings
    weighted = ", by their sampling weights" if gold.WEIGHT in calls.columns else ""
    how = (
        f"About {settings.share:.0%} of the calls, whole FOVs or blocks of them, were held out and"
        " never trained on."
    )
    rule = (
        "A changed model is kept only if the 95 % intervals of its gain in F1 and in balanced"
        f" accuracy, from a paired bootstrap over the held-out cells{weighted}, lie above 0."
    )
    lines = [
        f"# {escape_markdown(result.start.card.name)}, fine-tuned",
        "",
        f"**{sentence(result)}**",
        "",
        f"{_calls(result)}. {how} {rule}",
        "",
        "| held-out calls | before | after |",
        "| --- | --: | --: |",
    ]
    names = ("f1", "precision", "recall", "specificity", "balanced_accuracy", "log_loss")
    old, new = result.verdict.old, result.verdict.new
    lines += [
        f"| {n.replace('_', ' ')} | {_three(getattr(old, n))} | {_three(getattr(new, n))} |"
        for n in names
    ]
    lines += [
        "",
        "| marker | held-out calls | positive | F1 before | F1 after |",
        "| --- | --: | --: | --: | --: |",
    ]
    lines += [
        f"| {escape_markdown(r['marker'])} | {r['held_out']} | {r['positive']} |"
        f" {_three(r['f1_before'])} | {_three(r['f1_after'])} |"
        for r in by_marker(result)
    ]
    lines += ["", *(f"- {escape_markdown(note)}" for note in result.notes)]
    if path is not None:
        lines += ["", f"Use it: `panimbus predict ... --model {path.name}`"]
    lines += ["", f"Held-out calls, the most wrong first: {TABLE}. The same as data: {SUMMARY}."]
    if command:
        lines += ["", f"Made by `{command}` (panimbus {__version__})."]
    return "\n".join(lines) + "\n"


def _three(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}"
