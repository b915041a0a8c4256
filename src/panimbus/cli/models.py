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
    for each in shipped_models():
        card = resolve_model(each).card
        mark = " (default)" if each == DEFAULT_MODEL else ""
        typer.echo(f"{each}{mark}: {card.architecture} at {card.mpp:g} µm/px. {card.trained_on}")
    typer.echo("nimbus: the published weights of Nimbus-Inference, from the Hugging Face hub (extras hub and train)")
