"""MNIST, Kuzushiji-MNIST, -49 or -Kanji as labelled images: some to train on, others to test on."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from transfer.data import corpus as corpora
from transfer.data.published import kmnist, mnist
from transfer.stages.encoding import corpus_provenance, old_examples

DATASETS = ("mnist", "kmnist", "k49", "kkanji")


@dataclasses.dataclass(frozen=True)
class Labelled:
    """train and test: images (N, S, S) uint8, ink 255, and labels (N,) int32; names: the C classes'
    characters; about: what they are, and how they were split."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    names: list[str]
    about: str
    provenance: dict

    @property
    def train_count(self) -> np.ndarray:
        """(C,) How many training images each class has."""
        return np.bincount(self.train_labels, minlength=len(self.names))


def load(name: str, data=None, split: str = "") -> Labelled:
    """Load one of DATASETS from the data folder. If you name no folder, kkanji falls back on the
    built-in sample corpus.

    split: "val" or "test" of kkanji. The others are tested on their published test images. If the
    folder has Kuzushiji-MNIST's test images but not its training images, 8,000 test images serve
    for training and 2,000 for testing; `about` says so. Raises DataError.
    """
    if name == "kkanji":
        return _kanji(corpora.load(data), split or "val")
    if (
        name == "kmnist"
        and not kmnist.present("kmnist", "train", data)
        and kmnist.present("kmnist", "test", data)
    ):
        kana = kmnist.load("kmnist", "test", data)
        chosen, held_out = kmnist.divided(len(kana.images))
        return _kana(
            name,
            kana.images[chosen],
            kana.labels[chosen],
            kana.images[held_out],
            kana.labels[held_out],
            kana.characters,
            "**not the published split**: the training images are not in the data folder, so"
            f" {len(chosen):,} of the published test images (by index, numpy's default_rng(0)) are"
            f" training images, and the other {len(held_out):,} are test images",
        )
    read = mnist.load if name == "mnist" else lambda split, data: kmnist.load(name, split, data)
    train, test = read("train", data), read("test", data)
    return _kana(
        name,
        train.images,
        train.labels,
        test.images,
        test.labels,
        test.characters,
        "the published split",
    )


def _kana(
    name, train_images, train_labels, test_images, test_labels, characters, about
) -> Labelled:
    sums = {
        part: hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
        for part, array in (
            ("train", train_images),
            ("train labels", train_labels),
            ("test", test_images),
            ("test labels", test_labels),
        )
    }
    return Labelled(
        name,
        train_images,
        train_labels.astype(np.int32),
        test_images,
        test_labels.astype(np.int32),
        list(characters),
        about,
        {"data": {"dataset": name, "sample": False, "sha256 of the arrays": sums}},
    )


def _kanji(corpus: corpora.Corpus, split: str) -> Labelled:
    """The classes are those of the train split. Held-out images of other classes are left out,
    since no answer could be right."""
    chosen, points = old_examples(corpus, "train")
    classes, labels = np.unique(points, return_inverse=True)
    queries, query_points = old_examples(corpus, split)
    known = np.isin(query_points, classes)
    about = (
        f"this project's split {split}, {known.sum():,} images of"
        f" {len(np.unique(query_points[known])):,} of the {len(classes):,} classes of train"
        + (" (the built-in sample corpus)" if corpus.is_sample else "")
    )
    if not known.any():
        raise corpora.DataError(
            f"{corpus.folder}: holds no images of the split {split!r}; choose another, or get the"
            " files that are missing"
        )
    return Labelled(
        "kkanji",
        corpus.old.images[chosen],
        labels.astype(np.int32),
        corpus.old.images[queries[known]],
        np.searchsorted(classes, query_points[known]).astype(np.int32),
        [chr(c) for c in classes],
        about,
        corpus_provenance(corpus),
    )
