"""The commands list, info NAME and split, and prepare where there is no room."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
from published_files import image, kkanji_members, png, small_set, svg_zip, tar

from transfer.data import splits
from transfer.data.__main__ import main
from transfer.data.info import histogram
from transfer.data.prepare import prepare
from transfer.system.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_command_it_tells_where_to_begin(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "python -m transfer.data download" in out and "prepare" in out and "convert" in out


def test_info_of_the_kanji_sets(tmp_path, capsys):
    folder = small_set(tmp_path / "d")
    assert main(["info", "kkanji", "--data", str(folder)]) == 0
    out = capsys.readouterr().out
    assert (
        "160 images, 20 classes (20 of them kanji), 0 images blank" in out
        and "5-9     20 classes" in out
    )
    assert main(["info", "kanjivg", "--data", str(folder)]) == 0
    assert (
        "22 glyphs: 21 standard forms (20 of them kanji) and 1 variants" in capsys.readouterr().out
    )


@pytest.mark.parametrize("name", ["kmnist", "k49", "kkanji", "kanjivg"])
def test_an_empty_folder_is_one_line_that_tells_the_command(tmp_path, capsys, name):
    assert main(["info", name, "--data", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert (
        len(err.splitlines()) == 1
        and str(tmp_path) in err
        and f"python -m transfer.data download {name}" in err
    )
    with pytest.raises(DataError, match="kkanji.tar"):
        prepare(tmp_path, progress=False)
    tar(tmp_path / "kkanji.tar", {})
    assert main(["info", "kkanji", "--data", str(tmp_path)]) == 2


def test_a_histogram_counts_every_class_once():
    lines = histogram([1, 1, 2, 7, 150, 1768])
    assert [" ".join(line.split()[:2]) for line in lines] == [
        "1 2",
        "2 1",
        "5-9 1",
        "100-199 1",
        "1000-9999 1",
    ]
    assert lines[0].endswith("#" * 40) and lines[1].endswith(" " + "#" * 20)


def test_the_shipped_lists_are_the_published_ones(capsys):
    for arguments in (["split"], ["split", "--check"], ["split", "--check", str(splits.PUBLISHED)]):
        assert main(arguments) == 0
        assert "test 1,828 images 1,828 classes" in " ".join(capsys.readouterr().out.split())
    assert {s: splits.digest(names) for s, names in splits.read_lists().items()} == splits.DIGESTS


def test_a_copy_is_checked(tmp_path, capsys):
    assert main(["split", "--out", str(tmp_path / "copy")]) == 0
    assert main(["split", "--check", str(tmp_path / "copy")]) == 0
    names = splits.read_names(tmp_path / "copy" / "val.txt.gz")
    (tmp_path / "val.txt").write_text("\n".join(names[::-1]))  # unpacked, in another order
    assert main(["split", "--check", str(tmp_path / "val.txt")]) == 0
    capsys.readouterr()

    (tmp_path / "val.txt").write_text("\n".join(names[1:] + ["U+4E00/x.png"]))
    (tmp_path / "copy" / "val.txt.gz").write_bytes(
        gzip.compress("\n".join(names[1:] + ["U+4E00/x.png"]).encode())
    )
    for path in (tmp_path / "val.txt", tmp_path / "copy"):
        assert main(["split", "--check", str(path)]) == 2
        assert "2 names differ" in capsys.readouterr().err
    (tmp_path / "val.txt").write_text("\n".join(names + names[:1]))
    (tmp_path / "copy" / "val.txt.gz").unlink()
    (tmp_path / "list.txt").write_text("x")
    for path, words in (
        (tmp_path / "val.txt", "twice"),
        (tmp_path / "copy", "val.txt.gz missing"),
        (tmp_path / "list.txt", "cannot tell"),
        (tmp_path / "none" / "test.txt", "no such file"),
    ):
        assert main(["split", "--check", str(path)]) == 2
        err = capsys.readouterr().err
        assert words in err and len(err.splitlines()) == 1
    assert main(["split", "--listing", str(tmp_path / "list.txt")]) == 2
    (tmp_path / "file").touch()
    assert main(["split", "--out", str(tmp_path / "file")]) == 2


def test_the_blank_images_are_listed():
    blank = splits.read_blank()
    assert len(blank) == 28 and blank <= set().union(*splits.read_lists().values())


@pytest.mark.realdata
def test_the_listed_blank_images_are_the_ones_that_prepare_drops(real_data):
    from transfer.data import corpus

    kept = set(corpus.load(real_data, quiet=True).old.names.tolist())
    assert not kept & splits.read_blank()


def test_the_notebook_cells_of_the_readme_run(tmp_path, monkeypatch):
    import re

    import numpy as np

    folder = small_set(tmp_path / "d")
    for kind, array in (
        ("imgs", np.ones((7, 28, 28), np.uint8)),
        ("labels", np.full(7, 19, np.uint8)),
    ):
        np.savez_compressed(folder / f"k49-test-{kind}.npz", array)
    monkeypatch.setenv("KUZUSHIJI_DATA", str(folder))
    text = (ROOT / "data" / "README.md").read_text("utf-8")
    cells = re.findall(r"<!-- test: [a-z-]+ -->\n```python\n(.*?)```", text, re.S)
    assert len(cells) == 2
    names = {}
    for cell in cells:
        exec(cell, names)
    assert names["images"].shape == (114, 64, 64) and len(names["strokes"]) == 2
    assert names["kana"].characters[names["kana"].labels[0]] == "と" and names[
        "kana"
    ].images.shape == (7, 28, 28)


def test_the_readmes_tell_the_lists_digests_and_counts():
    published = (splits.PUBLISHED / "README.md").read_text("utf-8")
    card = (ROOT / "data" / "README.md").read_text("utf-8")
    lists = splits.read_lists()
    sizes = {}
    for split, names in lists.items():
        assert splits.DIGESTS[split] in published
        classes = {splits.class_of(name) for name in names}
        assert f"| `{split}.txt.gz` | {len(names):,} | {len(classes):,} |" in published
        for name in names:
            sizes[splits.class_of(name)] = sizes.get(splits.class_of(name), 0) + 1
    for line in histogram(sizes.values()):
        assert line in card


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def cut(name):
    def spoil(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def member(name, content=b"x"):
    return lambda folder: tar(folder / "kkanji.tar", kkanji_members({0x4E00: 3}) | {name: content})


def another(name, content):
    return lambda folder: (folder / name).write_bytes(content)


BOMB = (
    b'<!DOCTYPE k [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (name, b"&%c;" % (name - 1) * 10) for name in b"bcdefghi")
    + b"]><kanjivg>&i;</kanjivg>"
)


def only_xml(content):
    def spoil(folder):
        (folder / "kanjivg-20000101-all.zip").unlink()
        (folder / "kanjivg-20000101.xml.gz").write_bytes(content)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        cut("kkanji.tar"),
        cut("kanjivg-20000101-all.zip"),
        another("kanjivg-20010101-all.zip", b"PK"),
        lambda f: (f / "kkanji.tar").unlink(),
        member("kkanji2/U+4E00/a.png"),
        member("kkanji2/U+4E00/a.png", png(image(1)[:, :63])),
        member("kkanji2/4E00/a.png", png(image(1))),
        member("kkanji2/../U+4E00/a.png", png(image(1))),
        only_xml(gzip.compress(BOMB)),
        only_xml(gzip.compress(BOMB)[:50]),
        lambda f: svg_zip(f / "kanjivg-20010101-all.zip", {"04e00": ["M1,1C1,1,nan,3,4,4"]}),
        lambda f: svg_zip(f / "kanjivg-20010101-all.zip", {"04e00": ["M1,1Q1,1,4,4"]}),
    ],
)
def test_bad_published_files_are_one_line_and_keep_the_earlier_prepared_data(
    tmp_path, capsys, spoil
):
    folder = small_set(tmp_path / "d")
    before = everything(prepare(folder, progress=False))
    spoil(folder)
    capsys.readouterr()
    assert main(["prepare", "--data", str(folder)]) == 2
    errors = [x for x in capsys.readouterr().err.replace("\r", "\n").splitlines() if "error: " in x]
    assert len(errors) == 1 and str(folder) in errors[0]
    assert everything(folder / "prepared") == before and not list(folder.glob("prepared.*"))


@pytest.mark.skipif(os.name == "nt", reason="needs setrlimit")
def test_a_full_disk_keeps_the_earlier_prepared_data(tmp_path):
    """No file may grow over 200 kB: to the program the same as a disk that has no more room."""
    import resource

    folder = small_set(tmp_path / "d")
    before = everything(prepare(folder, progress=False))
    tar(folder / "kkanji.tar", kkanji_members(dict.fromkeys(range(0x4E00, 0x4E14), 9)))
    done = subprocess.run(
        [sys.executable, "-m", "transfer.data", "prepare", "--data", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    errors = [x for x in done.stderr.replace("\r", "\n").splitlines() if x.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and "cannot be written" in errors[0]
    assert "Traceback" not in done.stderr
    assert everything(folder / "prepared") == before
    assert sorted(p.name for p in folder.iterdir()) == [
        "kanjivg-20000101-all.zip",
        "kkanji.tar",
        "prepared",
    ]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_read_only_folder_keeps_the_earlier_prepared_data(tmp_path):
    folder = small_set(tmp_path / "d")
    before = everything(prepare(folder, progress=False))
    folder.chmod(0o500)
    try:
        with pytest.raises(DataError, match="cannot be written"):
            prepare(folder, progress=False)
        assert everything(folder / "prepared") == before
    finally:
        folder.chmod(0o700)
