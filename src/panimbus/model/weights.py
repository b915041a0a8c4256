"""Files of a model.

One safetensors file (weights) and one ONNX file (what OpenVINO runs), each with the card inside.

Finding a model and reading its card need neither torch nor onnx; reading weights as a torch module
and writing files do need torch (the extra ``train``).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from panimbus.core.errors import InputError, ReadError, need_extra
from panimbus.core.guard import guarded
from panimbus.core.naming import did_you_mean
from panimbus.io.documents import validate
from panimbus.model import DEFAULT_MODEL
from panimbus.model.card import ModelCard, PaperSettings
from panimbus.model.headers import (
    CARD_KEY,
    GRAPH_KEY,
    WEIGHTS_KEY,
    graph_sha256,
    read_onnx_metadata,
    read_safetensors_metadata,
    with_sorted_metadata,
    write_onnx_metadata,
)
from panimbus.model.state import check_state, read_pt

if TYPE_CHECKING:
    from torch import nn

    from panimbus.model.unet import Net, PaperUNet

SHIPPED = Path(__file__).parent / "shipped"
NIMBUS_REPO = "JLrumberger/Nimbus-Inference"
_RELEASED = 'panimbus 0.4.0 has it (pip install "panimbus==0.4.0")'
_UNRELEASED = "it was never released; the history of the repository has it"
_RETIRED = {
    **dict.fromkeys(("compact-1", "compact-2"), _RELEASED),
    **dict.fromkeys(("compact-3", "compact-4", "compact-5"), _UNRELEASED),
}
_OPSET = 17
_READERS = {".safetensors": read_safetensors_metadata, ".onnx": read_onnx_metadata}


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of a model lie, and its card.

    Attributes
    ----------
    card
        For a ``.pt`` file the card of the published model; its settings are checked when the
        weights are read.
    onnx, safetensors, pt
        The files that there are; OpenVINO needs ``onnx`` (``with_onnx`` makes it), torch one of the
        other two.
    """

    card: ModelCard
    onnx: Path | None = None
    safetensors: Path | None = None
    pt: Path | None = None

    @property
    def weights(self) -> Path:
        """The file that says which model this is: safetensors, else pt, else ONNX."""
        path = self.safetensors or self.pt or self.onnx
        if path is None:
            raise InputError(f"model {self.card.name!r} has no file.")
        return path

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of ``weights``, for the provenance of a result."""
        return _sha256_of(self.weights)


# -- finding models (no torch)
# -------------------------------------------------------------------------------------------------


def shipped_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.onnx"))


def read_card(path: str | Path) -> ModelCard:
    """Read the card from a ``.safetensors`` or ``.onnx`` file.

    Raises
    ------
    ReadError
        When the file is missing, damaged, of another kind, or holds no panimbus card.
    """
    return ModelCard.from_json(_metadata(Path(path))[CARD_KEY], source=str(path))


def _metadata(path: Path) -> dict[str, str]:
    """Metadata of a model file, with a card in them."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ReadError(
            f"{path}: not a model file.",
            expected="a .safetensors, .onnx or .pt file",
            got=path.suffix or "no suffix",
        )
    metadata = reader(path)
    if CARD_KEY not in metadata:
        raise ReadError(
            f"{path}: this file holds no panimbus model card.",
            expected=f"metadata key {CARD_KEY!r}",
            available=sorted(metadata),
            fix="use a file written by panimbus, or the published Nimbus weights as a .pt file",
        )
    return metadata


def resolve_model(spec: str | Path | None = None) -> ModelFiles:
    """Find a model.

    Parameters
    ----------
    spec
        None or "default": the default model. The name of a shipped model. A path to a
        ``.safetensors``, ``.onnx`` or ``.pt`` file. "nimbus" or "JLrumberger/Nimbus-Inference": the
        published weights, fetched from the Hugging Face hub once.

    Raises
    ------
    InputError
        With the names of the shipped models when nothing of that name exists.
    """
    name = DEFAULT_MODEL if spec is None or str(spec) == "default" else str(spec)
    if name in shipped_models():
        return _of_path(SHIPPED / f"{name}.onnx")
    if name in {"nimbus", NIMBUS_REPO}:
        return _of_path(_from_hub())
    path = Path(name).expanduser()
    if path.is_file():
        return _of_path(path)
    if path.suffix.lower() in {".safetensors", ".onnx", ".pt"}:
        raise ReadError(
            f"{path}: there is no such model file.",
            available=shipped_models(),
            fix="check the path, or name a model",
        )
    if name in _RETIRED:
        raise InputError(
            f"Model {name!r} no longer comes with panimbus.",
            available=[*shipped_models(), "nimbus"],
            fix=f"use {DEFAULT_MODEL}; {_RETIRED[name]}",
        )
    raise InputError(
        f"Unknown model {name!r}{did_you_mean(name, shipped_models())}.",
        available=[*shipped_models(), "nimbus"],
        fix="name one of these, or give the path of a .safetensors, .onnx or .pt file",
    )


