"""Splits file names into train, val, test and zero-shot, deterministically and whatever files
happen to be present.

The rule runs over the *published listing* of all 140,424 Kuzushiji-Kanji files, and its result
ships as lists of names beside this file (facts, no images), so that a partial copy of the data set
is split exactly as a full one:

    test       the 1,828 files of the paper's authors (one of each class with 7 or more images that
               KanjiVG has)
    zero-shot  all files of 300 classes: those with the lowest sha256 of "U+XXXX" among the classes
               that have a KanjiVG glyph (release 20260513, standard forms) and no test file
    val        from each remaining class with 5 or more files, the file outside test with the lowest
               sha256 of its name
    train      all others

A corpus that shares no name with the listing (such as the built-in sample) is split by
`split_foreign`.
"""

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from transfer.system.errors import DataError
from transfer.system.untrusted import GZIP

HANDS = "hands"
"""The evaluation's own split, which belongs to no data set: hands that nothing is trained on."""
SPLITS = ("train", "val", "test", "zero-shot")
ZERO_SHOT_CLASSES = 300
PUBLISHED = Path(__file__).parent
DIGESTS = {  # sha256 of each list: sorted names, one a line
    "train": "4d5b5a5c73cde30c2aaed60d586b1d5895c34f5365fc7d8e779b8c43583f7529",
    "val": "5a783367340843a3fefc7b1cf70e4c5f05a16bd86897d65a5ba01fb9c0c3d73a",
    "test": "c9b56eb42b4bb2dfc71f33b3522477928704bbe848f4793d8d990d7d67f5bf20",
    "zero-shot": "4110579addad36be3309578570026a495ef72ea04bcd188faea0e56d3ce1f65b",
}
_MIN_VAL = 5
_MIN_TEST = 7


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def class_of(name: str) -> str:
    """'U+4E00/<stem>.png' -> 'U+4E00'."""
    return name.partition("/")[0]


def _by_class(names: Iterable[str]) -> dict[str, list[str]]:
    classes = defaultdict(list)
    for name in names:
        classes[class_of(name)].append(name)
    return classes


def _validation(classes: dict[str, list[str]], test: set[str]) -> set[str]:
    files = (
        [n for n in names if n not in test] for names in classes.values() if len(names) >= _MIN_VAL
    )
    return {min(names, key=_hash) for names in files if names}


def _assign(
    classes: dict[str, list[str]], test: set[str], zero_shot: set[str]
) -> dict[str, set[str]]:
    out = {split: set() for split in SPLITS}
    for name in zero_shot:
        out["zero-shot"].update(classes.pop(name))
    out["test"] = test
    out["val"] = _validation(classes, test)
    out["train"] = {n for names in classes.values() for n in names} - out["val"] - test
    return out


def split_published(
    listing: Iterable[str], test: Iterable[str], glyphs: Iterable[int]
) -> dict[str, set[str]]:
    """The rule of the module docstring: it splits names, given the listed test names and the code
    points with a glyph."""
    classes, test = _by_class(listing), set(test)
    unknown = sorted(test - {n for names in classes.values() for n in names})
    if unknown:
        raise DataError(
            f"test list: {unknown[0]} is not in the listing; give both lists from the same"
            " publication"
        )
    tested = {class_of(n) for n in test}
    with_glyph = {f"U+{g:04X}" for g in glyphs}
    free = sorted((c for c in classes if c in with_glyph and c not in tested), key=_hash)
    return _assign(classes, test, set(free[:ZERO_SHOT_CLASSES]))


def split_foreign(names: Iterable[str], glyphs: Iterable[int]) -> dict[str, set[str]]:
    """The same rule for a corpus of other files, over its own names.

    zero-shot: the 5 % of the classes with a glyph whose "U+XXXX" has the lowest hash. test: from
    every other class with 7 or more files, the one with the second-lowest hash. val and train: as
    above.
    """
    classes = _by_class(names)
    with_glyph = {f"U+{g:04X}" for g in glyphs}
    hashed = sorted((c for c in classes if c in with_glyph), key=_hash)
    zero_shot = set(hashed[: round(0.05 * len(hashed))])
    test = {
        sorted(files, key=_hash)[1]
        for c, files in classes.items()
        if c not in zero_shot and len(files) >= _MIN_TEST
    }
    return _assign(classes, test, zero_shot)


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.txt.gz"


