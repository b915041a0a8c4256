"""Models, normalisers, configuration files, kept state, downloads."""

import json
import os
import shutil

import numpy as np
from attacks import CHANNELS, attack

QUANTILES = {f"q{q:02d}": float(q) for q in range(1, 100)}


def _normaliser(folder, **changes):
    """A normaliser.json of the good image, with one channel changed."""
    channels = {
        name: {"normaliser": 300.0, "stats": {**QUANTILES, "outside": 1.0}} for name in CHANNELS
    }
    channels["CD20"] = {**channels["CD20"], **changes}
    data = {"percentile": 99.9, "over": "all", "fov_ids": ["fov1"], "channels": channels}
    (folder / "normaliser.json").write_text(json.dumps(data))
    return folder.predict("--normaliser", folder / "normaliser.json")


@attack("CD20: normaliser is nan")
def normaliser_of_nan(folder):
    return _normaliser(folder, normaliser=float("nan"))


@attack("CD20: normaliser is -300.0", "--normaliser")
def negative_normaliser(folder):
    return _normaliser(folder, normaliser=-300.0)


@attack("CD20: normaliser is 1e-38, too small")
def normaliser_below_float32(folder):
    return _normaliser(folder, normaliser=1e-38)


@attack("CD20: normaliser is '300'")
def normaliser_as_text(folder):
    return _normaliser(folder, normaliser="300")


@attack("CD20: stats.q50 is inf")
def infinite_statistic(folder):
    return _normaliser(folder, stats={**QUANTILES, "q50": float("inf")})


@attack("CD20: stats is [1], not a table")
def statistics_as_list(folder):
    return _normaliser(folder, stats=[1])


@attack("knows no channel 'CD20'", "CD3, DAPI")
def normaliser_without_a_channel(folder):
    arguments = _normaliser(folder)
    data = json.loads((folder / "normaliser.json").read_text())
    del data["channels"]["CD20"]
    (folder / "normaliser.json").write_text(json.dumps(data))
    return arguments


@attack("not JSON", "RecursionError")
def nested_normaliser(folder):
    (folder / "normaliser.json").write_text("[" * 100_000)
    return folder.predict("--normaliser", folder / "normaliser.json")


@attack("'channels' is there twice")
def normaliser_with_a_key_twice(folder):
    (folder / "normaliser.json").write_text('{"channels": {}, "channels": {}}')
    return folder.predict("--normaliser", folder / "normaliser.json")


@attack("pipe or a device")
def normaliser_that_never_ends(folder):
    os.mkfifo(folder / "normaliser.json")
    return folder.predict("--normaliser", folder / "normaliser.json")


def _shipped(folder, suffix):
    from panimbus.model.weights import resolve_model

    source = resolve_model().onnx.with_suffix(suffix)
    return shutil.copy(source, folder / f"model{suffix}")


def _with_card(folder, **changes):
    """The shipped model, with another card."""
    from panimbus.model.headers import CARD_KEY, read_onnx_metadata, write_onnx_metadata

    path = _shipped(folder, ".onnx")
    card = json.loads(read_onnx_metadata(path)[CARD_KEY])
    write_onnx_metadata(path, {CARD_KEY: json.dumps({**card, **changes})})
    return folder.predict("--model", path)


@attack("the model card is not valid", "mpp")
def card_with_absurd_pixels(folder):
    return _with_card(folder, mpp=1e-30)


@attack("the model card is not valid", "percentile")
def card_with_absurd_percentile(folder):
    return _with_card(folder, percentile=300)


@attack("the model card is not valid", "settings")
def card_of_a_huge_net(folder):
    return _with_card(folder, settings={"widths": [10**9] * 3})


@attack("the net is not the one that its card describes")
def card_of_another_net(folder):
    return _with_card(folder, planes=["image", "interior"])


@attack("lies beside model.safetensors, but was not made from it")
def onnx_beside_other_weights(folder):
    path = _shipped(folder, ".safetensors")
    content = bytearray(path.read_bytes())
    content[-100] ^= 64
    path.write_bytes(content)
    return folder.predict("--model", _shipped(folder, ".onnx"))


