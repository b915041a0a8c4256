"""``panimbus models``: what there is to choose from, and what each model's card says."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    name: Annotated[str | None, typer.Argument(help="Show this model's card (a name, or a model file).")] = None,
) -> None:
    """List the models that come with the package, or show a model's card."""
    from panimbus.model.weights import DEFAULT_MODEL, resolve_model, shipped_models

    if name is not None:
        typer.echo(resolve_model(name).card.to_json())
        return
    typer.echo(f"{'model':<22}{'µm/px':<8}{'made':<10}F1 on dev_gold, mean")
    for each in reversed(shipped_models()):
        card = resolve_model(each).card
        f1 = card.metrics.get("dev_gold_f1", {}).get("model", {}).get("mean")
        said = f"{each} (default)" if each == DEFAULT_MODEL else each
        typer.echo(f"{said:<22}{card.mpp:<8g}{card.date:<10}{'–' if f1 is None else f'{f1:.2f}'}")
    typer.echo(f"{'nimbus':<22}the published weights of Nimbus-Inference, from the Hugging Face hub (extra train)")
    typer.echo("`panimbus models NAME` shows a model's card: what it was trained on, how it was measured, what it is not for.")
