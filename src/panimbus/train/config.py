"""The settings of a training run.

A TOML file, strict, on top of a preset if it says ``extends``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from panimbus.core.errors import InputError, ReadError
from panimbus.core.naming import did_you_mean
from panimbus.data.augment import AugmentSettings
from panimbus.io.documents import Strict, read_toml, validate
from panimbus.model.card import ModelCard

PRESETS = Path(__file__).parent / "presets"
Steps = Annotated[int, Field(ge=0, le=10**12)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Share = Annotated[float, Field(ge=0, le=1)]
Platform = Literal["codex", "mibi", "imc", "cycif", "opal", "melc", "phenocycler"]
_PLATFORMS: dict[Platform, float] = {
    "codex": 0.22,
    "mibi": 0.2,
    "imc": 0.18,
    "cycif": 0.14,
    "opal": 0.09,
    "melc": 0.07,
    "phenocycler": 0.1,
}
Percent = Annotated[float, Field(ge=0, le=100)]


class NetConfig(Strict):
    """The net. ``settings``, ``planes``, ``stats`` and ``padding`` are those of its card.

    ``frozen_norm`` keeps batch norms at their stored statistics; ``pretrained`` starts a backbone
    from ImageNet weights; ``start`` names the model (or its file) whose weights to begin from.
    """

    architecture: Literal["paper_unet", "compact_unet", "backbone_unet"] = "compact_unet"
    settings: dict[str, Any] = Field(default_factory=dict)
    planes: tuple[str, ...] = ("image", "sqrt", "interior", "cell", "cell_mean")
    stats: tuple[str, ...] = ()
    padding: Literal["same", "valid"] = "same"
    frozen_norm: bool = False
    pretrained: bool = False
    start: str = ""


class SimulationConfig(Strict):
    """Simulated tissue, mixed with the store's examples (see `panimbus.simulate`).

    Attributes
    ----------
    share
        Of the crops that are simulated; all of them without a store.
    seeds, held_out
        Tissues to train on and to validate on: pairs (first seed, number of tissues).
    side_um, markers
        Side of a tissue (µm), and number of its random markers.
    platforms
        Probability of each platform.
    wrong_mpp
        Share of the tissues whose pixel size is given wrongly, by a factor of up to 1.5.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    seeds: Annotated[tuple[tuple[Seed, Count], ...], Field(min_length=1)] = ((0, 100),)
    held_out: tuple[Seed, Count] = (1_000_000, 24)
    side_um: Annotated[int, Field(ge=64, le=4096)] = 384
    markers: Annotated[int, Field(ge=1, le=100)] = 12
    platforms: dict[Platform, float] = Field(_PLATFORMS, min_length=1)
    wrong_mpp: Share = 0.12


class DataConfig(Strict):
    """What a step sees.

    Attributes
    ----------
    mpp, percentile
        What the store must have been built with; None takes what the store has.
    crop, batch
        Side of a training crop (px), and crops per step over all processes together.
    least_share
        A cell carries a loss if at least this share of its pixels lies in the crop.
    statistics
        "store": those of the whole dataset, and so in prediction. "tile": those of the tile's own
        cells, drawn so that tissues with more and with fewer positive cells occur; prediction then
        takes those of each FOV.
    odds
        With "tile": standard deviation of the log odds with which positive cells are drawn.
    by_fov
        Draw a FOV of the dataset first, then one of its examples; otherwise any example.
    hide_counterstain
        Probability that the net is not told how much a channel resembles the counterstain.
    leave_out
        A dataset of the store that is not trained on.
    """

    mpp: Annotated[float, Field(gt=0)] | None = None
    percentile: Annotated[float, Field(gt=0, le=100)] | None = None
    crop: Annotated[int, Field(ge=1, le=16384)] = 256
    batch: Annotated[int, Field(ge=1, le=65536)] = 16
    least_share: Share = 0.5
    statistics: Literal["store", "tile"] = "store"
    odds: Annotated[float, Field(ge=0)] = 0.7
    by_fov: bool = False
    hide_counterstain: Share = 0.0
    leave_out: str | None = None


