"""Finding, writing and reading models; damaged and hostile files."""

import pickle
import subprocess
import sys
import zipfile

import pytest
from servers import serve_hub

from panimbus.core.errors import InputError, MissingExtraError, ReadError
from panimbus.model import weights
from panimbus.model.headers import (
    read_onnx_metadata,
    read_safetensors_metadata,
    write_onnx_metadata,
)
from panimbus.model.weights import (
    convert_pt,
    load_torch,
    read_card,
    resolve_model,
    save_model,
    with_onnx,
)

BLOCK = {
    "conv2d_0": ("weight", "bias"),
    "conv2d_1": ("weight", "bias"),
    "bn_1": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "conv2d_2": ("weight", "bias"),
    "bn_2": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
}
BLOCKS = [
    *(f"contracting_layers.{i}" for i in (0, 2, 4, 6)),
    "bottle_neck",
    *(f"expanding_layers.{i}" for i in (2, 5, 8, 11)),
]
PUBLISHED_KEYS = {
    *(
        f"{block}.{layer}.{name}"
        for block in BLOCKS
        for layer, names in BLOCK.items()
        for name in names
    ),
    *(f"expanding_layers.{i}.upconv.{name}" for i in (0, 3, 6, 9) for name in ("weight", "bias")),
    "final_conv.weight",
    "final_conv.bias",
}


@pytest.fixture
def saved(tmp_path, make_card, make_net):
    """(files, net) of a small model on disk."""
    card = make_card()
    net = make_net(card)
    return save_model(tmp_path / "tiny", net, card), net


@pytest.fixture
def published(tmp_path, make_card, make_net):
    """(path, net): random weights in the layout of V1.pt, depth 5."""
    torch = pytest.importorskip("torch")
    net = make_net(make_card("paper_unet", settings={"depth": 5, "root": 2}))
    torch.save(net.state_dict(), tmp_path / "V1.pt")
    return tmp_path / "V1.pt", net


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_model_may_be_read_by_others(saved, tmp_path):
    (tmp_path / "plain").touch()
    assert {file.stat().st_mode for file in tmp_path.glob("*.*")} == {
        (tmp_path / "plain").stat().st_mode
    }


def test_round_trip(saved):
    torch = pytest.importorskip("torch")
    files, net = saved
    again, card = load_torch(files.safetensors)
    assert card == files.card == read_card(files.onnx) == read_card(files.safetensors)
    assert not again.training
    assert all(
        torch.equal(value, net.state_dict()[key]) for key, value in again.state_dict().items()
    )
    assert len(files.sha256) == 64
    assert sorted(path.name for path in files.onnx.parent.iterdir()) == [
        "tiny.onnx",
        "tiny.safetensors",
    ]


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_resolve_by_path_finds_both_files(saved, suffix):
    found = resolve_model(saved[0].onnx.with_suffix(suffix))
    assert (found.onnx, found.safetensors, found.card) == (
        saved[0].onnx,
        saved[0].safetensors,
        saved[0].card,
    )


def test_a_neighbour_with_another_card_is_not_taken(saved, make_card, make_net, tmp_path):
    other = make_card(name="other")
    files = save_model(tmp_path / "x" / "other", make_net(other), other)
    saved[0].onnx.unlink()
    files.onnx.rename(saved[0].onnx)
    assert resolve_model(saved[0].safetensors).onnx is None
    assert resolve_model(saved[0].onnx).safetensors is None


def test_onnx_is_made_when_only_safetensors_are_there(saved, tmp_path):
    saved[0].onnx.unlink()
    files = with_onnx(resolve_model(saved[0].safetensors), tmp_path / "cache")
    assert files.onnx is not None
    assert files.onnx.parent == tmp_path / "cache"
    assert with_onnx(files, tmp_path) is files


