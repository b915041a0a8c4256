"""An ablation.

The same training with one thing changed at a time, over several seeds, as one table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.escape import escape_markdown
from panimbus.io.documents import Strict, read_json, read_toml, validate
from panimbus.io.files import write_text
from panimbus.train.config import Seed, TrainConfig, make_config, overlaid

if TYPE_CHECKING:
    import pandas as pd

    from panimbus.train.examples import StoreLike
    from panimbus.train.loop import TrainProgress

Train = Callable[
    [TrainConfig, "StoreLike", Path, Callable[["TrainProgress"], None]], dict[str, Any]
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$")]


class Arm(Strict):
    """One line of the table: ``settings`` are laid over the base.

    ``store`` is another store than the sweep's.
    """

    name: Name
    group: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    store: Path | None = None


class Sweep(Strict):
    """What is trained: every arm with every seed. ``base`` is a config, and may say ``extends``."""

    base: dict[str, Any] = Field(default_factory=dict)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    arm: Annotated[tuple[Arm, ...], Field(min_length=1)]


def load_sweep(path: str | Path) -> Sweep:
    """Read a sweep from TOML; a path of a store is relative to the file.

    Every arm's settings are checked.
    """
    source = Path(path)
    data = read_toml(source, "a TOML file with [[arm]]")
    sweep = validate(Sweep, data, f"{source}: this sweep cannot be used.", kind=ReadError)
    names = [arm.name for arm in sweep.arm]
    if len(set(names)) < len(names):
        raise ReadError(
            f"{source}: two arms have one name.",
            got=format_list(sorted({n for n in names if names.count(n) > 1})),
        )
    arms = [
        a if a.store is None else a.model_copy(update={"store": source.parent / a.store})
        for a in sweep.arm
    ]
    resolved = sweep.model_copy(update={"arm": tuple(arms)})
    problems = []
    for arm in resolved.arm:
        try:
            arm_config(resolved, arm, resolved.seeds[0])
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise ReadError("\n".join(problems))
    return resolved


def arm_config(sweep: Sweep, arm: Arm, seed: int) -> TrainConfig:
    """The settings of one run."""
    return make_config(
        overlaid(overlaid(sweep.base, arm.settings), {"seed": seed}), source=f"arm {arm.name!r}"
    )


def run_sweep(
    sweep: Sweep,
    stores: Mapping[Path | None, StoreLike],
    out: str | Path,
    *,
    train: Train,
    progress: Callable[[str, TrainProgress], None] | None = None,
) -> pd.DataFrame:
    """Train every arm with every seed.

    Finished runs are taken as they are, and the tables are written after each.

    Parameters
    ----------
    sweep
    stores
        ``Arm.store`` -> store; None is the sweep's own.
    out
        Folder: ``runs/<arm>/seed<k>``, ``ablation.csv`` and ``ablation.md``.
    train
        `panimbus.train.loop.train`.
    progress
        Called with a run's name and where it is.

    Returns
    -------
    DataFrame
        One row a run: arm, group, seed, F1 of the validation and test split, parameters, seconds.
    """
    import pandas as pd

    folder, rows, tell = Path(out), [], progress or _silent
    for seed in sweep.seeds:
        for arm in sweep.arm:
            name = f"{arm.name}, seed {seed}"
            place = folder / "runs" / arm.name.replace(" ", "_") / f"seed{seed}"
            begun = time.perf_counter()
            result = train(
                arm_config(sweep, arm, seed), stores[arm.store], place, partial(tell, name)
            )
            figures = {
                k: result.get(k) for k in ("val_f1", "test_f1", "val_loss", "parameters", "step")
            }
            rows.append(
                {
                    "group": arm.group,
                    "arm": arm.name,
                    "seed": seed,
                    **figures,
                    "seconds": _seconds(place, begun),
                }
            )
            table = pd.DataFrame(rows)
            for file, text in (
                ("ablation.csv", table.to_csv(index=False)),
                ("ablation.md", sweep_markdown(table)),
            ):
                write_text(folder / file, text)
    return pd.DataFrame(rows)


def sweep_markdown(table: pd.DataFrame) -> str:
    """The runs as a Markdown table.

    Mean over the seeds, and the standard deviation where there are several.

    Examples
    --------
    >>> import pandas as pd
    >>> run = {"group": "g", "arm": "a", "parameters": 1200, "seconds": 3}
    >>> run |= {"val_f1": 0.5, "test_f1": 0.25}
    >>> print(sweep_markdown(pd.DataFrame([run | {"seed": 0}, run | {"seed": 1, "val_f1": 0.7}])))
    | group | arm | seeds | F1 validation | F1 test | parameters | seconds |
    | --- | --- | --- | --- | --- | --- | --- |
    | g | a | 2 | 0.600 ± 0.141 | 0.250 ± 0.000 | 1,200 | 3 |
    <BLANKLINE>
    """
    lines = [
        "| group | arm | seeds | F1 validation | F1 test | parameters | seconds |",
        "| --- " * 7 + "|",
    ]
    for (group, arm), part in table.groupby(["group", "arm"], sort=False):
        f1 = " | ".join(_spread(part[name]) for name in ("val_f1", "test_f1"))
        names = f"{escape_markdown(group)} | {escape_markdown(arm)}"
        lines.append(
            f"| {names} | {len(part)} | {f1} | {part['parameters'].iloc[0]:,} |"
            f" {part['seconds'].mean():.0f} |"
        )
    return "\n".join(lines) + "\n"


def _silent(_name: str, _progress: TrainProgress) -> None:
    """No progress."""


def _spread(values: pd.Series[Any]) -> str:
    figures = values.dropna().astype(float)
    if not len(figures):
        return "–"
    return f"{figures.mean():.3f}" + (f" ± {figures.std():.3f}" if len(figures) > 1 else "")


def _seconds(place: Path, begun: float) -> float:
    """How long the run took in all: kept beside it, so that a second call tells the same."""
    path = place / "seconds.json"
    if path.exists():
        with suppress(ReadError):
            spent = read_json(path)
            if isinstance(spent, int | float):
                return float(spent)
    spent = round(time.perf_counter() - begun, 1)
    write_text(path, json.dumps(spent))
    return spent