class LossConfig(Strict):
    """Weights of the parts of the loss, and what a target is.

    Attributes
    ----------
    pixel, cell
        Of the cross-entropy of the pixels, and of the cells' mean scores.
    f1
        Of 1 - F1 of the soft calls of a crop (`panimbus.model.loss.soft_f1_loss`).
    agreement
        Of the squared difference of a cell's logits between two views of the crop with different
        wrong normalisers (`panimbus.model.loss.disagreement`); 0: a crop is seen once.
    weighting
        "pixel": every pixel counts the same. "cell": every cell of a crop the same, and a crop by
        the root of its cells (up to 40).
    smoothing
        Draws the targets towards 1/2.
    """

    pixel: Annotated[float, Field(ge=0)] = 1.0
    cell: Annotated[float, Field(ge=0)] = 0.0
    f1: Annotated[float, Field(ge=0)] = 0.0
    agreement: Annotated[float, Field(ge=0)] = 0.0
    weighting: Literal["pixel", "cell"] = "pixel"
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05


class OptimiserConfig(Strict):
    """``adam`` adds the weight decay to the gradient (L2), ``adamw`` to the step.

    Both reach every parameter.

    The rate rises over ``warmup`` steps and falls as a cosine to ``final`` of itself over each
    stage. ``ema`` > 0: the model is the moving average of the weights with this share of the old.
    ``clip`` bounds the norm of the gradient. ``precision`` "auto": bfloat16 on CUDA.
    """

    kind: Literal["adam", "adamw"] = "adam"
    rate: Annotated[float, Field(gt=0)] = 3e-4
    final: Share = 0.0
    warmup: Steps = 0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class StagesConfig(Strict):
    """Steps of the two stages, and the rules of the second one (see `panimbus.train.noise`).

    ``robust_rate`` is the learning rate with which the second stage begins; None takes the first
    one's.
    """

    naive: Steps = 300_000
    robust: Steps = 0
    robust_rate: Annotated[float, Field(gt=0)] | None = None
    percentile: tuple[Percent, Percent] = (85.0, 85.0)
    keep: Annotated[float, Field(ge=0, lt=1)] = 0.99
    high: Share = 0.9
    low: Share = 0.1

    @property
    def total(self) -> int:
        """Steps of both stages."""
        return self.naive + self.robust


class CheckConfig(Strict):
    """How often (steps) the net is validated and saved.

    How many validation tiles a marker and dataset at most, and pictures.
    """

    every: Count = 2000
    save: Count = 500
    tiles: Count = 20
    pictures: Annotated[int, Field(ge=0)] = 8


