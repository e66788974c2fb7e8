"""Every published file: its data set, its name, its addresses in the order to try, and its checksum
and size if they are known.

Checksums: Kuzushiji-MNIST and -49 as published by CODH; KanjiVG's main zips as many projects pin
them. Kuzushiji-Kanji, the class maps and KanjiVG's other files were published without checksums, so
they are checked by their form (`looks_right`).
"""

import gzip
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from transfer.system.errors import DataError
from transfer.system.untrusted import BROKEN, BROKEN_TAR

CODH = "http://codh.rois.ac.jp/kmnist/dataset"
# Put up by the Swift for TensorFlow project when CODH's host was down (tensorflow/swift-models,
# pull request 450).
COPY = "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/KMNIST"
ARCHIVE = (  # the Internet Archive's nearest copy of the address that follows
    "https://web.archive.org/web/2023id_"
)
RELEASES = "https://github.com/KanjiVG/kanjivg/releases/download"
RELEASE = "20260714"
_LARGEST_UNPACKED = (
    1 << 28
)  # bytes that a published .gz unpacks to; k49's and KanjiVG's stay below 200 million

NAMES = ("kmnist", "k49", "kkanji", "kanjivg")
TITLES = {
    "kmnist": "Kuzushiji-MNIST (10 classes, 28x28, 70,000 images)",
    "k49": "Kuzushiji-49 (49 classes, 28x28, 270,912 images)",
    "kkanji": "Kuzushiji-Kanji (3,832 classes, 64x64, 140,424 images)",
    "kanjivg": "KanjiVG (strokes of 6,703 characters)",
}
FORMATS = {
    "kmnist": {"npz": "NumPy (.npz)", "idx": "MNIST's own (.gz)"},
    "k49": {"npz": "NumPy (.npz)"},
    "kkanji": {"tar": "folders of images (.tar)"},
    "kanjivg": {
        "all": "SVG files, variants too (-all.zip)",
        "main": "SVG files, standard forms (-main.zip)",
        "xml": "one XML file, standard forms (.xml.gz)",
    },
}


@dataclass(frozen=True)
class Published:
    """A published file. `hash` is "md5:…", "sha256:…" or None. `size` is in bytes; unless it is
    `exact`, it is as rounded on the publisher's page."""

    dataset: str
    format: str  # a key of FORMATS[dataset]; "" belongs to every format
    name: str
    urls: tuple[str, ...]
    hash: str | None = None
    size: int = 0
    exact: bool = False

    @property
    def folder(self) -> str:
        """Its folder inside the data folder. The two kana sets have many files, so each has a
        folder of its own."""
        return self.dataset if self.dataset in ("kmnist", "k49") else ""


def _codh(dataset, form, name, md5=None, size=0, exact=False, more=()):
    # k49's class map lies in kmnist's folder on CODH's host
    place = "kmnist" if name.endswith(".csv") else dataset
    url = f"{CODH}/{place}/{name}"
    urls = (url, *more, f"{ARCHIVE}/{url}") if md5 else (url,)
    return Published(dataset, form, name, urls, md5 and f"md5:{md5}", size, exact)


def _idx(name, md5, size, exact=False):
    return _codh("kmnist", "idx", name, md5, size, exact, (f"{COPY}/{name}",))


