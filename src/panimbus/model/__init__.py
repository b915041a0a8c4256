"""Nets, their cards and their files.

Importing this imports nothing heavy: names are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panimbus.model.card import CompactSettings, ModelCard, PaperSettings
    from panimbus.model.unet import CompactUNet, PaperUNet, build
    from panimbus.model.weights import (
        ModelFiles,
        convert_pt,
        export_onnx,
        load_torch,
        read_card,
        resolve_model,
        save_model,
        shipped_models,
        with_onnx,
    )

DEFAULT_MODEL = "compact-7"

_HOME = {
    **dict.fromkeys(("CompactSettings", "ModelCard", "PaperSettings"), "card"),
    **dict.fromkeys(("CompactUNet", "PaperUNet", "build"), "unet"),
    **dict.fromkeys(
        ("ModelFiles", "convert_pt", "export_onnx", "load_torch", "read_card",
         "resolve_model", "save_model", "shipped_models", "with_onnx"),
        "weights",
    ),
}  # fmt: skip

__all__ = [
    "DEFAULT_MODEL",
    "CompactSettings",
    "CompactUNet",
    "ModelCard",
    "ModelFiles",
    "PaperSettings",
    "PaperUNet",
    "build",
    "convert_pt",
    "export_onnx",
    "load_torch",
    "read_card",
    "resolve_model",
    "save_model",
    "shipped_models",
    "with_onnx",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
