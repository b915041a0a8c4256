"""Functions of the public Python API that need an optional dependency, with an error that says so.

The other functions are defined in their rooms; `panimbus.__init__` lists all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panimbus.core.errors import need_extra
from panimbus.core.progress import OnProgress, silent

if TYPE_CHECKING:
    import pandas as pd

    from panimbus.core.fov import Fov
    from panimbus.core.scale import ChannelScale
    from panimbus.data.store import Store
    from panimbus.finetune.finetune import Finetuned
    from panimbus.finetune.steps import FinetuneSettings
    from panimbus.train.config import TrainConfig
    from panimbus.train.loop import TrainProgress


def train_model(
    settings: TrainConfig | str | Path,
    store: Store | str | Path | None,
    out: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
) -> dict[str, Any]:
    """Train a model, or continue an interrupted run.

    Parameters
    ----------
    settings
        A preset (``small``, ``default``, ``paper``), a TOML file, or its contents.
    store
        Store of `panimbus.build_dataset`; None if the settings use only simulated tissue.
    out
        Folder of the run: ``model.safetensors``, ``model.onnx``, ``result.json`` and curves.
    changes
        Settings that replace those of ``settings``, nested as in the TOML file:
        ``{"seed": 1, "machine": {"device": "cpu"}}``.
    progress
        Called after every step.

    Returns
    -------
    dict
        Contents of ``result.json``: ``step``, ``steps``, ``val_f1`` and others.

    Raises
    ------
    InputError, ReadError
        On settings or a store that cannot be used, or without the extra ``train``.

    Examples
    --------
    >>> import panimbus
    >>> panimbus.train_model("huge", None, "run")
    Traceback (most recent call last):
    panimbus.core.errors.InputError: Unknown preset 'huge'.
      available: default, paper, small
      fix:       name one of these, or give the path of a .toml file
    """
    from panimbus.train.config import TrainConfig, load_config, make_config, overlaid
    from panimbus.train.fovs import open_store

    config = settings if isinstance(settings, TrainConfig) else load_config(settings)
    if changes:
        whole = overlaid(config.model_dump(), changes)
        config = make_config(whole, source="the changed settings")
    examples = open_store(store) if isinstance(store, str | Path) else store
    need_extra("training", "train", "torch")
    from panimbus.train.loop import train

    return train(config, examples, out, progress)


def finetune_model(
    fovs: Sequence[Fov],
    annotations: pd.DataFrame,
    *,
    model: str | Path | None = None,
    scale: ChannelScale | None = None,
    settings: FinetuneSettings | None = None,
    out: str | Path | None = None,
    progress: OnProgress = silent,
) -> Finetuned:
    """Fine-tune a model on annotations and compare it with the old model on held-out ones.

    Parameters
    ----------
    fovs
        All FOVs of the dataset, with labels and pixel sizes; the normaliser is fitted to all.
    annotations
        Table of `panimbus.read_annotations`.
    model
        Model to start from, as for `panimbus.predict`.
    scale
        Normaliser of an earlier run on the same dataset.
    settings
        Mode, training steps, seed and device.
    out
        New folder for the report and, if it is better, the model; None writes nothing.
    progress
        Called with a `panimbus.Progress`.

    Returns
    -------
    Finetuned
        ``kept`` is True if the new model is better on held-out annotations.

    Raises
    ------
    InputError
        On annotations that cannot be used, or without the extra ``train``.

    Examples
    --------
    >>> import pandas, panimbus
    >>> tissue = panimbus.simulate_tissue((96, 96), panel=1, seed=1)
    >>> fov = panimbus.from_array(tissue.image, tissue.labels, channels=["CD3"], mpp=tissue.mpp)
    >>> few = pandas.DataFrame(
    ...     {"fov": ["fov"], "cell_id": [1], "channel": ["CD3"], "call": ["positive"]}
    ... )
    >>> panimbus.finetune_model([fov], few)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    panimbus.core.errors.InputError: All annotations are of one kind.
      expected:  at least 60 determined annotations, 10 of them positive and 10 negative
      got:       1 positive and 0 negative
      fix:       annotate more cells, ...
    """
    from panimbus.annotations.table import check_annotations

    need_extra("fine-tuning", "train", "torch")
    from panimbus.finetune.finetune import finetune
    from panimbus.finetune.report import check_out, save_finetuned

    if out is not None:
        check_out(Path(out))
    checked = check_annotations(annotations)
    result = finetune(fovs, checked, model=model, scale=scale, settings=settings, progress=progress)
    if out is not None:
        save_finetuned(result, out)
    return result
