"""`predict` against a whole-image reference in plain torch and NumPy, written from the description
of the method alone."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale


def mirrored(n, before, after):
    """Positions of a reflected axis: 2 1 | 0 1 2 | 1 0."""
    period = max(2 * (n - 1), 1)
    k = np.abs(np.arange(-before, n + after)) % period
    return np.minimum(k, period - k) if n > 1 else k * 0


def inner(labels):
    """Cell pixels all of whose 4 neighbours (where there is one) have the same label."""
    around = np.pad(labels, 1, mode="edge")
    neighbours = [around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]]
    return (labels > 0) & np.all([n == labels for n in neighbours], 0)


def numbers(fovs, channel, card):
    """Normaliser and statistics of a channel over all FOVs, by numpy.percentile."""
    pixels = np.concatenate([f.image[channel].ravel() for f in fovs]).astype(float)
    means = [f.image[channel][f.labels == i].mean() for f in fovs for i in np.unique(f.labels) if i]
    outside = np.concatenate([f.image[channel][f.labels == 0] for f in fovs]).mean()
    stats = {f"q{q:02d}": np.percentile(means, q) for q in range(1, 100)} | {"outside": outside}
    return np.percentile(pixels, card.percentile), stats | likeness(fovs, channel)


def likeness(fovs, channel):
    """The channel's rank correlation with the first, if that is DAPI: the mean over the FOVs of 20
    cells and more."""
    found, cells = [], []
    for f in fovs if fovs[0].channels[0] == "DAPI" else ():
        means = [
            [f.image[k][f.labels == i].mean() for i in np.unique(f.labels) if i]
            for k in (0, channel)
        ]
        if len(means[0]) >= 20:
            found.append(spearmanr(*means)[0] if channel else 1.0)
            cells.append(len(means[0]))
    return {"counterstain": np.average(np.round(found, 3), weights=cells)} if found else {}


def otsu(stats):
    """Half way between the two classes of percentiles whose variance between them is largest."""
    values = np.array([stats[f"q{q:02d}"] for q in range(1, 100)])
    between = [k * (99 - k) * (values[k:].mean() - values[:k].mean()) ** 2 for k in range(1, 99)]
    split = 1 + int(np.argmax(between))
    return (values[split - 1] + values[split]) / 2


def told(stats, name):
    """A statistic as the net is told it."""
    if name == "counterstain":
        alike = max(stats.get(name, 0), 0)
        return -2 if alike == 1 else 2 * alike**2
    value = otsu(stats) if name.startswith("otsu") else stats[name.split("/")[0]]
    return (
        value / (value + otsu(stats)) if name.endswith("/otsu") else np.sqrt(np.clip(value, 0, 1))
    )


def rank(mean, stats):
    """Share of the cells with a lower mean; the percentiles are all different here."""
    points = np.array([0, *(stats[f"q{q:02d}"] for q in range(1, 100))])
    return (
        np.interp(mean, points, np.arange(100) / 100)
        if mean <= points[-1]
        else 1 - points[-1] / mean / 100
    )


def planes(image, labels, means, stats, card):
    ids = np.unique(labels)

    def painted(value):
        out = np.zeros(labels.shape)
        for i in ids[ids > 0]:
            out[labels == i] = value(means[i])
        return out

    threshold = otsu(stats)
    clipped = np.clip(image, 0, 1)
    known = {
        "image": clipped,
        "sqrt": np.sqrt(clipped),
        "interior": inner(labels),
        "cell": labels > 0,
        "cell_mean": painted(lambda mean: np.sqrt(np.clip(mean, 0, 1))),
        "relative": image / (image + threshold),
        "cell_relative": painted(lambda mean: mean / (mean + threshold)),
        "cell_rank": painted(lambda mean: rank(mean, stats)),
    }
    return np.stack([known[name] for name in card.planes]).astype(np.float32)


def pixel_scores(
    image, labels, means, stats, net, card, quarters=(0, 1, 2, 3), flips=(False, True)
):  # noqa: PLR0917, RUF100
    """(views, Y, X): the net on the whole image, padded by reflection; each view undone."""
    import torch

    margin = -(-card.margin // card.stride) * card.stride
    pads = []
    for n in labels.shape:
        total = max(-(-(n + 2 * margin) // card.stride) * card.stride, 2 * card.stride)
        pads.append(mirrored(n, margin, total - n - margin))
    where = np.ix_(*pads)
    x = torch.from_numpy(planes(image[where], labels[where], means, stats, card))[None]
    vector = torch.tensor([[told(stats, s) for s in card.stats]], dtype=torch.float32)
    out = []
    with torch.inference_mode():
        for flip in flips:
            for quarter in quarters:
                turned = torch.rot90(x, quarter, (2, 3))
                turned = torch.flip(turned, (3,)) if flip else turned
                y = net(turned, vector) if card.stats else net(turned)
                y = torch.flip(y, (3,)) if flip else y
                y = torch.rot90(y, -quarter, (2, 3))[0, 0].numpy()
                at = margin - card.margin
                out.append(y[at : at + labels.shape[0], at : at + labels.shape[1]])
    return np.stack(out)


def reference(fovs, net, card, at_centres, **views):
    """For each FOV (cells, channels): score and its standard deviation over the views."""
    scores, deviations = [], []
    for fov in fovs:
        step = round(card.mpp / fov.mpp)
        labels = at_centres(fov.labels, step)
        for_channels = []
        for k in range(len(fov.channels)):
            normaliser, stats = numbers(fovs, k, card)
            h, w = fov.shape_yx
            image = fov.image[k].reshape(h // step, step, w // step, step).mean((1, 3)) / normaliser
            means = {
                i: fov.image[k][fov.labels == i].mean() / normaliser for i in np.unique(fov.labels)
            }
            stats = {s: v / (1 if s == "counterstain" else normaliser) for s, v in stats.items()}
            per_pixel = pixel_scores(image, labels, means, stats, net, card, **views)
            for_channels.append(
                [per_pixel[:, labels == i].mean(1) for i in np.unique(fov.labels) if i]
            )
        per_view = np.array(for_channels)  # (C, n, views)
        scores.append(per_view.mean(2).T)
        deviations.append(per_view.std(2).T)
    return np.concatenate(scores), np.concatenate(deviations)


def exact_scale(fovs, card):
    """The normaliser without the bins of its histograms, to compare all the rest at 1e-5."""
    found = {c: numbers(fovs, k, card) for k, c in enumerate(fovs[0].channels)}
    return ChannelScale(
        card.percentile,
        "all",
        {c: v for c, (v, _) in found.items()},
        {c: s for c, (_, s) in found.items()},
    )


@pytest.mark.parametrize("kind", ["compact", "plain", "same", "valid"])
@pytest.mark.parametrize("tta", ["full", "none"])
def test_equals_the_reference(kind, tta, model, net, fov, run, at_centres):
    module, card = net(model(kind))
    channels = (
        2 if card.architecture == "compact_unet" or tta == "none" else 1
    )  # the paper's net is compiled for each shape
    fovs = [
        fov((71, 50), 25, channels=channels),
        fov((37, 64), 11, fov_id="f2", seed=1, channels=channels),
    ]
    fovs = [f.with_(channels=("DAPI", "CD3")[:channels]) for f in fovs]
    views = {} if tta == "full" else {"quarters": (0,), "flips": (False,)}
    score, deviation = reference(fovs, module, card, at_centres, **views)
    assert score.std() > 0.01, "the net must do something"
    adata = run(fovs, model(kind), tta=tta, scale=exact_scale(fovs, card))
    np.testing.assert_allclose(adata.X, score, atol=1e-5)
    np.testing.assert_allclose(adata.layers["score_sd"], deviation, atol=1e-5)
    fitted = run(fovs, model(kind), tta=tta)
    np.testing.assert_array_equal(
        fitted.var["normaliser"], adata.var["normaliser"]
    )  # integers: exact
    np.testing.assert_allclose(fitted.X, score, atol=1e-5 if not card.stats else 2e-4)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_equals_the_reference_at_a_higher_resolution(step, model, net, fov, run, at_centres):
    fovs = [fov((24 * step, 32 * step), 10, mpp=1 / step, radius=8 * step)]
    module, card = net(model("compact"))
    score, _ = reference(fovs, module, card, at_centres)
    np.testing.assert_allclose(
        run(fovs, model("compact"), tta="full", scale=exact_scale(fovs, card)).X, score, atol=1e-5
    )


def test_means_areas_and_centroids(model, fov, run):
    f = fov((40, 60), 15, mpp=0.5, ids=np.arange(15) * 1000 + 70_000, dtype=np.float32)
    adata = run(f, model("plain"))
    ids = np.unique(f.labels)[1:]
    np.testing.assert_array_equal(adata.obs["cell_id"], ids)
    for row, i in enumerate(ids):
        ys, xs = np.nonzero(f.labels == i)
        np.testing.assert_allclose(
            adata.layers["intensity_mean"][row], f.image[:, ys, xs].mean(1), rtol=1e-5
        )
        np.testing.assert_allclose(adata.obs["area_um2"].iloc[row], len(ys) * 0.25)
        np.testing.assert_allclose(
            adata.obsm["spatial"][row], [(xs.mean() + 0.5) * 0.5, (ys.mean() + 0.5) * 0.5]
        )


def test_a_far_normaliser_changes_nothing_else(model, net, fov, run):
    """Scores depend on intensity / normaliser only."""
    f = fov()
    brighter = Fov("f1", f.image.astype(np.uint32) * 50, f.channels, f.labels, 1.0)
    np.testing.assert_allclose(
        run(brighter, model("compact")).X, run(f, model("compact")).X, atol=1e-4
    )
