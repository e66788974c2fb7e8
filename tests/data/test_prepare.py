import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from published_files import PATHS, image, kkanji_members, png, small_set, svg_zip, tar, xml_gz

from transfer.data import corpus, splits
from transfer.data.prepare import kanjivg_source, prepare
from transfer.data.raster import rasterise
from transfer.system.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_prepared_arrays_are_the_published_files(tmp_path):
    folder = small_set(tmp_path / "d")
    loaded = corpus.load(folder, quiet=True)
    assert not loaded.is_sample and loaded.folder == folder
    old, new = loaded.old, loaded.new
    assert old.images.shape == (160, 64, 64) and old.images.dtype == np.uint8
    assert (
        old.code_points.dtype == np.int32
        and old.split.dtype == np.uint8
        and new.code_points.dtype == np.int32
    )
    assert isinstance(old.images, np.memmap)
    for i in (0, 77, 159):
        code_point, number = divmod(int(old.names[i].split("/")[1][:16], 16), 1000)
        assert (
            old.code_points[i] == code_point and (old.images[i] == image(code_point + number)).all()
        )
    assert sorted(np.concatenate([old.indices(s) for s in splits.SPLITS]).tolist()) == list(
        range(160)
    )
    assert old.indices("test").dtype == np.int64 and len(old.indices("test")) == 19 == len(
        old.indices("val")
    )
    assert len(old.indices("zero-shot")) == 8

    assert new.images.shape == (22, 64, 64)
    kaisho = list(new.ids).index("kvg:04e00-Kaisho")
    assert new.variants[kaisho] == "Kaisho" and len(new.strokes(kaisho)) == 1
    standard = list(new.ids).index("kvg:04e00")
    strokes = new.strokes(standard)
    assert [s.tolist() for s in strokes] == [[[10, 20], [95, 20]], [[50, 10], [50, 90]]]
    assert new.stroke_types(standard) == ["㇐", "㇐"]
    assert [
        (int(c["parent"]), int(c["first"]), int(c["last"])) for c in new.components(standard)
    ] == [(-1, 0, 2)]
    assert new.radical(standard) == ""
    assert strokes[0].dtype == np.float32 and (new.images[standard] == rasterise(strokes)).all()
    assert new.code_points[new.gallery()].tolist() == list(
        range(0x4E00, 0x4E14)
    )  # no variant, no kana
    with pytest.raises(DataError, match="zero-shot"):
        old.indices("zero_shot")


