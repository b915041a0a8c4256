"""Pan-M: fetched from a loopback hub, resumed, checked, unpacked, and read as it was published."""

import io
import json
import stat
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from servers import COMMIT, serve_hub

from panimbus.annotations import panm
from panimbus.annotations.panm import (
    SETS,
    open_gold_standard,
    plan_fetch,
    read_gold_standard,
    run_fetch,
    write_evaluation,
)
from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.io.archive import unpack
from panimbus.io.hub import Repository, cached_file, download, endpoint, list_files
from panimbus.io.panm import DATASETS, TRUTH, find_root, present_datasets
from panimbus.simulate import simulate_tissue

# where the FOV's folder is called otherwise than its mask and its rows
ODD = {
    "vectra_colon": ("fov1.tif_image", "fov1feature_0.ome.tif"),
    "mibi_breast": ("fov1", "fov1_whole_cell.tiff"),
}


def fetch_panm(name, out, datasets=None):
    return run_fetch(plan_fetch(name, out, datasets))


def _tiff(plane):
    out = io.BytesIO()
    tifffile.imwrite(
        out,
        plane,
        ome=True,
        metadata={
            "axes": "YX",
            "PhysicalSizeX": 0.5,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 0.5,
            "PhysicalSizeYUnit": "µm",
        },
    )
    return out.getvalue()


@pytest.fixture(scope="module")
def layout():
    """Path -> bytes of the public layout, made of simulated tissue."""
    files, rows = {}, ["dataset,fov,cell_id,channel,activity"]
    for k, name in enumerate(DATASETS):
        tissue = simulate_tissue((64, 64), 0.5, panel=2, seed=k, platform="codex")
        folder, mask = ODD.get(name, ("fov1", "fov1.ome.tif"))
        for channel, plane in zip(("CD3", "CD20"), tissue.image, strict=True):
            files[f"{name}/fovs/{folder}/{channel}.ome.tif"] = _tiff(plane)
        files[f"{name}/masks/{mask}"] = _tiff(tissue.labels.astype(np.uint16))
        for i, truth in enumerate(tissue.truth):
            rows += [
                f"{name},fov1,{i + 1},{c},{2 if t < 0 else t}"
                for c, t in zip(("CD3", "CD20"), truth, strict=True)
            ]
    files[TRUTH] = ("\n".join(rows) + "\n").encode()
    return files


def _zip(files, wrapper):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(f"{wrapper}{path}", data)
    return out.getvalue()