_CODH_FILES = (
    _codh("kmnist", "npz", "kmnist-train-imgs.npz", "a183fbc01ed9a345513b145673d3d0bb", 18_000_000),
    _codh(
        "kmnist", "npz", "kmnist-train-labels.npz", "b0e1d240e8afec72b50437fc3bc5908a", 29_700, True
    ),
    _codh(
        "kmnist", "npz", "kmnist-test-imgs.npz", "dace6de62ca8b90843cc45366337d02e", 3_079_479, True
    ),
    _codh(
        "kmnist", "npz", "kmnist-test-labels.npz", "3ae489a79983d0fe386152684e3b5412", 5_304, True
    ),
    _idx("train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7", 18_000_000),
    _idx("train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344", 30_000),
    _idx("t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7", 3_041_136, True),
    _idx("t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134", 5_120, True),
    _codh("kmnist", "", "kmnist_classmap.csv", None, 1_000),
    _codh("k49", "npz", "k49-train-imgs.npz", "7ac088b20481cf51dcd01ceaab89d821", 63_000_000),
    _codh("k49", "npz", "k49-train-labels.npz", "44a8e1b893f81e63ff38d73cad420f7a", 164_485, True),
    _codh("k49", "npz", "k49-test-imgs.npz", "d352e201d846ce6b94f42c990966f374", 11_000_000),
    _codh("k49", "npz", "k49-test-labels.npz", "4da6f7a62e67a832d5eb1bd85c5ee448", 27_450, True),
    _codh("k49", "", "k49_classmap.csv", None, 1_000),
    _codh("kkanji", "tar", "kkanji.tar", None, 310_000_000),
)
_KANJIVG_HASHES = {
    "kanjivg-20260714-main.zip": (
        "sha256:b5df6cd2bc249dd49b8041eb99e38ba9f8dc6b9ea57962a80084b4a315d1a7fc"
    ),
    "kanjivg-20250816-main.zip": (
        "sha256:69a2944ec1183086fdee5ba9c1f48bc306b867480a95b2f337f3203bf50689a3"
    ),
}


def files(release: str = RELEASE) -> tuple[Published, ...]:
    """All published files. KanjiVG's are those of `release`, YYYYMMDD. Raises DataError for any
    other form of date."""
    release = release.removeprefix("r")
    if not re.fullmatch(r"[0-9]{8}", release):
        raise DataError(
            f"release {release!r}: not a date such as {RELEASE}; "
            f"{RELEASES.removesuffix('/download')} has them all"
        )
    kanjivg = []
    for form, end, size in (
        ("all", "-all.zip", 22_000_000),
        ("main", "-main.zip", 12_000_000),
        ("xml", ".xml.gz", 3_600_000),
    ):
        name = f"kanjivg-{release}{end}"
        url = f"{RELEASES}/r{release}/{name}"
        kanjivg.append(Published("kanjivg", form, name, (url,), _KANJIVG_HASHES.get(name), size))
    return _CODH_FILES + tuple(kanjivg)


def choose(names, form: str | None = None, release: str = RELEASE) -> list[Published]:
    """The files that `names` mean, each once and in catalogue order. A name is a data set of NAMES,
    "all", or a published file name.

    A data set stands for its first format and the class map, unless `form` names another
    ("all-formats": every one). Raises DataError for an unknown name or format.
    """
    every, out = files(release), set()
    known = {f.name for f in every}
    for name in names:
        if name in known:
            out |= {f for f in every if f.name == name}
            continue
        if name not in NAMES and name != "all":
            raise DataError(
                f"{name}: there is no such data set; choose from {', '.join(NAMES)}, all, or a file"
                " that `python -m transfer.data list` shows"
            )
        sets = NAMES if name == "all" else (name,)
        if form and form != "all-formats" and not any(form in FORMATS[s] for s in sets):
            raise DataError(
                f"{name}: is not published as {form!r}; choose from {', '.join(FORMATS[name])},"
                " all-formats"
                if name != "all"
                else f"format {form!r}: no data set is published in it"
            )
        for s in sets:
            wanted = form if form in FORMATS[s] else next(iter(FORMATS[s]))
            out |= {
                f
                for f in every
                if f.dataset == s and (form == "all-formats" or f.format in ("", wanted))
            }
    return [f for f in every if f in out]


def looks_right(path: Path, name: str) -> bool:
    """Whether the form of a file fits its name: it is not an error page and is not cut short (of a
    tar only the beginning is checked)."""
    try:
        if name.endswith((".zip", ".npz")):
            with zipfile.ZipFile(path) as archive:  # its directory stands at the end
                return bool(archive.namelist())
        if name.endswith(".gz"):
            with gzip.open(path) as stream:
                size = 0
                while block := stream.read(1 << 20):
                    size += len(block)
                    if size > _LARGEST_UNPACKED:
                        return False
            return True
        if name.endswith(".tar"):
            with tarfile.open(path, "r:") as archive:
                return archive.next() is not None and _ends_as_tar(path)
        with open(path, "rb") as file:
            return file.read(16).startswith(b"index,codepoint,")
    except (*BROKEN, *BROKEN_TAR):
        return False


def _ends_as_tar(path: Path) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(-min(1024, size), 2)
        return size % 512 == 0 and not file.read().strip(b"\0")