class MachineConfig(Strict):
    """What changes the speed, never the result: none of it is compared on resume.

    ``workers`` processes prepare crops (0: a thread of this one); ``cache_mb`` of decoded tiles are
    kept by each of them.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: Annotated[int, Field(ge=0, le=1024)] = 2
    cache_mb: Annotated[int, Field(ge=0, le=10**9)] = 1024
    threads: Annotated[int, Field(ge=0, le=4096)] = 0
    tensorboard: bool = False


class TrainConfig(Strict):
    """All settings of a run.

    Attributes
    ----------
    logit_offset
        Added to the logits of the finished model.
    tta
        Test-time augmentation that the finished model asks for.
    average
        Further runs, each with these settings laid over; the model is the mean of the weights of
        all runs.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "model"
    seed: Seed = 0
    logit_offset: float = 0.0
    tta: Literal["none", "auto", "full"] = "full"
    net: NetConfig = NetConfig()
    simulation: SimulationConfig | None = None
    data: DataConfig = DataConfig()
    augment: AugmentSettings = AugmentSettings()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    stages: StagesConfig = StagesConfig()
    check: CheckConfig = CheckConfig()
    machine: MachineConfig = MachineConfig()
    average: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        problems = []
        card = self.card(mpp=1.0, percentile=99.9, over="all")
        if self.data.crop % card.stride:
            problems.append(
                f"data.crop = {self.data.crop} is no multiple of the net's stride, {card.stride}"
            )
        if self.data.crop <= 2 * card.margin:
            problems.append(
                f"data.crop = {self.data.crop} leaves nothing of an unpadded net ({card.margin} px"
                " lost a side)"
            )
        if self.loss.pixel + self.loss.cell <= 0:
            problems.append("loss.pixel and loss.cell are both 0")
        if self.stages.total < 1:
            problems.append("stages.naive and stages.robust are both 0")
        problems += self._average_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _average_problems(self) -> list[str]:
        fixed = {"name", "net", "simulation", "machine", "average", "logit_offset", "tta"}
        problems = []
        for k, changes in enumerate(self.average):
            if same := sorted(fixed & set(changes)):
                problems.append(f"average[{k}]: {', '.join(same)} must be the same in all runs")
        return problems

    def runs(self) -> list[TrainConfig]:
        """The settings of each run whose weights are averaged; this one first."""
        alone = self.model_dump(exclude={"average", "logit_offset", "tta"})
        changes = [{}, *self.average]
        return [
            make_config(overlaid(alone, c), source=f"run {k + 1}") for k, c in enumerate(changes)
        ]

    def card(self, *, mpp: float, percentile: float, over: str, **facts: Any) -> ModelCard:
        """The card of the net that this run trains."""
        return ModelCard.model_validate(
            {
                "name": self.name,
                "tta": self.tta,
                "statistics": "fov" if self.data.statistics == "tile" else "dataset",
                **self.net.model_dump(
                    include={"architecture", "settings", "planes", "stats", "padding"}
                ),
                "mpp": mpp,
                "percentile": percentile,
                "percentile_over": over,
                "seed": self.seed,
                **facts,
            }
        )

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on: everything but ``machine``, as JSON has it."""
        out: dict[str, Any] = json.loads(self.model_dump_json(exclude={"machine"}))
        return out


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_config(source: str | Path) -> TrainConfig:
    """Read a TOML file, or the preset of that name.

    Raises
    ------
    ReadError
        With every problem of the file.
    """
    path = _place(source)
    return make_config(read_toml(path), source=str(path))


def make_config(data: Mapping[str, Any], *, source: str) -> TrainConfig:
    """Settings from nested tables; ``extends`` names a preset that they are laid over."""
    rest = {k: v for k, v in data.items() if k != "extends"}
    if "extends" in data:
        rest = overlaid(read_toml(_preset(str(data["extends"]))), rest)
    return validate(TrainConfig, rest, f"{source}: these settings cannot be used.", kind=ReadError)


def overlaid(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``.

    Tables are merged, except ``settings`` of another architecture.

    Examples
    --------
    >>> overlaid({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}})
    {'a': {'x': 1, 'y': 5}, 'b': 3}
    """
    out = dict(base)
    if "architecture" in over and over["architecture"] != base.get("architecture"):
        out.pop("settings", None)
    for key, value in over.items():
        old = out.get(key)
        out[key] = (
            overlaid(old, value)
            if isinstance(old, Mapping) and isinstance(value, Mapping)
            else value
        )
    return out


def _place(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise ReadError(
            f"{path}: there is no such config file.",
            available=presets(),
            fix="check the path, or name a preset",
        )
    return _preset(str(source))


def _preset(name: str) -> Path:
    if name not in presets():
        raise InputError(
            f"Unknown preset {name!r}{did_you_mean(name, presets())}.",
            available=presets(),
            fix="name one of these, or give the path of a .toml file",
        )
    return PRESETS / f"{name}.toml"