@pytest.fixture
def hub(layout, monkeypatch):
    gold = _zip(layout, "gold_standard_labelled/")
    large = _zip({k: v for k, v in layout.items() if k.startswith("codex_colon")}, "")
    other = _zip({k: v for k, v in layout.items() if k.startswith("mibi_decidua")}, "")
    files = {
        ("datasets", SETS["pan-m-gold"].name): {
            "README.md": b"gold",
            ".gitattributes": b"",
            "gold_standard_labelled.zip": gold,
        },
        ("datasets", SETS["pan-m"].name): {
            "codex_colon.zip.001": large[:1000],
            "codex_colon.zip.002": large[1000:],
            "mibi_decidua.zip": other,
        },
        ("models", SETS["nimbus-weights"].name): {
            "V1.pt": bytes(range(256)) * 9,
            "README.md": b"weights",
            "other.bin": b"x",
        },
    }
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serve_hub(files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def tree(layout, tmp_path):
    for path, data in layout.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    return tmp_path


def test_gold_is_fetched_unpacked_and_read(hub, tmp_path, layout):
    root = fetch_panm("pan-m-gold", tmp_path / "g")
    assert root == tmp_path / "g" / "gold_standard_labelled"
    for path, data in layout.items():
        assert (root / path).read_bytes() == data
    opened = open_gold_standard(root)
    assert list(opened) == list(DATASETS)
    for name, (fov,) in opened.items():
        assert fov.fov_id == "fov1"
        assert fov.mpp == 0.5
        assert set(fov.channels) == {"CD3", "CD20"}
        plane = tifffile.imread(
            io.BytesIO(layout[next(p for p in layout if p.startswith(name) and "CD3" in p)])
        )
        np.testing.assert_array_equal(fov.image[fov.index("CD3"), 0:64, 0:64], plane)
        assert np.asarray(fov.labels[0:64, 0:64]).max() > 0
    assert set(read_gold_standard(root / TRUTH)["call"]) == {
        "positive",
        "negative",
        "undetermined",
    }
    assert write_evaluation(root, skip_bad_rows=True)[1] == ()
    assert (
        (root / panm.CALLS_CSV).read_text().startswith("dataset,fov,cell_id,channel,call,annotator")
    )


def test_evaluates(tree, tmp_path):
    """What is written beside the gold standard is what `panimbus evaluate` reads."""
    import pandas as pd

    from panimbus.evaluate.config import read_evaluation_file
    from panimbus.io import attach_labels, open_fovs

    config = read_evaluation_file(write_evaluation(tree)[0])
    assert {d.mpp for d in config.dataset} == {0.5}
    calls = pd.read_csv(tree / "calls.csv")
    assert [d.name for d in config.dataset] == list(DATASETS)
    for one in config.dataset:
        fovs = open_fovs(one.images)
        fovs = attach_labels(
            [f.with_(fov_id=one.rename.get(f.fov_id, f.fov_id)) for f in fovs], one.labels
        )
        assert set(calls.fov[calls.dataset == one.name]) == {
            f.fov_id for f in fovs if f.labels is not None
        }


def test_second_run_downloads_nothing(hub, tmp_path):
    fetch_panm("pan-m-gold", tmp_path)
    first = len(hub.asked)
    fetch_panm("pan-m-gold", tmp_path)
    assert len(hub.asked) == first
    state = tmp_path / ".fetch" / "fetched.json"
    state.unlink()  # a file from elsewhere is recognised by its hash
    fetch_panm("pan-m-gold", tmp_path)
    assert len(hub.asked) == first


def test_parts_of_an_archive(hub, tmp_path, layout):
    root = fetch_panm("pan-m", tmp_path, datasets=["codex_colon"])
    assert present_datasets(root, ["fovs"]) == ["codex_colon"]
    assert not (tmp_path / "mibi_decidua.zip").exists()
    fetch_panm("pan-m", tmp_path)
    assert present_datasets(root, ["fovs"]) == ["codex_colon", "mibi_decidua"]
    with pytest.raises(InputError, match="no such dataset"):
        fetch_panm("pan-m", tmp_path, datasets=["codex_lung"])
    with pytest.raises(ReadError, match="does not hold these datasets") as caught:
        fetch_panm("pan-m", tmp_path, datasets=["codex_colon", "mibi_breast"])
    assert "got:       mibi_breast" in str(caught.value)
    assert "available: codex_colon, mibi_decidua" in str(caught.value)
    with pytest.raises(InputError, match="goes with pan-m"):
        fetch_panm("pan-m-gold", tmp_path, datasets=["codex_colon"])


def test_weights(hub, tmp_path):
    """Those of the highest number, and no others."""
    assert fetch_panm("nimbus-weights", tmp_path).read_bytes() == bytes(range(256)) * 9
    assert not (tmp_path / "other.bin").exists()
    files = hub.files["models", SETS["nimbus-weights"].name]
    files |= {"V10.pt": b"ten" * 300, "V9.pt": b"nine", "old/V11.pt": b"x", "V12.pt.md": b"x"}
    assert fetch_panm("nimbus-weights", tmp_path).name == "V10.pt"
    assert not (tmp_path / "V9.pt").exists()
    for name in list(files):
        if name.startswith("V"):
            del files[name]
    with pytest.raises(ReadError, match="does not hold the files"):
        fetch_panm("nimbus-weights", tmp_path)


def test_size_and_room_come_before_the_download(hub, tmp_path, monkeypatch):
    """Nothing is written, and the message has the numbers."""
    plan = plan_fetch("pan-m", tmp_path / "p")
    total = sum(f.size for f in plan.files)
    assert (plan.missing, plan.unpacked) == (total, total)
    assert len(plan.files) == 3
    assert plan.absent == ("mibi_breast", "vectra_colon", "vectra_pancreas")
    assert "3 files" in plan.lines()[0]
    assert "to download, at least" in plan.lines()[0]
    assert "mibi_breast" in plan.lines()[-1]
    monkeypatch.setattr(panm, "free_bytes", lambda _: 2 * total - 1)
    with pytest.raises(ReadError, match="no room for pan-m") as caught:
        plan_fetch("pan-m", tmp_path / "p")
    assert f"{2 * total:,} bytes" in str(caught.value)
    assert "available: codex_colon " in str(caught.value)
    assert hub.asked == []
    assert not (tmp_path / "p").exists()
    assert plan_fetch("pan-m", tmp_path / "p", ["mibi_decidua"]).missing < total
    monkeypatch.setattr(panm, "free_bytes", lambda _: 2 * total)
    fetch_panm("pan-m", tmp_path / "p")
    again = plan_fetch("pan-m", tmp_path / "p")
    assert (again.missing, again.unpacked) == (0, 0)


def test_breaks_are_resumed_in_the_file(hub, tmp_path):
    """The connection breaks after every 700 bytes: it goes on there, and no byte is asked for
    twice."""
    hub.break_after, total = 700, len(bytes(range(256)) * 9)
    assert fetch_panm("nimbus-weights", tmp_path).stat().st_size == total
    assert [r for _, r in hub.asked] == [None, "bytes=700-", "bytes=1400-", "bytes=2100-"]


def test_interrupted_and_continued(hub, tmp_path):
    """A killed run leaves the half file; the next run asks for the rest alone."""
    hub.break_after = 900
    repository = SETS["nimbus-weights"]
    commit, files = list_files(repository)
    weights = [f for f in files if f.path == "V1.pt"]

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(repository, commit, weights, tmp_path, progress=stop)
    assert not (tmp_path / "V1.pt").exists()
    (part,) = (tmp_path / ".fetch" / "parts").iterdir()
    assert part.stat().st_size == 900
    hub.break_after = None
    hub.asked.clear()
    download(repository, commit, weights, tmp_path)
    assert [r for _, r in hub.asked] == ["bytes=900-"]
    assert (tmp_path / "V1.pt").read_bytes() == bytes(range(256)) * 9


def test_server_without_ranges(hub, tmp_path):
    hub.break_after, hub.breaks, hub.ignore_range = 900, 2, True
    assert fetch_panm("nimbus-weights", tmp_path).read_bytes() == bytes(range(256)) * 9


def test_wrong_checksum(hub, tmp_path):
    hub.corrupt = True
    with pytest.raises(ReadError, match="wrong checksum"):
        fetch_panm("nimbus-weights", tmp_path)
    assert not (tmp_path / "V1.pt").exists()
    assert not list((tmp_path / ".fetch" / "parts").iterdir())
    hub.corrupt = False
    assert fetch_panm("nimbus-weights", tmp_path).exists()


def test_never_ending_breaks(hub, tmp_path):
    hub.break_after = 0
    with pytest.raises(ReadError, match=r"breaks off|cannot be reached"):
        fetch_panm("nimbus-weights", tmp_path)


def test_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(ReadError, match="cannot be reached") as caught:
        fetch_panm("pan-m-gold", tmp_path)
    assert "HF_ENDPOINT" in str(caught.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ReadError, match="HF_HUB_OFFLINE is set"):
        fetch_panm("pan-m-gold", tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(InputError, match="not an address"):
        endpoint()


def test_unknown(hub, tmp_path):
    with pytest.raises(InputError, match="no such set"):
        fetch_panm("pan-x", tmp_path)
    with pytest.raises(ReadError, match="404"):
        list_files(Repository("nobody/nothing", "datasets"))


def test_the_server_speaks_the_hubs_protocol(hub, tmp_path):
    """The hub's own client gets the same from the server of these tests."""
    client = pytest.importorskip("huggingface_hub")
    api = client.HfApi(endpoint=hub.url, token=False)
    info = api.repo_info(SETS["pan-m-gold"].name, repo_type="dataset", files_metadata=True)
    commit, files = list_files(SETS["pan-m-gold"])
    assert info.sha == commit == COMMIT
    expected = {s.rfilename: (s.size, s.lfs.sha256 if s.lfs else None) for s in info.siblings}
    assert {f.path: (f.size, f.sha256) for f in files} == expected
    name = "gold_standard_labelled.zip"
    path = client.hf_hub_download(
        SETS["pan-m-gold"].name,
        name,
        repo_type="dataset",
        endpoint=hub.url,
        local_dir=tmp_path / "theirs",
        token=False,
    )
    (downloaded,) = download(
        SETS["pan-m-gold"], commit, [f for f in files if f.path == name], tmp_path / "ours"
    )
    assert Path(path).read_bytes() == downloaded.read_bytes()


def _listing(**changes):
    entry = {"rfilename": "V1.pt", "size": 5, "blobId": "0" * 40}
    return {"sha": COMMIT, "siblings": [{**entry, **changes}]}


TWICE = [_listing()["siblings"][0], _listing(rfilename="v1.PT")["siblings"][0]]


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (
            _listing(blobId="/../../../../stolen"),
            "blobId",
        ),  # was a part of the name of the half file
        (_listing(blobId=None, lfs={"sha256": "../../x", "size": 5}), "sha256"),
        (_listing(size=-1), "size"),
        (_listing(size="much"), "size"),
        (_listing(size=10**30), "size"),
        (_listing(rfilename=5), "rfilename"),
        (_listing(rfilename=".fetch/fetched.json"), "not its to write"),
        (_listing(rfilename="a\0b"), "cannot be written"),
        (_listing(rfilename="x" * 300), "too long"),
        ({"sha": "../../x", "siblings": []}, "sha"),
        ({"sha": COMMIT, "siblings": TWICE}, "overwrite each other"),
        ({"sha": COMMIT, "siblings": {"a": 1}}, "siblings"),
        ([1, 2], "not an answer"),
        ("[" * 100_000, "not JSON"),
        (_listing(blobId=None), "no size or no checksum"),
        (_listing(size=1 << 45, blobId="1" * 40), "no room"),
    ],
)
def test_a_hub_is_not_believed(hub, tmp_path, listing, message):
    """Nothing is written, inside the folder or out of it."""
    hub.listing = listing.encode() if isinstance(listing, str) else json.dumps(listing).encode()
    (tmp_path / "stolen").write_text("mine")
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(ReadError, match=message):
        fetch_panm("nimbus-weights", tmp_path / "a" / "b")
    assert sorted(p for p in tmp_path.rglob("*")) == before
    assert hub.asked == []