@attack("not the one that was written, or it is damaged")
def onnx_with_a_flipped_bit(folder):
    path = _shipped(folder, ".onnx")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return folder.predict("--model", path)


@attack("not a safetensors file")
def safetensors_with_a_huge_header(folder):
    (folder / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    return folder.predict("--model", folder / "model.safetensors")


@attack("more than 10,000 fields")
def protobuf_bomb(folder):
    (folder / "model.onnx").write_bytes(b"\x08\x01" * 500_000)
    return folder.predict("--model", folder / "model.onnx")


@attack("refused, because its tensors are compressed")
def packed_pickle(folder):
    import zipfile

    with zipfile.ZipFile(folder / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(1 << 20))
    return folder.predict("--model", folder / "model.pt")


def _evaluate(folder, text):
    (folder / "plan.toml").write_text(text)
    return ["evaluate", folder / "plan.toml", "--out", folder / "report"]


@attack("plan.toml: the file cannot be used", "did you mean images?", "mpp", "draws", "labels")
def evaluation_with_many_mistakes(folder):
    return _evaluate(
        folder,
        'draws = 1\n[[dataset]]\nname = "a"\nimage = "x"\nimages = []\nlabels = 5\nmpp = nan\n',
    )


@attack("not TOML")
def nested_evaluation(folder):
    return _evaluate(folder, "a = " + "[" * 100_000)


@attack("dataset 'a' is there twice")
def evaluation_with_a_dataset_twice(folder):
    return _evaluate(folder, 'calls = "c.csv"\n' + '[[dataset]]\nname = "a"\nimages = "x"\n' * 2)


def _train(folder, text, *more):
    (folder / "run.toml").write_text(text)
    return [
        "train",
        folder / "run.toml",
        "--store",
        folder / "store",
        "--out",
        folder / "out",
        *more,
    ]


@attack("did you mean optimiser?", "data.crop", "seed")
def training_with_many_mistakes(folder):
    return _train(folder, 'seed = -1\n[optimizer]\nrate = 1\n[data]\ncrop = "big"\n')


@attack("Unknown preset '5'", "small")
def training_that_extends_a_number(folder):
    return _train(folder, "extends = 5\n")


@attack("machine.workers")
def absurd_number_of_workers(folder):
    return _train(folder, "", "--workers", 10**30)


@attack("seed")
def absurd_seed(folder):
    return _train(folder, "", "--seed", 10**30)


@attack("arm.0.settings")
def sweep_of_other_types(folder):
    (folder / "sweep.toml").write_text('[[arm]]\nname = "a"\nsettings = 5\n')
    return ["ablate", folder / "sweep.toml", "--store", folder / "store", "--out", folder / "out"]


def _store(folder, **changes):
    info = {
        "version": 2,
        "mpp": 1.0,
        "tile": 64,
        "percentile": 99.9,
        "percentile_over": "all",
        "datasets": [],
    }
    (folder / "store").mkdir()
    (folder / "store" / "store.json").write_text(
        json.dumps({"info": {**info, **changes}, "scales": {}, "rows": 0})
    )
    (folder / "store" / "examples.csv").write_text("dataset\n")
    return _train(folder, "")


@attack("tile", "build it again")
def store_of_absurd_tiles(folder):
    return _store(folder, tile=10**9)


@attack("another version")
def store_of_a_version_of_another_type(folder):
    return _store(folder, version=[2])


@attack("store's tables cannot be read", "build it again")
def store_that_is_a_list(folder):
    arguments = _store(folder)
    (folder / "store" / "store.json").write_text("[1, 2]")
    return arguments


def _build(folder, text, *more):
    (folder / "data.toml").write_text(text)
    return ["build", folder / "data.toml", "--out", folder / "store", *more]


@attack("did you mean labels?", "mpp", "images")
def dataset_with_many_mistakes(folder):
    return _build(folder, 'name = "a"\nimages = []\nlabel = "x"\nmpp = inf\n[silver]\n')


@attack("--mpp", "nan")
def build_at_nan(folder):
    return _build(
        folder, 'name = "a"\nimages = "x"\nlabels = "y"\n[silver.gates]\n', "--mpp", "nan"
    )


@attack("The settings of the store cannot be used", "tile")
def build_of_absurd_tiles(folder):
    return _build(
        folder, 'name = "a"\nimages = "x"\nlabels = "y"\n[silver.gates]\n', "--tile", 10**30
    )


@attack("--min-auc")
def build_by_nan(folder):
    return _build(
        folder, 'name = "a"\nimages = "x"\nlabels = "y"\n[silver.gates]\n', "--min-auc", "nan"
    )


@attack("--errors")
def simulation_with_nan(folder):
    return ["simulate", "--out", folder / "out", "--errors", "nan"]


@attack("--side")
def simulation_of_absurd_size(folder):
    return ["simulate", "--out", folder / "out", "--side", 10**9]


@attack("--seed")
def simulation_with_a_negative_seed(folder):
    return ["simulate", "--out", folder / "out", "--seed", -1]


@attack("pan-m-gold", "nimbus-weights")
def fetch_of_nothing(folder):
    return ["fetch", "", "--out", folder / "out"]


@attack("no such dataset", "codex_colon")
def fetch_of_an_empty_list(folder):
    return ["fetch", "pan-m", "--datasets", ",", "--out", folder / "out"]


@attack("no folder that panimbus evaluate wrote")
def comparison_of_other_files(folder):
    (folder / "a").mkdir()
    (folder / "a" / "scored.csv").write_text("x\n1\n")
    (folder / "a" / "evaluation.json").write_text("[1]")
    return ["compare", folder / "a", f"b={folder / 'a'}"]


@attack("cannot be used", "NAME=DIR")
def comparison_of_nothing(folder):
    return ["compare", ""]


def _shards(folder, name, change):
    """A folder of shares whose file was changed."""
    request = {
        "images": [str(folder.image())],
        "labels": [str(folder.labels())],
        "model_sha256": "0" * 64,
    }
    from panimbus import __version__

    about = {
        "request.json": {
            "format": 1,
            "request": {**request, "version": __version__},
            "shards": 2,
            "command": ["x"],
            "folder": "/",
        }
    }
    about["backend.json"] = {"format": 1, "backend": "openvino-cpu-float32"}
    (folder / "out").mkdir()
    for key, data in about.items():
        (folder / "out" / key).write_text(json.dumps(change(data) if key == name else data))
    return ["merge", folder / "out"]


@attack("shards", "start the shards again")
def request_of_no_shares(folder):
    return _shards(folder, "request.json", lambda data: {**data, "shards": 0})


@attack("request.json: not what the shards wrote", "tile", "there is no such setting")
def request_of_other_types(folder):
    wrong = {"tile": "large", "colour": 1}
    return _shards(
        folder, "request.json", lambda data: {**data, "request": {**data["request"], **wrong}}
    )


@attack("backend.json: not what the shards wrote")
def backend_of_another_type(folder):
    return _shards(folder, "backend.json", lambda _: {"format": 1, "backend": {"a": 1}})


@attack("backend.json: not what the shards wrote")
def backend_that_is_a_list(folder):
    return _shards(folder, "backend.json", lambda _: [1])


@attack("steps")
def finetune_of_absurd_length(folder):
    return [
        "finetune",
        folder.image(),
        "--annotations",
        folder / "c.csv",
        "--out",
        folder / "out",
        "--steps",
        10**30,
    ]


@attack("NaN or infinite weights")
def onnx_with_nan(folder):
    import onnx

    net = onnx.load(_shipped(folder, ".onnx"))
    weights = next(w for w in net.graph.initializer if len(w.dims) == 4)
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[0] = np.nan
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    kept = [entry for entry in net.metadata_props if entry.key == "panimbus_card"]
    del net.metadata_props[:]
    net.metadata_props.extend(kept)
    onnx.save(net, folder / "model.onnx")
    return folder.predict("--model", folder / "model.onnx")