def test_shipped_models_by_name(saved, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    monkeypatch.setattr(weights, "DEFAULT_MODEL", "tiny")
    assert (
        resolve_model().onnx
        == resolve_model("default").onnx
        == resolve_model("tiny").onnx
        == saved[0].onnx
    )
    with pytest.raises(InputError, match=r"(?s)Unknown model 'tinny'.*available: tiny, nimbus"):
        resolve_model("tinny")
    with pytest.raises(ReadError, match="no such model file"):
        resolve_model("gone.onnx")


@pytest.mark.parametrize(
    ("name", "place"), [("compact-2", "panimbus==0.4.0"), ("compact-5", "history")]
)
def test_models_that_no_longer_ship_say_where_they_are(name, place):
    with pytest.raises(InputError, match=f"(?s){name}' no longer comes with panimbus.*{place}"):
        resolve_model(name)


def test_published_layout_has_exactly_these_keys(published):
    assert set(published[1].state_dict()) == PUBLISHED_KEYS


def test_published_weights_load_and_convert(published, tmp_path):
    torch = pytest.importorskip("torch")
    path, net = published
    planes = torch.rand(1, 2, 32, 48)
    again, card = load_torch(path)
    assert (card.planes, card.mpp, card.percentile, card.percentile_over) == (
        ("image", "interior"),
        1.0,
        99.9,
        "nonzero",
    )
    assert card.settings.model_dump() == {"depth": 5, "root": 2}
    with torch.inference_mode():
        assert torch.equal(again(planes), net(planes))
    files = convert_pt(path, tmp_path / "converted" / "nimbus")
    assert read_card(files.onnx) == card
    assert load_torch(files.safetensors)[1] == card
    assert with_onnx(resolve_model(path), tmp_path / "cache").card == card


def test_missing_unexpected_and_misshapen_keys_are_listed(published, tmp_path):
    torch = pytest.importorskip("torch")
    state = dict(published[1].state_dict())
    state["surplus"] = state.pop("final_conv.bias")
    state["bottle_neck.bn_1.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(ReadError) as error:
        load_torch(tmp_path / "broken.pt")
    assert "missing: final_conv.bias" in str(error.value)
    assert "unexpected: surplus" in str(error.value)
    assert "bottle_neck.bn_1.bias (3,) not (32,)" in str(error.value)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ReadError, match=r"(?s)not the published layout.*available: a"):
        load_torch(tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ReadError, match="not a state dict"):
        load_torch(tmp_path / "list.pt")


class Hostile:
    """Pickles to a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_pickled_code_is_refused_and_never_run(tmp_path, form):
    torch = pytest.importorskip("torch")
    bad, victim = tmp_path / "bad.pt", tmp_path / "victim"
    if form == "torch":
        torch.save({"w": Hostile(victim)}, bad)
    else:
        bad.write_bytes(pickle.dumps(Hostile(victim), protocol=2))
    with pytest.raises(ReadError, match=r"refused|not a torch file"):
        load_torch(bad)
    assert not victim.exists()


def test_files_that_are_no_models(tmp_path, saved):
    pytest.importorskip("torch")
    for name, content in {
        "a.pt": b"hello",
        "b.pt": b"",
        "a.onnx": b"hello",
        "b.onnx": b"",
        "a.safetensors": b"hello",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReadError, match=name):
            load_torch(tmp_path / name) if name.endswith(".pt") else resolve_model(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(ReadError, match="not a torch file"):
        load_torch(tmp_path / "zip.pt")
    with pytest.raises(ReadError, match=r"no such file"):
        load_torch(tmp_path / "gone.pt")
    with pytest.raises(ReadError, match=r"not a model file"):
        read_card(tmp_path / "a.txt")


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_a_file_cut_short_is_noticed(saved, suffix):
    path = saved[0].onnx.with_suffix(suffix)
    content = path.read_bytes()
    for kept in (4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(ReadError):
            resolve_model(path)


def test_a_file_without_a_card_says_so(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    with pytest.raises(ReadError, match=r"(?s)holds no panimbus model card.*available: format"):
        read_card(tmp_path / "x.safetensors")
    assert read_safetensors_metadata(tmp_path / "x.safetensors") == {"format": "pt"}


def test_metadata_is_what_onnx_and_openvino_see(saved):
    onnx = pytest.importorskip("onnx")
    ov = pytest.importorskip("openvino")
    path = saved[0].onnx
    write_onnx_metadata(path, {"note": "é" * 200})
    ours = read_onnx_metadata(path)
    assert ours["note"] == "é" * 200
    assert {entry.key: entry.value for entry in onnx.load(path).metadata_props} == ours
    assert (
        ov.Core().read_model(path).get_rt_info(["framework", "panimbus_card"]).value
        == ours["panimbus_card"]
    )


def test_published_weights_are_fetched_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serve_hub({("models", "JLrumberger/Nimbus-Inference"): {"V1.pt": bytes(1000)}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        path = resolve_model("nimbus").pt
        assert path.read_bytes() == bytes(1000)
    assert resolve_model("JLrumberger/Nimbus-Inference").pt == path  # the server is gone
    path.write_bytes(b"changed")
    with pytest.raises(
        ReadError, match=r"(?s)could not be downloaded.*cannot be reached.*--model path/to/V1\.pt"
    ):
        resolve_model("nimbus")


def test_cards_are_read_without_torch_or_onnx(saved):
    code = (
        "import sys; from panimbus.model import resolve_model\n"
        f"card = resolve_model({str(saved[0].onnx)!r}).card\n"
        "loaded = {'torch', 'onnx', 'openvino', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(str(loaded) if loaded or card.name != 'tiny' else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: RUF100, S603
    assert done.returncode == 0, done.stderr


def test_torch_is_an_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"panimbus\[train\]"):
        load_torch(tmp_path / "x.safetensors")


def test_an_onnx_beside_other_weights_of_the_same_card_is_refused(
    saved, make_card, make_net, tmp_path
):
    """The net that runs would be another than the one that provenance names."""
    other = save_model(tmp_path / "x" / "tiny", make_net(make_card(), seed=1), make_card())
    other.onnx.replace(saved[0].onnx)
    for path in (saved[0].onnx, saved[0].safetensors):
        with pytest.raises(
            ReadError,
            match=(
                r"(?s)tiny.onnx lies beside tiny.safetensors, but was not made from"
                r" it.*expected.*got"
            ),
        ):
            resolve_model(path)


def test_an_onnx_that_does_not_say_what_it_was_made_from_is_used_alone(saved, make_net, tmp_path):
    from panimbus.model.weights import export_onnx

    export_onnx(saved[1], saved[0].card, saved[0].onnx)
    assert resolve_model(saved[0].safetensors).onnx is None
    assert resolve_model(saved[0].onnx).safetensors is None
    assert (
        with_onnx(resolve_model(saved[0].safetensors), tmp_path / "kept").onnx.parent
        == tmp_path / "kept"
    )


def test_a_changed_net_is_noticed(saved):
    """One bit of the weights: the file is whole, the net is another one."""
    path = saved[0].onnx
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ReadError, match="not the one that was written"):
        resolve_model(path)


def test_a_kept_onnx_that_was_cut_off_is_made_again(saved, tmp_path):
    saved[0].onnx.unlink()
    files = with_onnx(resolve_model(saved[0].safetensors), tmp_path / "kept")
    whole = files.onnx.read_bytes()
    files.onnx.write_bytes(whole[:-100])
    assert len(
        with_onnx(resolve_model(saved[0].safetensors), tmp_path / "kept").onnx.read_bytes()
    ) == len(whole)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(make_card, make_net, tmp_path, value):
    torch = pytest.importorskip("torch")
    net = make_net(make_card())
    with torch.no_grad():
        next(net.parameters()).view(-1)[3] = value
    files = save_model(tmp_path / "sick", net, make_card())
    with pytest.raises(ReadError, match=r"1 of \d+ tensors hold NaN or infinite"):
        load_torch(files.safetensors)


def test_a_card_that_asks_for_more_than_the_file_has_takes_no_memory(tmp_path, make_card, make_net):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    card = make_card(settings={"widths": [4096] * 6})
    path = tmp_path / "huge.safetensors"
    path.write_bytes(save({"w": torch.zeros(2)}, metadata={"panimbus_card": card.to_json()}))
    with pytest.raises(ReadError, match=r"(?s)do not fit the net.*missing"):
        load_torch(path)


def _safetensors(path, header, data=b""):
    import json

    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, "x"]}},
            "header of tensor 'a' is damaged",
        ),
        (
            {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 8]}},
            "header of tensor 'a' is damaged",
        ),
        ({"a": 5}, "header of tensor 'a' is damaged"),
        (
            {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]} for n in "ab"},
            "does not lie where",
        ),
        ({"__metadata__": [1]}, "names and texts"),
        ({"__metadata__": {"panimbus_card": 5}}, "names and texts"),
        ([1], "header of type list"),
        (b'{"a": {}, "a": {}}', "there twice"),
        (b'{"a":' * 1000, "not JSON"),
    ],
)
def test_hostile_headers_of_safetensors(tmp_path, header, message):
    with pytest.raises(ReadError, match=message):
        read_card(_safetensors(tmp_path / "x.safetensors", header, bytes(8)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x08\x01" * 20_000, "more than 10,000 fields"),  # a bomb of fields
        (
            b"\x72" + b"\xff\xff\xff\x7f" + bytes(100),
            "says 268435455 bytes, 100 are left",
        ),  # longer than the file
        (b"\x72\x04\x0a\x02\xff\xfe\x3a\x00", "UnicodeDecodeError"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "does not end"),
    ],
)
def test_hostile_protobuf(tmp_path, content, message):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ReadError, match=message):
        read_card(tmp_path / "x.onnx")


def test_compressed_tensors_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(ReadError, match="tensors are compressed"):
        load_torch(tmp_path / "bomb.pt")


def test_a_state_dict_of_absurd_size(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(
        {"contracting_layers.0.conv2d_0.weight": torch.zeros(1).expand(10**9, 2, 1, 1)},
        tmp_path / "huge.pt",
    )
    with pytest.raises(ReadError, match="root: Input should be less than or equal to 512"):
        load_torch(tmp_path / "huge.pt")


def test_equal_models_are_equal_files(tmp_path):
    pytest.importorskip("torch")
    net, card = load_torch(resolve_model().weights)
    one, two = (save_model(tmp_path / name / "m", net, card) for name in ("a", "b"))
    assert one.safetensors.read_bytes() == two.safetensors.read_bytes()
    assert one.onnx.read_bytes() == two.onnx.read_bytes()
    assert read_card(one.safetensors) == card
