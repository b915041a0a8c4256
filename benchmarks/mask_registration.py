"""How often a mask is said not to lie on its image: masks as they are (false alarms), moved,
turned, and of other FOVs (hits).

usage: python benchmarks/mask_registration.py DATA [OUT.md]

DATA holds a folder a dataset, each with ``images`` and ``labels`` (or ``labels_*``); an image
belongs to the label image that its name begins with. Labels are moved by rolling them, so that
their rims are wrong besides.
"""

import datetime as dt
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from panimbus.core.counterstain import is_counterstain
from panimbus.core.registration import FITS, _View, correlate_mask, describe_misfit
from panimbus.io import open_fovs

KINDS = ("as it is", "10 µm", "30 µm", "mirrored", "turned", "of another FOV")


def pairs(root):
    """(dataset, image, label image)."""
    for dataset in sorted(p for p in root.iterdir() if (p / "images").is_dir()):
        for folder in sorted(dataset.glob("labels*")):
            for labels in sorted(folder.iterdir()):
                stem = labels.name.split(".")[0]
                inside = sorted((dataset / "images").iterdir())
                images = [p for p in inside if p.name.split(".")[0].split("_pt")[0] == stem]
                if images:
                    yield f"{dataset.name}/{folder.name}", images[0], labels
        for maps in sorted(dataset.glob("*binary_seg_maps.tif")):
            yield dataset.name, Path(str(maps).replace("binary_seg_maps", "component_data")), maps
    for maps in sorted(root.glob("*/*binary_seg_maps.tif")):
        yield maps.parent.name, Path(str(maps).replace("binary_seg_maps", "component_data")), maps


def wrong(fov, labels, others):
    """Every wrong mask of a FOV: what was done to it, and the labels."""
    for um in (10, 30):
        shift = round(um / fov.mpp)
        for down, right in ((shift, 0), (0, -shift), (-shift, shift)):
            yield f"{um} µm", np.roll(labels, (down, right), (0, 1))
    yield "mirrored", labels[::-1]
    yield "mirrored", labels[:, ::-1]
    yield "turned", labels[::-1, ::-1]
    if labels.shape[0] == labels.shape[1]:
        yield "turned", labels.T
    for other in others:
        yield "of another FOV", other


def strength(fov):
    """Of the best counterstain."""
    view = _View.of(fov)
    inside = view.inside(lambda a: a)
    return max(
        correlate_mask(inside, view.plane(c)).in_place for c in fov.channels if is_counterstain(c)
    )


def main(root, out=None):
    fovs = []
    for dataset, image, labels in pairs(Path(root)):
        (fov,) = open_fovs(image, labels)
        height, width = fov.shape_yx
        whole = np.asarray(fov.labels[0:height, 0:width])
        fovs.append((dataset, fov, whole))
    count, seconds = defaultdict(lambda: [0, 0]), []
    least = {}
    for dataset, fov, labels in fovs:
        begin = time.process_time()
        count[dataset, "as it is"][0] += describe_misfit(fov) is not None
        seconds.append(time.process_time() - begin)
        count[dataset, "as it is"][1] += 1
        least[dataset] = min(least.get(dataset, np.inf), strength(fov))
        place = fov.fov_id.split("_")[0]
        same = [
            (d, f, one)
            for d, f, one in fovs
            if one.shape == labels.shape and f.fov_id.split("_")[0] != place
        ]
        for kind, other in wrong(fov, labels, [one for d, _, one in same if d == dataset][:3]):
            count[dataset, kind][0] += (
                describe_misfit(fov.with_(labels=np.ascontiguousarray(other))) is not None
            )
            count[dataset, kind][1] += 1
    datasets = list(dict.fromkeys(d for d, _, _ in fovs))
    total = {k: tuple(sum(count[d, k][i] for d in datasets) for i in (0, 1)) for k in KINDS}
    lines = [
        "# Masks that do not lie on their image",
        "",
        (
            f"{dt.datetime.now(dt.UTC).date()}. `python benchmarks/mask_registration.py`: warnings"
            " of masks tried."
        ),
        "The first column must be 0;",
        (
            f"strength is the least of a dataset's right masks, in standard deviations ({FITS:g} is"
            " enough)."
        ),
        f"{1000 * np.median(seconds):.0f} ms of CPU time a FOV (median).",
        "",
        "| dataset | FOVs | strength | " + " | ".join(KINDS) + " |",
        "| --- " * (3 + len(KINDS)) + "|",
    ]
    for dataset in datasets:
        cells = [f"{a} of {n}" if n else "" for a, n in (count[dataset, k] for k in KINDS)]
        lines.append(
            f"| {dataset} | {count[dataset, KINDS[0]][1]} | {least[dataset]:.0f} |"
            f" {' | '.join(cells)} |"
        )
    cells = [f"{a} of {n}" for a, n in total.values()]
    lines.append(f"| all | {len(fovs)} | {min(least.values()):.0f} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if out:
        Path(out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