def _of_path(path: Path) -> ModelFiles:
    if path.suffix.lower() == ".pt":
        return ModelFiles(nimbus_card(), pt=path)
    card = read_card(path)
    onnx, safetensors = path.with_suffix(".onnx"), path.with_suffix(".safetensors")
    if onnx.is_file() and safetensors.is_file() and _belong_together(onnx, safetensors):
        return ModelFiles(card, onnx=onnx, safetensors=safetensors)
    return (
        ModelFiles(card, onnx=path)
        if path.suffix.lower() == ".onnx"
        else ModelFiles(card, safetensors=path)
    )


def _belong_together(onnx: Path, safetensors: Path) -> bool:
    """Whether one was written with the other.

    Files of one card but of other weights are refused.
    """
    metadata = _metadata(onnx)
    if ModelCard.from_json(metadata[CARD_KEY], source=str(onnx)) != read_card(safetensors):
        return False
    if WEIGHTS_KEY not in metadata:
        return False  # an older file, which does not say what it belongs to: it is used alone
    if metadata[WEIGHTS_KEY] != _sha256_of(safetensors):
        raise ReadError(
            f"{onnx} lies beside {safetensors.name}, but was not made from it.",
            expected=f"{safetensors.name} of SHA-256 {metadata[WEIGHTS_KEY]}",
            got=_sha256_of(safetensors),
            fix=(
                "copy both files of the model again, or move the one that is not meant into another"
                " folder"
            ),
        )
    return True


def _sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub() -> Path:
    """The published weights, fetched once into the user's cache.

    ``XDG_CACHE_HOME``, or ``~/.cache``.
    """
    from panimbus.io.hub import Repository, cached_file, download, list_files, newest_version

    room = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "panimbus"
        / "nimbus-weights"
    )
    cached = sorted(room.glob("V*.pt"), key=lambda path: (len(path.name), path.name))
    for file in reversed(cached):
        if (path := cached_file(room, file.name)) is not None:
            return path
    repository = Repository(NIMBUS_REPO, "models")
    try:
        commit, files = list_files(repository)
        newest = newest_version(files)
        paths = download(repository, commit, [] if newest is None else [newest], room)
    except ReadError as error:
        raise ReadError(
            f"The published weights could not be downloaded from {NIMBUS_REPO}.",
            got=str(error).replace("\n", " "),
            fix=(
                "on a computer with the network, run `panimbus fetch nimbus-weights --out FOLDER`,"
                " then pass its path: --model path/to/V1.pt"
            ),
        ) from error
    if not paths:
        raise ReadError(f"{NIMBUS_REPO} has no file V<n>.pt.", available=[f.path for f in files])
    return paths[0]


# -- reading and writing weights (torch)
# ---------------------------------------------------------------------------------------


def load_torch(path: str | Path) -> tuple[Net, ModelCard]:
    """Read a model as a torch module in evaluation mode, on the CPU, with its card.

    Parameters
    ----------
    path
        A ``.safetensors`` file, or a ``.pt`` state dict with the layer names of the published
        weights.
    """
    path = Path(path)
    if path.suffix.lower() == ".pt":
        return _load_pt(path)
    need_extra(f"reading {path.name} into torch", "train", "torch")
    from safetensors.torch import load_file

    from panimbus.model.unet import build

    if path.suffix.lower() != ".safetensors":
        raise ReadError(
            f"{path}: weights are read from a .safetensors or .pt file.",
            got=path.suffix or "no suffix",
        )
    card = read_card(path)
    with guarded(path, "the weights are damaged.", fix="copy or download the file again"):
        state = load_file(path)
    check_state(partial(build, card), state, path)
    net = build(card)
    net.load_state_dict(dict(state))
    return net, card


def _load_pt(
    path: str | Path, *, padding: Literal["same", "valid"] = "same"
) -> tuple[PaperUNet, ModelCard]:
    """Read a state dict in the layout of the published ``V1.pt``.

    Depth and width follow from its shapes.

    Only tensors are read: pickled code in the file is refused, never run.
    """
    path = Path(path)
    need_extra(f"reading {path.name}", "train", "torch")
    from panimbus.model.unet import PaperUNet

    state = read_pt(path)
    head = state.get("contracting_layers.0.conv2d_0.weight")
    if head is None or head.ndim != 4:
        raise ReadError(
            f"{path}: not the published layout of Nimbus weights.",
            expected="a key 'contracting_layers.0.conv2d_0.weight' of shape (root, planes, 1, 1)",
            available=sorted(state),
        )
    depth = 1 + len({key.split(".")[1] for key in state if key.startswith("contracting_layers.")})
    settings = validate(
        PaperSettings,
        {"depth": max(depth, 2), "root": head.shape[0]},
        f"{path}: a net of this size is not read.",
        kind=ReadError,
    )
    card = nimbus_card(settings=settings, padding=padding)
    if head.shape[1] != len(card.planes):
        raise ReadError(
            f"{path}: the net takes {head.shape[1]} input planes.",
            expected=f"2 ({', '.join(card.planes)})",
        )
    make = partial(PaperUNet, padding=padding, depth=settings.depth, root=settings.root)
    check_state(make, state, path)
    net = make().eval()
    net.load_state_dict(dict(state))
    return net, card