def test_more_than_was_said(hub, tmp_path):
    """A server that sends on and on fills no disk."""
    hub.surplus = 50_000_000
    with pytest.raises(ReadError, match="more comes than the hub's list says"):
        fetch_panm("nimbus-weights", tmp_path)
    assert not (tmp_path / "V1.pt").exists()
    assert not list((tmp_path / ".fetch" / "parts").iterdir())


@pytest.mark.parametrize(
    "text", ["[1, 2]", "{", '{"V1.pt": 5}', '{"V1.pt": [1, 2, "x"]}', "[" * 100_000]
)
def test_a_damaged_list_of_what_is_finished(hub, tmp_path, text):
    fetch_panm("nimbus-weights", tmp_path)
    hub.asked.clear()
    (tmp_path / ".fetch" / "fetched.json").write_text(text)
    assert cached_file(tmp_path, "V1.pt") is None
    assert fetch_panm("nimbus-weights", tmp_path).read_bytes() == bytes(range(256)) * 9
    assert hub.asked == []  # the file is known by its hash
    assert cached_file(tmp_path, "V1.pt") == tmp_path / "V1.pt"


def _archive(path, *members, kind=zipfile.ZIP_DEFLATED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", kind) as archive:
        warnings.simplefilter("ignore")  # a name twice
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = kind, mode << 16
            archive.writestr(info, data)
    return path


FILE, LINK, DEVICE = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o644


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../evil.txt", b"x", FILE)], "outside"),
        ([("/tmp/evil.txt", b"x", FILE)], "outside"),  # noqa: S108
        ([("a\\..\\..\\evil.txt", b"x", FILE)], "outside"),
        ([("c:evil.txt", b"x", FILE)], "colon"),
        ([(".fetch/fetched.json", b"{}", FILE)], "not its to write"),
        ([("link", b"/etc/passwd", LINK)], "link or a device"),
        ([("null", b"", DEVICE)], "link or a device"),
        ([("a/b.tif", b"x", FILE), ("A/B.tif", b"y", FILE)], "overwrite each other"),
        ([("a", b"x", FILE), ("a/b", b"y", FILE)], "overwrite each other"),
        ([("a", b"x", FILE), ("a", b"y", FILE)], "overwrite each other"),
        ([(f"{k}.bin", bytes(30 << 20), FILE) for k in range(4)], "far more than it can"),
    ],
)
def test_hostile_archives(tmp_path, members, message):
    """The good member before the bad one is not written either."""
    path = _archive(tmp_path / "a.zip", ("good.txt", b"good", FILE), *members)
    with pytest.raises(ReadError, match=message):
        unpack([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_archives(tmp_path):
    path = _archive(
        tmp_path / "a.zip", ("x.bin", bytes(range(256)) * 40, FILE), kind=zipfile.ZIP_STORED
    )
    whole = path.read_bytes()
    for cut in (
        whole[:100],
        whole[:-10],
        b"not a zip at all",
        b"",
        whole[:500] + b"!" + whole[501:],
    ):
        path.write_bytes(cut)
        with pytest.raises(ReadError, match="damaged"):
            unpack([path], tmp_path / "out")
        assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_a_link_in_the_folder_leads_nothing_out(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data").symlink_to(tmp_path)
    path = _archive(tmp_path / "a.zip", ("data/evil.txt", b"x", FILE))
    with pytest.raises(ReadError, match="outside"):
        unpack([path], tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "c:x"])
def test_evil_paths_on_the_hub(hub, path):
    hub.files["datasets", "a/b"] = {path: b"x"}
    with pytest.raises(ReadError, match="not an answer"):
        list_files(Repository("a/b", "datasets"))


def test_layout_errors(tree):
    with pytest.raises(ReadError, match="not the layout"):
        find_root(tree / "codex_colon" / "masks")
    with pytest.raises(ReadError, match="no such folder"):
        find_root(tree / "nowhere")
    (tree / "codex_colon" / "masks" / "fov1.ome.tif").rename(
        tree / "codex_colon" / "masks" / "fov10.ome.tif"
    )
    with pytest.raises(MatchError, match="no label image"):
        write_evaluation(tree)
    for path in (tree / "codex_colon" / "masks").iterdir():
        path.unlink()
    (tree / "codex_colon" / "masks").rmdir()
    with pytest.raises(ReadError, match="there are no label images"):
        write_evaluation(tree)


BAD = {
    "codex_colon,fov1,1,CD3,9": "1 with an unknown activity",
    "codex_colon,fov1,,CD3,1": "1 without a cell id",
    "codex_colon,fov7,1,CD3,1": "1 of FOVs that are not there",
    "codex_colon,fov1,9999,CD3,1": "1 of cells that are not in the label images",
    "codex_colon,fov1,1,CD99,1": "1 of channels that are not there",
}


def test_truth_errors(tree):
    path = tree / TRUTH
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, next(iter(BAD))]))
    with pytest.raises(InputError, match="unknown activity"):
        read_gold_standard(path)
    path.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(InputError, match="twice"):
        read_gold_standard(path)
    path.write_text("a,b\n1,2\n")
    for skip in (False, True):
        with pytest.raises(InputError, match="lacks columns"):
            write_evaluation(tree, skip_bad_rows=skip)


def test_bad_rows_of_the_truth_are_counted(tree):
    """The other annotations are those of the table without them."""
    path = tree / TRUTH
    good = path.read_text()
    write_evaluation(tree)
    expected = (tree / "calls.csv").read_text()
    path.write_text("\n".join([good.strip(), *BAD, good.splitlines()[1]]))
    _, notes = write_evaluation(tree, skip_bad_rows=True)
    assert {n.partition("left out: ")[2] for n in notes} == {
        *BAD.values(),
        "1 that are there twice",
    }
    assert (tree / "calls.csv").read_text() == expected
