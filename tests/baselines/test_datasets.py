"""The four data sets from files in the exact published formats."""

import gzip
import struct

import numpy as np
import pytest

from transfer.baselines import datasets
from transfer.data.corpus import load as load_corpus
from transfer.data.published import kmnist, mnist
from transfer.system.errors import DataError


def idx(path, array):
    path.write_bytes(
        gzip.compress(
            bytes([0, 0, 8, array.ndim])
            + struct.pack(f">{array.ndim}I", *array.shape)
            + array.tobytes(),
            1,
        )
    )


def kana(folder, name, split, count, classes, form="npz"):
    """Files of `count` images as the publishers write them; an image tells its number. Returns
    images and labels."""
    images = np.zeros((count, 28, 28), np.uint8)
    images.reshape(count, -1)[:, :4] = (
        np.arange(count, dtype=">u4").view(np.uint8).reshape(count, 4)
    )
    labels = (np.arange(count) % classes).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    if form == "npz":
        np.savez_compressed(folder / f"{name}-{split}-imgs.npz", images)
        np.savez_compressed(folder / f"{name}-{split}-labels.npz", labels)
    else:
        begin = "train" if split == "train" else "t10k"
        idx(folder / f"{begin}-images-idx3-ubyte.gz", images)
        idx(folder / f"{begin}-labels-idx1-ubyte.gz", labels)
    return images, labels


@pytest.mark.parametrize(
    "name, form, classes",
    [("mnist", "idx", 10), ("kmnist", "idx", 10), ("kmnist", "npz", 10), ("k49", "npz", 49)],
)
def test_the_published_split_is_used_where_it_is(tmp_path, name, form, classes):
    train, labels = kana(tmp_path / name, name, "train", 120, classes, form)
    test, asked = kana(tmp_path / name, name, "test", 60, classes, form)
    data = datasets.load(name, tmp_path)
    np.testing.assert_array_equal(data.train_images, train)
    np.testing.assert_array_equal(data.test_images, test)
    np.testing.assert_array_equal(data.train_labels, labels)
    np.testing.assert_array_equal(data.test_labels, asked)
    assert (
        len(data.names) == classes
        and data.about == "the published split"
        and data.train_count.sum() == 120
    )
    assert data.provenance["data"]["dataset"] == name
    assert (
        data.provenance["data"]["sha256 of the arrays"]["train"]
        != data.provenance["data"]["sha256 of the arrays"]["test"]
    )
    assert (
        data.names[:2] == {"mnist": ["0", "1"], "kmnist": ["お", "き"], "k49": ["あ", "い"]}[name]
    )


def test_mnist_and_kuzushiji_mnist_do_not_take_each_others_files(tmp_path):
    kana(tmp_path / "kmnist", "kmnist", "train", 20, 10, "idx")
    kana(tmp_path / "kmnist", "kmnist", "test", 20, 10, "idx")
    with pytest.raises(DataError, match="mnist: train-images-idx3-ubyte.gz and train-labels"):
        datasets.load("mnist", tmp_path)
    kana(tmp_path / "mnist", "mnist", "test", 30, 10, "idx")
    assert (
        len(mnist.load("test", tmp_path).images) == 30
        and len(kmnist.load("kmnist", "test", tmp_path).images) == 20
    )


def test_without_training_images_kuzushiji_mnist_is_cut_by_index_and_says_so(tmp_path):
    images, labels = kana(tmp_path / "kmnist", "kmnist", "test", 1000, 10)
    data, again = (datasets.load("kmnist", tmp_path) for _ in range(2))
    assert (
        len(data.train_images) == 800
        and len(data.test_images) == 200
        and "not the published split" in data.about
    )
    np.testing.assert_array_equal(data.train_images, again.train_images)
    number = lambda images: images.reshape(len(images), -1)[:, :4].copy().view(">u4").ravel()
    train, test = number(data.train_images), number(data.test_images)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(1000))
    np.testing.assert_array_equal(data.train_labels, labels[train])
    np.testing.assert_array_equal(data.test_labels, labels[test])


@pytest.mark.parametrize("name", ["mnist", "k49"])
def test_what_is_missing_is_one_line(tmp_path, name):
    kana(tmp_path / name, name, "test", 20, 10, "idx" if name == "mnist" else "npz")
    with pytest.raises(DataError, match="train.* missing") as error:
        datasets.load(name, tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_training_file_is_no_missing_one(tmp_path):
    kana(tmp_path / "kmnist", "kmnist", "train", 20, 10)
    kana(tmp_path / "kmnist", "kmnist", "test", 20, 10)
    (tmp_path / "kmnist" / "kmnist-train-imgs.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="kmnist-train-imgs.npz"):
        datasets.load("kmnist", tmp_path)


def test_labels_of_mnist_must_fit(tmp_path):
    kana(tmp_path / "mnist", "mnist", "train", 20, 10, "idx")
    idx(tmp_path / "mnist" / "train-labels-idx1-ubyte.gz", np.full(20, 10, np.uint8))
    with pytest.raises(DataError, match="label 10 where there are 10 classes"):
        mnist.load("train", tmp_path)
    with pytest.raises(DataError, match="train and test"):
        mnist.load("val", tmp_path)


def test_kanji_of_the_sample(monkeypatch):
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    data = datasets.load("kkanji")
    corpus = load_corpus(quiet=True)
    train, val = corpus.old.indices("train"), corpus.old.indices("val")
    assert len(data.train_images) == len(train) and 0 < len(data.test_images) <= len(val)
    points = np.array([ord(c) for c in data.names])
    np.testing.assert_array_equal(points[data.train_labels], corpus.old.code_points[train])
    assert (
        np.isin(points[data.test_labels], corpus.old.code_points[val]).all()
        and (data.train_count > 0).all()
    )
    assert "sample corpus" in data.about and data.provenance["data"]["sample"]
    assert len(datasets.load("kkanji", split="test").test_images) > 0


@pytest.mark.long
def test_files_of_kuzushiji_49s_published_size(tmp_path):
    """All 270,912 images through the loader and the exact neighbours' blocks, for a few of the test
    images."""
    from transfer.baselines import knn

    for split in ("train", "test"):
        kana(tmp_path / "k49", "k49", split, kmnist.COUNTS["k49", split], 49)
    data = datasets.load("k49", tmp_path)
    assert (len(data.train_images), len(data.test_images)) == (232_365, 38_547)
    distances, indices = knn.neighbours(data.train_images, data.test_images[:1030], 4)
    np.testing.assert_array_equal(distances[:, 0], 0)
    np.testing.assert_array_equal(indices[:, 0], np.arange(1030))