def save_model(stem: str | Path, net: nn.Module, card: ModelCard) -> ModelFiles:
    """Write ``<stem>.safetensors`` and ``<stem>.onnx``, both with the card.

    Existing files are replaced at the end.

    Parameters
    ----------
    stem
        Path without a suffix (a dot in the name is kept as it is).
    """
    need_extra("writing a model", "train", "torch")
    from safetensors.torch import save

    stem = Path(stem)
    safetensors, onnx = (stem.with_name(stem.name + suffix) for suffix in (".safetensors", ".onnx"))
    stem.parent.mkdir(parents=True, exist_ok=True)
    part = safetensors.with_name(safetensors.name + ".part")
    try:
        state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
        # not save_file: its files only their owner may read
        metadata = {CARD_KEY: card.to_json(), "format": "pt"}
        part.write_bytes(with_sorted_metadata(save(state, metadata=metadata)))
        export_onnx(net, card, onnx, weights_sha256=_sha256_of(part))
        part.replace(safetensors)
    finally:
        part.unlink(missing_ok=True)
    return ModelFiles(card, onnx=onnx, safetensors=safetensors)


def export_onnx(
    net: nn.Module, card: ModelCard, path: str | Path, *, weights_sha256: str | None = None
) -> None:
    """Write the net as ONNX.

    Inputs ``planes (n, P, h, w)`` and, when the card names statistics, ``stats (n, S)``.

    The output is ``scores``, (n, 1, h, w) when padded; n, h and w are free. Batch norms are folded.
    ``weights_sha256``, of the file of weights that lies beside it, is written into it, so that
    another net of the same name is noticed.
    """
    need_extra("exporting to ONNX", "train", "torch")
    import warnings

    import torch

    from panimbus.model.unet import folded

    path = Path(path)
    side = 16 * card.stride if card.padding == "valid" else 4 * card.stride
    example = [torch.zeros(2, len(card.planes), side, side)]
    axes = {"planes": {0: "n", 2: "h", 3: "w"}, "scores": {0: "n", 2: "h", 3: "w"}}
    names = ["planes"]
    if card.stats:
        example.append(torch.zeros(2, len(card.stats)))
        axes["stats"], names = {0: "n"}, ["planes", "stats"]
    part = path.with_name(path.name + ".part")
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.filterwarnings(
                "ignore", category=DeprecationWarning
            )  # the new exporter needs onnxscript
            warnings.filterwarnings("ignore", message="Constant folding")  # left to the runtime
            torch.onnx.export(
                folded(net).cpu(), tuple(example), str(part), input_names=names,
                output_names=["scores"], dynamic_axes=axes, opset_version=_OPSET, dynamo=False,
            )  # fmt: skip
        about = {CARD_KEY: card.to_json(), GRAPH_KEY: graph_sha256(part)}
        write_onnx_metadata(
            part, about | ({} if weights_sha256 is None else {WEIGHTS_KEY: weights_sha256})
        )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def convert_pt(
    path: str | Path, stem: str | Path, *, padding: Literal["same", "valid"] = "same"
) -> ModelFiles:
    """Convert published weights (``.pt``) once, so that prediction on a CPU needs no torch.

    See ``save_model``.
    """
    net, card = _load_pt(path, padding=padding)
    return save_model(stem, net, card)


def with_onnx(files: ModelFiles, folder: str | Path) -> ModelFiles:
    """Return the files of the model with an ONNX file, written into ``folder`` if missing."""
    if files.onnx is not None:
        return files
    onnx = Path(folder) / f"{files.card.name}-{files.sha256[:12]}.onnx"
    if not _made_from(onnx, files.sha256):
        net, card = load_torch(files.weights)
        Path(folder).mkdir(parents=True, exist_ok=True)
        export_onnx(net, card, onnx, weights_sha256=files.sha256)
    return replace(files, card=read_card(onnx), onnx=onnx)


def _made_from(onnx: Path, sha256: str) -> bool:
    """Whether an ONNX file that was kept is whole, and of these weights."""
    try:
        return _metadata(onnx).get(WEIGHTS_KEY) == sha256
    except ReadError:
        return False


def nimbus_card(
    settings: PaperSettings | None = None, *, padding: Literal["same", "valid"] = "same"
) -> ModelCard:
    """Return the card of the published weights, as Nimbus-Inference 0.0.5 runs them.

    It works at 10x (1.0 µm/px) and divides by the 99.9 % quantile of the pixels above 0; the
    paper's text says 99.99 %.
    """
    return ModelCard(
        name="nimbus-v1",
        architecture="paper_unet",
        settings=settings or PaperSettings(),
        planes=("image", "interior"),
        mpp=1.0,
        percentile=99.9,
        percentile_over="nonzero",
        padding=padding,
        trained_on="Pan-M (Rumberger, Greenwald et al.), by its authors; the weights are theirs.",
        measured="By its authors: F1 0.850 on their gold standard, all markers of a dataset pooled,"
        " then the mean over five datasets. A mean over markers, as ours, is another number. Not"
        " measured by us.",
        not_for="H&E, immunohistochemistry, transcripts.",
        licence="as published by the authors; not part of panimbus",
    )
