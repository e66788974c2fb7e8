import gzip
import hashlib
import random
import shutil

import numpy as np
import pytest

from transfer.data import splits
from transfer.system.errors import DataError

LISTS = splits.read_lists()


def test_published_counts_and_disjointness():
    assert {k: len(v) for k, v in LISTS.items()} == {
        "train": 135769,
        "val": 2060,
        "test": 1828,
        "zero-shot": 767,
    }
    assert len(set().union(*LISTS.values())) == 140424
    zero_shot = {splits.class_of(n) for n in LISTS["zero-shot"]}
    assert len(zero_shot) == 300
    for split in ("train", "val", "test"):
        assert not zero_shot & {splits.class_of(n) for n in LISTS[split]}
        assert (
            len({splits.class_of(n) for n in LISTS[split]})
            == {"train": 3532, "val": 2060, "test": 1828}[split]
        )


def test_the_split_of_a_file_does_not_depend_on_the_others():
    rng = random.Random(0)
    names = [n for v in LISTS.values() for n in rng.sample(sorted(v), 200)]
    whole = dict(zip(names, splits.assign(names, [])))
    rng.shuffle(names)
    part = names[:100]
    assert [whole[n] for n in part] == splits.assign(part, [0x4E00]).tolist()
    for split, listed in LISTS.items():
        assert all(splits.SPLITS[whole[n]] == split for n in names if n in listed)


def test_unknown_names_in_a_published_corpus():
    known, unseen = sorted(LISTS["val"])[0], sorted(LISTS["zero-shot"])[0]
    names = [
        known,
        splits.class_of(unseen) + "/new.png",
        splits.class_of(known) + "/new.png",
        "U+0041/new.png",
    ]
    assert [splits.SPLITS[i] for i in splits.assign(names, [])] == [
        "val",
        "zero-shot",
        "train",
        "train",
    ]


def listing(classes=100, images=8):
    return [
        f"U+{c:04X}/{c * images + i:016x}.png"
        for c in range(0x5000, 0x5000 + classes)
        for i in range(images)
    ]


def test_the_published_rule_on_a_made_up_listing(monkeypatch):
    monkeypatch.setattr(splits, "ZERO_SHOT_CLASSES", 10)
    names = listing() + listing(200, 4)[-400:]  # 100 classes of 8, 100 of 4
    test = [n for n in names if int(n[2:6], 16) < 0x5020][::8]
    glyphs = range(0x5000, 0x5060)
    lists = splits.split_published(names, test, glyphs)
    assert lists["test"] == set(test) and sorted(set().union(*lists.values())) == sorted(names)
    assert list(lists) == list(splits.SPLITS) and len(lists["train"]) == 800 + 400 - 80 - 32 - 90
    unseen = {splits.class_of(n) for n in lists["zero-shot"]}
    assert len(unseen) == 10 and all(0x5020 <= int(c[2:], 16) < 0x5060 for c in unseen)
    assert len(lists["zero-shot"]) == 80
    assert {splits.class_of(n) for n in lists["val"]} == {
        f"U+{c:04X}" for c in range(0x5000, 0x5064)
    } - unseen
    assert len(lists["val"]) == 90
    shuffled = random.Random(1).sample(names, len(names))
    assert splits.split_published(shuffled, test[::-1], list(glyphs)[::-1]) == lists


def test_a_test_name_outside_the_listing_is_an_error():
    with pytest.raises(DataError) as error:
        splits.split_published(listing(3), ["U+4E00/x.png"], [])
    assert str(error.value) == (
        "test list: U+4E00/x.png is not in the listing; give both lists from the same publication"
    )


def test_a_foreign_corpus_is_split_by_its_own_names():
    names = listing(40, 8) + listing(60, 3)[-60:]  # 40 classes of 8, 20 of 3
    split = splits.assign(names, range(0x5000, 0x503C))
    assert split.dtype == np.uint8
    count = {s: int((split == i).sum()) for i, s in enumerate(splits.SPLITS)}
    unseen = {splits.class_of(n) for n, s in zip(names, split) if splits.SPLITS[s] == "zero-shot"}
    assert len(unseen) == 3
    large = sum(int(c[2:], 16) < 0x5028 for c in unseen)
    assert count["test"] == count["val"] == 40 - large and sum(count.values()) == len(names)
    order = np.random.default_rng(0).permutation(len(names))
    assert (
        splits.assign([names[i] for i in order], range(0x5000, 0x503C)).tolist()
        == split[order].tolist()
    )


