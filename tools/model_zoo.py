"""The default model as a package of the BioImage Model Zoo: a zip file with rdf.yaml.

    make bioimageio        # dist/panimbus-MODEL.zip, checked with bioimageio.core

The net is the shipped ONNX file. Its inputs are not an image alone: what panimbus computes from a
channel, the label image and the dataset (`panimbus.core.planes`, `panimbus.core.scale`), so other
programs have to compute them, too. The test input is a simulated tissue. Needs bioimageio.core and
onnxruntime.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from panimbus import __version__, from_array, simulate_tissue
from panimbus.core.normaliser import fit_normaliser
from panimbus.core.planes import channel_planes, label_planes
from panimbus.core.scan import scan_fov
from panimbus.core.types import Float32Array
from panimbus.model.card import ModelCard
from panimbus.model.weights import resolve_model

SIDE, SEED, LEAST = 128, 1, 64


def example_input(card: ModelCard) -> tuple[Float32Array, Float32Array]:
    """Planes (1, P, SIDE, SIDE) and statistics (1, S) of a channel of a simulated tissue."""
    tissue = simulate_tissue((SIDE, SIDE), card.mpp, panel=1, seed=SEED, platform="codex")
    fov = from_array(tissue.image, tissue.labels, channels=["CD3"], mpp=card.mpp)
    scale = fit_normaliser([fov], fov.channels, card)
    cells, scan = scan_fov(fov, fov.channels, card.mpp)
    index = np.searchsorted(cells.index.ids, tissue.labels).astype(np.int32)
    index[tissue.labels == 0] = -1
    value = np.float32(scale.value("CD3"))
    planes = channel_planes(
        label_planes(card.planes, index),
        card.planes,
        np.asarray(tissue.image[0], np.float32) / value,
        index=index,
        cell_mean=np.asarray(scan.mean[:, 0], np.float32) / value,
        stats=scale.relative_stats("CD3"),
    )
    return planes[None], scale.vector("CD3", card.stats)[None]


def scores_of(net: Path, planes: Float32Array, stats: Float32Array) -> Float32Array:
    """What the net makes of them, (1, 1, SIDE, SIDE)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(net))
    (scores,) = session.run(None, {"planes": planes, "stats": stats})
    return np.asarray(scores, np.float32)


def opset_of(net: Path) -> int:
    """Version of the ONNX operators that a net is made of."""
    import onnx

    return int(onnx.load(net).opset_import[0].version)


