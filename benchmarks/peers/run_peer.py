"""Runs under the Python that has Nimbus-Inference 0.0.5, never imported by us: times it through its
own public interface.

    python run_peer.py predict DATASET WEIGHTS.pt CHANNELS    whole prediction, as its README does
    it python run_peer.py slide IMAGE.ome.tiff WEIGHTS.pt CHANNELS LABELS.tiff all|one real|MB
    the same on one file: all 6 views,
        or one plain pass; with its net, or with a stand-in that takes up so many MB
    python run_peer.py calls FOLDER WEIGHTS.pt                calls of the FOVs of `accuracy.py`
    python run_peer.py passes INPUT.npy WEIGHTS.pt REPEATS    single passes of its net on one input

The last line of the output is JSON.
"""

import json
import resource
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path


def clock():
    used = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime
    return time.perf_counter(), cpu


def since(start):
    wall, cpu = clock()
    return {"wall_s": wall - start[0], "cpu_s": cpu - start[1]}


def predict(dataset, weights, channels):
    from nimbus_inference.nimbus import prep_naming_convention

    folder = Path(dataset)
    return whole(
        weights,
        fov_paths=[str(folder / "image_data" / "fov0")],
        suffix=".tiff",
        include_channels=[f"ch{i:02d}" for i in range(channels)],
        segmentation_naming_convention=prep_naming_convention(
            str(folder / "segmentation" / "deepcell_output")
        ),
    )


def slide(image, weights, channels, labels, *, views, net):
    from nimbus_inference.utils import LazyOMETIFFReader

    data = {
        "fov_paths": [image],
        "suffix": ".ome.tiff",
        "segmentation_naming_convention": lambda _: labels,
    }
    names = LazyOMETIFFReader(image).channels[:channels]
    return whole(
        weights,
        views=views,
        stand_in=None if net == "real" else float(net),
        include_channels=names,
        **data,
    )


def calls(folder, weights):
    """Score the FOVs of `accuracy.py` in the folders that its README asks for; write nimbus.npy.

    Its net was trained at 20x; the magnification that it is told is what the pixel size makes it.
    """
    import numpy as np
    import tifffile
    from nimbus_inference.nimbus import prep_naming_convention

    folder = Path(folder)
    masks, images, order = folder / "masks", folder / "images", []
    masks.mkdir()
    for path in sorted(folder.glob("fov*.npz")):
        with np.load(path) as data:
            name, channels = path.stem, [str(c) for c in data["channels"]]
            (images / name).mkdir(parents=True)
            for k, plane in enumerate(data["image"]):
                tifffile.imwrite(images / name / f"c{k:03d}.tiff", plane)
            tifffile.imwrite(masks / f"{name}_whole_cell.tiff", data["labels"])
            mpp = float(data["mpp"])
            order += [(name, int(cell)) for cell in np.unique(data["labels"]) if cell]
    names = [f"c{k:03d}" for k in range(len(channels))]
    found = whole(
        weights,
        magnification=20 * 0.5 / mpp,
        keep=True,
        fov_paths=[str(path) for path in sorted(images.iterdir())],
        suffix=".tiff",
        include_channels=names,
        segmentation_naming_convention=prep_naming_convention(str(masks)),
    )
    table = found.pop("table").set_index(["fov", "label"])
    np.save(folder / "nimbus.npy", table.loc[order, names].to_numpy() >= 0.5)
    return found


def whole(weights, *, views="all", stand_in=None, magnification=20, keep=False, **data):
    """Predict with its settings; ``stand_in`` replaces the net by zeros that take up so many MB."""
    start = clock()
    import nimbus_inference
    from nimbus_inference.nimbus import Nimbus
    from nimbus_inference.utils import MultiplexDataset

    # its checkpoints live inside its own package; naming a local one keeps it off the network
    assets = Path(nimbus_inference.__file__).parent / "assets"
    assets.mkdir(exist_ok=True)
    shutil.copy(weights, assets / "panimbus_benchmark.pt")
    stages = {"import": since(start)}
    with tempfile.TemporaryDirectory() as out:
        start = clock()
        data = MultiplexDataset(output_dir=out, magnification=magnification, **data)
        data.prepare_normalization_dict(
            quantile=0.999, clip_values=(0, 2), n_subset=50, multiprocessing=False, overwrite=True
        )
        stages["normalise"] = since(start)
        start = clock()
        nimbus = Nimbus(
            dataset=data,
            output_dir=out,
            save_predictions=True,
            batch_size=4,
            test_time_aug=views == "all",
            input_shape=[1024, 1024],
            device="auto",
            checkpoint="panimbus_benchmark.pt",
        )
        nimbus.check_inputs()
        stages["load"] = since(start)
        passes = {"count": 0, "tiles": 0, "wall_s": 0.0, "cpu_s": 0.0}
        load = nimbus.load_checkpoint

        def load_and_watch(
            *args, **kwargs
        ):  # it loads its net anew when images are larger than a tile
            load(*args, **kwargs)
            nimbus.model.forward = watched(nimbus.model, passes, stand_in)

        nimbus.load_checkpoint = load_and_watch
        nimbus.model.forward = watched(nimbus.model, passes, stand_in)
        start = clock()
        table = nimbus.predict_fovs()
        stages["predict"] = since(start)
    (assets / "panimbus_benchmark.pt").unlink()
    found = {
        "stages": stages,
        "passes": passes,
        "cells": len(table),
        "channels": len(data.channels),
    }
    return {**found, "table": table} if keep else found


def watched(model, passes, stand_in):
    """Its forward, or the stand-in, with a clock."""
    import torch

    forward = model.forward

    def empty(x):
        torch.zeros(int(stand_in * 2**18)).fill_(1)
        lost = 0 if model.padding == "reflect" else 188
        return torch.zeros(len(x), 1, x.shape[2] - lost, x.shape[3] - lost)

    def timed(x):
        begin = clock()
        result = forward(x) if stand_in is None else empty(x)
        spent = since(begin)
        passes["count"] += 1
        passes["tiles"] += len(x)
        passes["wall_s"] += spent["wall_s"]
        passes["cpu_s"] += spent["cpu_s"]
        return result

    return timed


def single_passes(source, weights, repeats):
    import numpy as np
    import torch
    from nimbus_inference.unet import UNet

    net = UNet(num_classes=1, padding="reflect")
    net.load_state_dict(torch.load(weights))
    net.eval()
    planes = torch.from_numpy(np.load(source))
    runs = []
    with torch.no_grad():
        for _ in range(repeats):
            start = clock()
            out = net(planes)
            runs.append(since(start))
    np.save(source.replace(".npy", "_peer.npy"), out.numpy())
    return {"runs": runs}


if __name__ == "__main__":
    verb, source, weights, *more = sys.argv[1:]
    if verb == "slide":
        result = slide(source, weights, int(more[0]), more[1], views=more[2], net=more[3])
    elif verb == "calls":
        result = calls(source, weights)
    else:
        result = (predict if verb == "predict" else single_passes)(source, weights, int(more[0]))
    import torch

    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result["threads"] = torch.get_num_threads()
    result["versions"] = {name: version(name) for name in ("Nimbus-Inference", "torch", "numpy")}
    print("\n" + json.dumps(result))