def test_lists_are_written_and_read_back(tmp_path):
    lists = {"train": {"b", "a"}, "val": {"c"}, "test": set(), "zero-shot": {"d"}}
    splits.write_lists(lists, tmp_path)
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert splits.read_lists(tmp_path) == lists
    splits.write_lists(lists, tmp_path)
    assert first == {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    (tmp_path / "val.txt.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match="val.txt.gz"):
        splits.read_lists(tmp_path)


def by_hash(texts):
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())


def of_class(point: int, images: int) -> list[str]:
    return [f"U+{point:04X}/{i:016x}.png" for i in range(images)]


def test_classes_at_the_limits_of_val_and_test():
    names = [name for images in range(1, 10) for name in of_class(0x5000 + images, images)]
    published, foreign = splits.split_published(names, [], []), splits.split_foreign(names, [])
    images = lambda listed: sorted(int(name[2:6], 16) - 0x5000 for name in listed)
    assert images(published["val"]) == images(foreign["val"]) == [5, 6, 7, 8, 9]
    assert images(foreign["test"]) == [7, 8, 9]


def test_zero_shot_classes_and_foreign_test_files_are_those_that_hash_lowest(monkeypatch):
    monkeypatch.setattr(splits, "ZERO_SHOT_CLASSES", 4)
    names = listing(60, 8)
    classes = sorted({splits.class_of(name) for name in names})
    with_glyph, tested = classes[:50], classes[::7]
    glyphs, test = [int(c[2:], 16) for c in with_glyph], [f"{c}/" for c in tested]
    test = [next(name for name in names if name.startswith(prefix)) for prefix in test]
    published, foreign = (
        splits.split_published(names, test, glyphs),
        splits.split_foreign(names, glyphs),
    )
    unseen = lambda lists: {splits.class_of(name) for name in lists["zero-shot"]}
    wanted = by_hash(c for c in with_glyph if c not in tested)[:4]
    assert (
        unseen(published) == set(wanted)
        and sorted(wanted) != sorted(set(with_glyph) - set(tested))[:4]
    )
    lowest = by_hash(with_glyph)[:2]  # 5 % of 50, rounded to even
    assert unseen(foreign) == set(lowest) and sorted(lowest) != with_glyph[:2]
    for c in set(classes) - set(lowest):
        first, second = by_hash(name for name in names if name.startswith(c))[:2]
        assert second in foreign["test"] and first in foreign["val"]
    assert len(foreign["test"]) == len(foreign["val"]) == 58


# A copy of the published lists --------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """The four published lists; val as plain text, with its lines turned round."""
    for split, names in LISTS.items():
        if split == "val":
            (tmp_path / "val.txt").write_text("\n".join(sorted(names, reverse=True)), "utf-8")
        else:
            shutil.copy(splits.PUBLISHED / f"{split}.txt.gz", tmp_path)
    return tmp_path


def refused(path) -> str:
    with pytest.raises(DataError) as error:
        splits.check_copy(path)
    return str(error.value)


def test_a_true_copy_passes_as_a_folder_and_file_by_file(copy):
    assert {k: set(v) for k, v in splits.check_copy(copy).items()} == LISTS
    assert {k: set(v) for k, v in splits.check_copy().items()} == LISTS
    [(split, names)] = splits.check_copy(copy / "val.txt").items()
    assert split == "val" and set(names) == LISTS["val"]
    renamed = copy / "zero-shot of mine.txt.gz"
    (copy / "zero-shot.txt.gz").rename(renamed)
    assert list(splits.check_copy(renamed)) == ["zero-shot"]


def test_lists_that_are_missing_are_named(copy):
    (copy / "val.txt").unlink()
    (copy / "train.txt.gz").unlink()
    assert refused(copy) == (
        f"{copy}: train.txt.gz and val.txt.gz missing; copy all the lists of transfer/data/splits"
    )


def test_a_file_that_is_no_list_is_told_what_lists_are_called(copy):
    assert refused(copy / "names.txt") == (
        f"{copy / 'names.txt'}: cannot tell which list this is; name it train.txt, val.txt,"
        " test.txt, zero-shot.txt, or .txt.gz"
    )


def test_a_copy_that_differs_says_by_how_many_names_and_the_first(copy):
    names = sorted(LISTS["val"])
    text = "\n".join(["A/new.png", *names[2:]])  # before all others; two others are gone
    (copy / "val.txt").write_text(text, "utf-8")
    assert refused(copy / "val.txt") == (
        f"{copy / 'val.txt'}: is not the published val list, 3 names differ, the first is"
        " A/new.png; copy the published list again"
    )
    (copy / "val.txt").write_text("\n".join([*names, *names[:1234]]), "utf-8")
    assert refused(copy) == (
        f"{copy / 'val.txt'}: 1,234 names appear twice; copy the published list again"
    )


def test_a_package_whose_own_list_differs_says_so(copy, monkeypatch):
    monkeypatch.setitem(splits.DIGESTS, "val", "0")
    assert refused(copy / "val.txt") == (
        f"{copy / 'val.txt'}: is not the published val list, 0 names differ, the first is none:"
        " this package's own list differs too; copy the published list again"
    )


def test_names_are_read_as_the_bytes_that_they_are(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"U+4E00/a.png\nU+4E00/\xff.png\n")
    names = splits.read_names(path)
    assert names == ["U+4E00/a.png", "U+4E00/\udcff.png"]
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert splits.read_names(path) == names
    splits.write_lists({split: set(names) for split in splits.SPLITS}, tmp_path / "a" / "new")
    assert splits.read_lists(tmp_path / "a" / "new")["test"] == set(names)
    digest = hashlib.sha256(b"U+4E00/a.png\nU+4E00/\xff.png\n").hexdigest()
    assert splits.digest(reversed(names)) == digest


def test_a_list_that_cannot_be_read_or_written_gives_one_line(tmp_path):
    with pytest.raises(DataError) as error:
        splits.read_names(tmp_path / "no.txt")
    assert str(error.value) == (
        f"{tmp_path / 'no.txt'}: no such file; install the project again, including its data"
    )
    with pytest.raises(DataError) as error:
        splits.read_names(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: cannot be read (")
    assert str(error.value).endswith("); install the project again")
    (tmp_path / "file").touch()
    with pytest.raises(DataError) as error:
        splits.write_lists({split: set() for split in splits.SPLITS}, tmp_path / "file")
    assert str(error.value) == (
        f"{tmp_path / 'file'}: the lists cannot be written (File exists); choose another folder"
    )


def test_blank_images_are_all_in_the_lists():
    blank = splits.read_blank()
    assert len(blank) == 28 and blank <= set().union(*LISTS.values())