def description(card: ModelCard, folder: Path) -> Any:
    """The package's description; ``folder`` holds the files that it names."""
    from bioimageio.spec.model import v0_5 as spec

    net = folder / "weights.onnx"

    def across(size: Any, kind: Any) -> list[Any]:
        return [
            kind(id=spec.AxisId(name), size=size, scale=card.mpp, unit="micrometer")
            for name in "yx"
        ]

    def tensor(name: str, text: str, kind: Any, axes: list[Any]) -> Any:
        test = spec.FileDescr(source=folder / f"test_{name}.npy")
        data = spec.IntervalOrRatioDataDescr(type="float32")
        batch = [spec.BatchAxis()]
        return kind(
            id=spec.TensorId(name), description=text, axes=batch + axes, test_tensor=test, data=data
        )

    def names(values: tuple[str, ...]) -> Any:
        return spec.ChannelAxis(channel_names=[v.replace("/", "_by_") for v in values])

    any_size = spec.ParameterizedSize(min=-(-LEAST // card.stride) * card.stride, step=card.stride)
    planes = [names(card.planes), *across(any_size, spec.SpaceInputAxis)]
    sizes = {
        a: spec.SizeReference(tensor_id=spec.TensorId("planes"), axis_id=spec.AxisId(a))
        for a in "yx"
    }
    scores = [names(("score",))] + [
        spec.SpaceOutputAxis(id=spec.AxisId(a), size=sizes[a], scale=card.mpp, unit="micrometer")
        for a in "yx"
    ]
    return spec.ModelDescr(
        name=f"panimbus {card.name} - marker positivity of cells",
        description=(
            "Scores of every pixel of one channel of a multiplexed tissue image, given a"
            " segmentation; the mean over a cell says whether it is positive for the marker."
        ),
        authors=[spec.Author(name="The panimbus developers")],
        cite=[
            spec.CiteEntry(
                text="Rumberger, Greenwald et al., Nature Methods (2025): the method",
                doi=spec.Doi("10.1038/s41592-025-02826-9"),
            )
        ],
        license=spec.LicenseId(card.licence),
        tags=["multiplexed-imaging", "tissue", "cell-classification", "CODEX", "MIBI", "IMC"],
        version=spec.Version(__version__.split(".dev")[0]),
        documentation=spec.FileDescr(source=folder / "documentation.md"),
        covers=[spec.FileDescr(source=folder / "cover.png")],
        inputs=[
            tensor(
                "planes",
                "Computed from a channel and a label image.",
                spec.InputTensorDescr,
                planes,
            ),
            tensor(
                "stats",
                "Statistics of the channel's cells over the whole dataset.",
                spec.InputTensorDescr,
                [names(card.stats)],
            ),
        ],
        outputs=[tensor("scores", "Score of each pixel, 0 to 1.", spec.OutputTensorDescr, scores)],
        weights=spec.WeightsDescr(
            onnx=spec.OnnxWeightsDescr(source=net, opset_version=opset_of(net))
        ),
    )


DOCUMENTATION = """# panimbus {name}

The net of panimbus, as ONNX. It sees one channel of a
multiplexed tissue image at {mpp:g} µm per pixel together with its segmentation; a cell is positive
for the marker if the mean of its pixels' scores is at least {threshold:g}. The method is that of
Nimbus.

`pip install panimbus` computes the inputs, and is how to use the net: `panimbus predict IMAGES
--labels LABELS --out results`. For other programs:

- `planes`: {planes}. They are defined in `panimbus.core.planes`.
- `stats`: {stats}. They are defined in `panimbus.core.scale`, over all cells of a dataset.
- Intensities are divided by the {percentile:g}th percentile of the channel's pixels in the dataset.

## Trained on

{trained_on}

## Measured

{measured}

## Not for

{not_for}
"""


def write_cover(planes: Float32Array, scores: Float32Array, path: Path) -> None:
    """The test input's channel beside its scores."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    for axis, picture, title in zip(
        axes, (planes[0, 1], scores[0, 0]), ("channel", "scores"), strict=True
    ):
        axis.imshow(picture, cmap="gray" if title == "channel" else "viridis")
        axis.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Write the package and test it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="default: the default model")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder of the zip file")
    args = parser.parse_args()
    from bioimageio.core import load_description_and_test
    from bioimageio.spec import save_bioimageio_package

    files = resolve_model(args.model)
    card = files.card
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copy(files.onnx, folder / "weights.onnx")
        planes, stats = example_input(card)
        scores = scores_of(files.onnx, planes, stats)
        for name, array in (("planes", planes), ("stats", stats), ("scores", scores)):
            np.save(folder / f"test_{name}.npy", array)
        write_cover(planes, scores, folder / "cover.png")
        texts = card.model_dump() | {k: ", ".join(getattr(card, k)) for k in ("planes", "stats")}
        (folder / "documentation.md").write_text(DOCUMENTATION.format(**texts), encoding="utf-8")
        args.out.mkdir(parents=True, exist_ok=True)
        package = args.out / f"panimbus-{card.name}.zip"
        save_bioimageio_package(description(card, folder), output_path=package)
    tested = load_description_and_test(package)
    summary = tested.validation_summary
    print(f"{package}: {summary.status}")
    if summary.status != "passed":
        print(summary.format())
        sys.exit(1)


if __name__ == "__main__":
    main()
