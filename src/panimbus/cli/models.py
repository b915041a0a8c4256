"""``panimbus models``: the models to choose from, and their cards."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.model.card import ModelCard

_WIDTH = 110


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            parser=options.word,
            metavar="NAME|FILE",
            autocompletion=options.models,
            help="Show the card of this model (a name or a model file).",
        ),
    ] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the list or the card as JSON and nothing else.")
    ] = False,
) -> None:
    """List the models of the package, or show the card of one model."""
    import json

    from panimbus.model import DEFAULT_MODEL
    from panimbus.model.weights import resolve_model, shipped_models

    if name is not None:
        card = resolve_model(name).card
        typer.echo(card.to_json() if as_json else card_in_words(card))
        return
    cards = [resolve_model(each).card for each in reversed(shipped_models())]
    if as_json:
        typer.echo(json.dumps([json.loads(card.to_json()) for card in cards]))
        return
    typer.echo(f"{'model':<22}{'µm/px':<8}{'made':<12}F1 on dev_gold, mean")
    for each, card in zip(reversed(shipped_models()), cards, strict=True):
        f1 = card.metrics.get("dev_gold_f1", {}).get("model", {}).get("mean")
        title = f"{each} (default)" if each == DEFAULT_MODEL else each
        typer.echo(f"{title:<22}{card.mpp:<8g}{card.date:<12}{'–' if f1 is None else f'{f1:.2f}'}")
    typer.echo(
        f"{'nimbus':<22}the published weights of Nimbus-Inference, from the Hugging Face hub (needs"
        " panimbus[train])"
    )
    typer.echo(
        "`panimbus models NAME` shows the card of a model: its training data, evaluation and"
        " limits."
    )


def card_in_words(card: ModelCard) -> str:
    """A model card as text: inputs and settings, then the descriptions, then the figures."""
    net = ", ".join(f"{k} {_short(v)}" for k, v in card.settings.model_dump(mode="json").items())
    rows = [
        ("model", f"{card.name}, version {card.version}"),
        (
            "made",
            ", ".join(x for x in (card.date, f"commit {card.commit}" if card.commit else "") if x),
        ),
        ("licence", card.licence),
        ("net", f"{card.architecture} ({net})"),
        ("sees", ", ".join([*card.planes, *card.stats])),
        ("resolution", f"{card.mpp:g} µm/px; images are resampled"),
        (
            "normaliser",
            f"percentile {card.percentile:g} of {card.percentile_over} pixels of the dataset",
        ),
        ("positive from", f"score {card.threshold:g}"),
        ("views", f"{card.tta} (--tta changes it)"),
        (
            "corrected",
            ", ".join(
                f"{m} (temperature {t:.3g}, offset {b:+.3g})"
                for m, (t, b) in card.calibration.items()
            ),
        ),
        ("trained on", card.trained_on),
        ("measured", card.measured),
        ("not for", card.not_for),
        ("command", card.command),
    ]
    blocks = [_row(title, text) for title, text in rows if text]
    if card.metrics:
        blocks.append("figures")
        blocks += _figures(card.metrics, "  ")
    return "\n".join(blocks)


def _row(title: str, text: str) -> str:
    paragraphs = [p for p in text.splitlines() if p.strip()]
    lines = [
        line
        for p in paragraphs
        for line in textwrap.wrap(p, _WIDTH - 16, break_long_words=False, break_on_hyphens=False)
    ]
    return "\n".join(f"{title if k == 0 else '':<16}{line}" for k, line in enumerate(lines))


def _figures(metrics: dict[str, Any], indent: str) -> list[str]:
    """One line per number; nested numbers are indented."""
    out = []
    for name, value in metrics.items():
        title = f"{indent}{name.replace('_', ' ')}"
        if isinstance(value, dict) and all(isinstance(v, int | float) for v in value.values()):
            out += textwrap.wrap(
                f"{title}: "
                + ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in value.items()),
                _WIDTH,
                subsequent_indent=f"{indent}  ",
            )
        elif isinstance(value, dict):
            out += [f"{title}:", *_figures(value, f"{indent}  ")]
        else:
            out += textwrap.wrap(
                f"{title}: {_short(value)}", _WIDTH, subsequent_indent=f"{indent}  "
            )
    return out


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_short(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