def read_lists(folder: Path = PUBLISHED) -> dict[str, set[str]]:
    """The shipped lists: split -> names."""
    out = {}
    for split in SPLITS:
        out[split] = set(read_names(_file(folder, split)))
    return out


def read_names(path) -> list[str]:
    """Read names, one a line, from a .txt or .txt.gz file. Raises DataError if it is missing or
    damaged."""
    try:
        content = Path(path).read_bytes()
        return (
            (gzip.decompress(content) if content.startswith(GZIP) else content)
            .decode("utf-8", "surrogateescape")
            .split()
        )
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; install the project again, including its data"
        ) from None
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); install the project again") from None


def read_blank() -> set[str]:
    """The 28 published images without ink, which `prepare` drops. The lists contain them like all
    others."""
    return set(read_names(PUBLISHED / "blank.txt"))


def digest(names: Iterable[str]) -> str:
    """The sha256 of names, sorted, one a line: the same for .txt and .txt.gz and for any order of
    the lines."""
    return _hash("".join(f"{n}\n" for n in sorted(names)))


def check_copy(path=PUBLISHED) -> dict[str, list[str]]:
    """Compare a copy of the published lists, a folder with all four or one file, with DIGESTS;
    returns {split: names}.

    A file belongs to the split that its name begins with. Raises DataError if a list is missing or
    differs; it gives the number of names that differ and the first of them.
    """
    path = Path(path)
    if path.is_dir():
        paths = {
            s: next((p for p in (path / f"{s}.txt.gz", path / f"{s}.txt") if p.is_file()), None)
            for s in SPLITS
        }
        missing = [f"{s}.txt.gz" for s, p in paths.items() if p is None]
        if missing:
            raise DataError(
                f"{path}: {' and '.join(missing)} missing; copy all the lists of"
                " transfer/data/splits"
            )
    else:
        split = next((s for s in SPLITS if path.name.startswith(s)), None)
        if split is None:
            raise DataError(
                f"{path}: cannot tell which list this is; name it"
                f" {', '.join(f'{s}.txt' for s in SPLITS)}, or .txt.gz"
            )
        paths = {split: path}
    out = {}
    for split, file in paths.items():
        out[split] = names = read_names(file)
        if len(names) != len(set(names)):
            raise DataError(
                f"{file}: {len(names) - len(set(names)):,} names appear twice; copy the published"
                " list again"
            )
        if digest(names) != DIGESTS[split]:
            differ = sorted(set(names) ^ set(read_names(_file(PUBLISHED, split))))
            first = differ[0] if differ else "none: this package's own list differs too"
            raise DataError(
                f"{file}: is not the published {split} list, {len(differ):,} names differ, the"
                f" first is {first}; copy the published list again"
            )
    return out


def write_lists(lists: dict[str, set[str]], folder: Path = PUBLISHED) -> None:
    """Write the lists, sorted, one name a line, without time stamps."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            text = "".join(f"{n}\n" for n in sorted(lists[split]))
            _file(folder, split).write_bytes(
                gzip.compress(text.encode("utf-8", "surrogateescape"), 9, mtime=0)
            )
    except OSError as error:
        raise DataError(
            f"{folder}: the lists cannot be written ({error.strerror}); choose another folder"
        ) from None


def assign(names: list[str], glyphs: Iterable[int]) -> np.ndarray:
    """The split of each name, (n,) uint8 indices into SPLITS.

    An unknown name in an otherwise published corpus is zero-shot if its class is, else train.
    """
    lists = read_lists()
    index = {name: SPLITS.index(split) for split in SPLITS for name in lists[split]}
    if not any(n in index for n in names):
        lists = split_foreign(names, glyphs)
        index = {name: SPLITS.index(split) for split in SPLITS for name in lists[split]}
    zero_shot = {class_of(n) for n in lists["zero-shot"]}
    unknown = {True: SPLITS.index("zero-shot"), False: SPLITS.index("train")}
    return np.array(
        [index[n] if n in index else unknown[class_of(n) in zero_shot] for n in names], np.uint8
    )