def test_manifest_tells_sources_and_counts(tmp_path):
    import hashlib

    folder = small_set(tmp_path / "d")
    manifest = corpus.load(folder, quiet=True).manifest
    content = (folder / "kkanji.tar").read_bytes()
    assert manifest["sources"]["kkanji.tar"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    assert manifest["counts"]["new"]["kanji"] == 20 and manifest["counts"]["old"]["images"] == 160
    assert sum(manifest["counts"]["old"][s]["images"] for s in splits.SPLITS) == 160


def test_blank_images_are_dropped_by_content(tmp_path):
    folder = small_set(tmp_path / "d")
    members = kkanji_members({0x4E00: 3})
    members["kkanji2/U+4E00/black.png"] = png(np.zeros((64, 64), np.uint8))
    members["kkanji2/U+4E00/white.png"] = png(np.full((64, 64), 255, np.uint8))
    tar(folder / "kkanji.tar", members)
    loaded = corpus.load(folder, quiet=True)
    assert len(loaded.old.images) == 3 and loaded.manifest["counts"]["old"]["blank, dropped"] == 2
    assert all(i.any() for i in loaded.old.images)


def test_the_folder_form_gives_the_same_images(tmp_path):
    folder = small_set(tmp_path / "d")
    first = corpus.load(folder, quiet=True)
    (folder / "kkanji.tar").unlink()
    for name, content in kkanji_members(dict.fromkeys(range(0x4E00, 0x4E14), 8)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    before = dict(zip(first.old.names.tolist(), np.array(first.old.images)))
    second = corpus.load(folder, quiet=True)
    assert "kkanji2" in second.manifest["sources"]
    assert second.old.names.tolist() == sorted(before)
    assert all((before[n] == i).all() for n, i in zip(second.old.names.tolist(), second.old.images))


def test_the_best_and_newest_kanjivg_is_taken(tmp_path):
    for name in (
        "kanji",
        "kanjivg-20200101.xml.gz",
        "kanjivg-20250101.xml.gz",
        "kanjivg-20240101-main.zip",
        "kanjivg-20230101-all.zip",
        "kanjivg-20240101-all.zip",
    ):
        (tmp_path / name).mkdir() if name == "kanji" else (tmp_path / name).touch()
    taken = []
    while source := kanjivg_source(tmp_path):
        taken.append(source.name)
        source.rmdir() if source.is_dir() else source.unlink()
    assert taken == [
        "kanjivg-20240101-all.zip",
        "kanjivg-20230101-all.zip",
        "kanjivg-20240101-main.zip",
        "kanjivg-20250101.xml.gz",
        "kanjivg-20200101.xml.gz",
        "kanji",
    ]


def test_missing_files_are_named_with_their_address(tmp_path):
    folder = small_set(tmp_path / "d")
    (folder / "kanjivg-20000101-all.zip").rename(tmp_path / "away.zip")
    with pytest.raises(
        DataError, match="kanjivg-<date>-all.zip .*github.com/KanjiVG.* missing"
    ) as error:
        corpus.load(folder)
    assert "kkanji.tar" not in str(error.value)
    (tmp_path / "away.zip").rename(folder / "kanjivg-20000101-all.zip")
    (folder / "kkanji.tar").unlink()
    with pytest.raises(DataError, match=r"codh\.rois\.ac\.jp/kmnist/dataset/kkanji/kkanji\.tar"):
        corpus.load(folder)


def test_a_named_folder_without_data_never_gives_the_sample(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(DataError, match=folder.name):
            corpus.load(folder)
        monkeypatch.setenv("KUZUSHIJI_DATA", str(folder))
        with pytest.raises(DataError, match=folder.name):
            corpus.load()


def test_the_explicit_folder_wins_over_the_variable_over_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KUZUSHIJI_DATA", str(small_set(tmp_path / "variable")))
    small_set(tmp_path / "cache" / "kuzushiji")
    assert corpus.load(small_set(tmp_path / "explicit"), quiet=True).folder == tmp_path / "explicit"
    assert corpus.load(quiet=True).folder == tmp_path / "variable"
    monkeypatch.setenv("KUZUSHIJI_DATA", "")
    assert corpus.load(quiet=True).folder.name == "kuzushiji"


def test_failed_prepare_keeps_the_earlier_data(tmp_path):
    folder = small_set(tmp_path / "d")
    before = everything(prepare(folder, progress=False))
    content = (folder / "kkanji.tar").read_bytes()
    (folder / "kkanji.tar").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="kkanji.tar"):
        prepare(folder, progress=False)
    assert everything(folder / "prepared") == before
    assert sorted(p.name for p in folder.iterdir()) == [
        "kanjivg-20000101-all.zip",
        "kkanji.tar",
        "prepared",
    ]


def test_a_bad_path_is_found_with_its_file_and_glyph(tmp_path):
    folder = small_set(tmp_path / "d")
    svg_zip(folder / "kanjivg-20010101-all.zip", {"04e00": PATHS, "04e01": ["M1,1h5"]})
    with pytest.raises(
        DataError, match=r"kanjivg-20010101-all\.zip: kvg:04e01 stroke 1: path command 'h'"
    ):
        corpus.load(folder, quiet=True)


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_prepare_keeps_the_earlier_data_and_the_next_one_cleans_up(tmp_path):
    folder = small_set(tmp_path / "d")
    before = everything(prepare(folder, progress=False))
    tar(folder / "kkanji.tar", kkanji_members(dict.fromkeys(range(0x4E00, 0x4E30), 4)))
    # stops for good in the middle of the images
    code = (
        "import sys, time\n"
        "from transfer.data import prepare\n"
        "from transfer.data.published import kkanji\n"
        "read = kkanji.read\n"
        "def slow(*a):\n"
        "    for n, x in enumerate(read(*a)):\n"
        "        if n == 50: print('half', flush=True); time.sleep(60)\n"
        "        yield x\n"
        "kkanji.read = slow; prepare.prepare(sys.argv[1], progress=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (
        len(list(folder.glob("prepared.tmp-*"))) == 1 and everything(folder / "prepared") == before
    )
    prepare(folder, progress=False)
    assert not list(folder.glob("prepared.*")) and len(corpus.load(folder).old.images) == 192


def test_killed_between_the_two_renames(tmp_path):
    folder = small_set(tmp_path / "d")
    before = everything(prepare(folder, progress=False))
    (folder / "prepared").rename(folder / "prepared.old")
    (folder / "kkanji.tar").unlink()  # so that it cannot be prepared again
    assert len(corpus.load(folder).old.images) == 160 and everything(folder / "prepared") == before


def test_prepared_data_is_renewed_when_it_must_be(tmp_path):
    folder = small_set(tmp_path / "d")
    corpus.load(folder, quiet=True)
    stamp = (folder / "prepared" / "manifest.json").stat().st_mtime_ns
    corpus.load(folder, quiet=True)
    assert (folder / "prepared" / "manifest.json").stat().st_mtime_ns == stamp
    tar(folder / "kkanji.tar", kkanji_members({0x4E00: 3}))
    assert len(corpus.load(folder, quiet=True).old.images) == 3
    manifest = json.loads((folder / "prepared" / "manifest.json").read_text())
    for other in ({**manifest, "version": 0}, []):
        (folder / "prepared" / "manifest.json").write_text(json.dumps(other))
        assert corpus.load(folder, quiet=True).manifest == manifest


def test_what_is_put_into_an_unpacked_folder_is_prepared(tmp_path):
    """An image of one's own hand, put there, taken away or exchanged for one of another size, all
    in one class folder."""
    folder = small_set(tmp_path / "d")
    (folder / "kkanji.tar").unlink()
    for name, content in kkanji_members(dict.fromkeys(range(0x4E00, 0x4E14), 8)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    count = len(corpus.load(folder, quiet=True).old.images)
    manifest = folder / "prepared" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    own = folder / "kkanji2" / "U+4E00" / ("f" * 16 + ".png")
    own.write_bytes(png(image(7)))
    assert (
        len(corpus.load(folder, quiet=True).old.images) == count + 1
        and manifest.stat().st_mtime_ns > before
    )
    # Files that were copied have other times: they are the same, and nothing is prepared again.
    before = manifest.stat().st_mtime_ns
    for place in (folder / "kkanji2", own.parent):
        os.utime(place)
    corpus.load(folder, quiet=True)
    assert manifest.stat().st_mtime_ns == before
    own.unlink()
    assert len(corpus.load(folder, quiet=True).old.images) == count


def test_published_files_may_go_after_prepare_and_broken_arrays_are_named(tmp_path):
    folder = small_set(tmp_path / "d")
    prepare(folder, progress=False)
    (folder / "kkanji.tar").unlink()
    (folder / "kanjivg-20000101-all.zip").unlink()
    assert len(corpus.load(folder).old.images) == 160
    array = folder / "prepared" / "kkanji" / "images.npy"
    array.write_bytes(array.read_bytes()[:5000])
    with pytest.raises(DataError, match="images.npy.*python -m transfer.data prepare"):
        corpus.load(folder)


def test_memory_does_not_grow_with_the_images(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    xml_gz(folder / "kanjivg-20000101.xml.gz", {"04e00": PATHS})
    tar(folder / "kkanji.tar", kkanji_members({0x4E00: 2000}))
    tracemalloc.start()
    prepare(folder, progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (folder / "prepared" / "kkanji" / "images.npy").stat().st_size > 8e6
    assert peak < 60e6  # most of it the published lists of names


def test_opening_is_quick(tmp_path):
    folder = small_set(tmp_path / "d")
    corpus.load(folder, quiet=True)
    took = []
    for _ in range(5):
        start = time.perf_counter()
        corpus.load(folder, quiet=True)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.05


@pytest.mark.skipif(os.name == "nt", reason="renaming open folders")
def test_two_prepares_at_once_both_succeed(tmp_path):
    folder = small_set(tmp_path / "d")
    command = [sys.executable, "-m", "transfer.data", "prepare", "--data", str(folder)]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [p.wait() for p in both] == [0, 0]
    assert len(corpus.load(folder).old.images) == 160 and not list(folder.glob("prepared.*"))
