"""Exact nearest neighbours against scikit-learn and against plain integer arithmetic."""

import numpy as np
import pytest

from transfer.baselines import knn


def images(count, seed, size=28, levels=256):
    """Blobs that differ a little, so that near neighbours are near."""
    random = np.random.default_rng(seed)
    coarse = random.random((count, 7, 7)) ** 3
    fine = np.kron(coarse, np.ones((1, size // 7, size // 7))) * random.uniform(
        0.5, 1, (count, 1, 1)
    ) + random.normal(0, 0.02, (count, size, size))
    return np.uint8(np.round(fine.clip(0, 1) * (levels - 1)) * (255 // (levels - 1)))


def plain(train, test, k):
    train, test = (a.reshape(len(a), -1).astype(np.int64) for a in (train, test))
    square = np.stack([((train - t) ** 2).sum(1) for t in test])
    index = np.argsort(square, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(square, index, 1), index


@pytest.mark.parametrize(
    ("train", "test", "k", "blocks"),
    [
        (1000, 130, 4, (64, 256)),
        (333, 70, 1, (32, 100)),
        (20, 9, 4, (1024, 16384)),
        (5, 3, 5, (8, 16)),
        (1000, 50, 40, (64, 512)),
    ],
)
def test_neighbours_are_exact_whatever_the_blocks(train, test, k, blocks):
    a, b = images(train, 0), images(test, 1)
    distances, indices = knn.neighbours(a, b, k, *blocks)
    square, index = plain(a, b, k)
    np.testing.assert_array_equal(distances, square)
    np.testing.assert_array_equal(indices, index)


def test_ties_zeros_and_repeated_images_are_exact():
    few = images(40, 2, levels=2)
    train = np.concatenate([few] * 20)  # every image 20 times: the bound settles nothing
    test = np.concatenate(
        [
            few[:10],
            images(10, 3, levels=2),
            np.zeros((1, 28, 28), np.uint8),
            np.full((1, 28, 28), 255, np.uint8),
        ]
    )
    distances, indices = knn.neighbours(train, test, 4, 8, 64)
    square, index = plain(train, test, 4)
    np.testing.assert_array_equal(distances, square)
    np.testing.assert_array_equal(indices, index)
    assert (distances[:10] == 0).all()


def test_an_image_whose_group_was_not_kept_is_found_all_the_same():
    """Of equally near images the first lies in a group behind as many others as are kept: only
    comparing with everything finds it."""
    random = np.random.default_rng(0)
    train = np.uint8(random.integers(0, 100, (16 * 32, 28, 28)))
    near = np.uint8(random.integers(150, 250, (28, 28)))
    # One block of 32 groups, of which group g has the images g, g + 32, g + 64, ...: groups 0 to 27
    # get a copy late, 29 an early one.
    train[64 + np.arange(28)] = near
    train[29] = near
    for k in (1, 4):
        distances, indices = knn.neighbours(train, near[None], k)
        assert distances.tolist() == [[0] * k]
        assert indices.tolist() == [[29, 64, 65, 66][:k]]


def test_answers_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.neighbors")
    train, test = images(3000, 4), images(500, 5)
    test[:20] = train[:20]  # distance 0
    train[40:60] = train[20:40]  # the same picture under two labels
    test[20:40] = train[20:40]
    labels = np.random.default_rng(6).integers(0, 10, 3000)
    distances, indices = knn.neighbours(train, test, 4)
    shares = knn.vote(distances, labels[indices], 10)
    theirs = sklearn.KNeighborsClassifier(n_neighbors=4, weights="distance", algorithm="brute")
    theirs.fit(train.reshape(3000, -1).astype(np.float64), labels)
    flat = test.reshape(500, -1).astype(np.float64)
    np.testing.assert_allclose(np.sqrt(distances), theirs.kneighbors(flat)[0], rtol=1e-12)
    square, _ = plain(train, test, 5)
    alone = (
        square[:, 3] < square[:, 4]
    )  # else it is any of several that scikit-learn takes; ours takes the first
    assert alone[:40].all() and alone.sum() > 490
    np.testing.assert_allclose(shares[alone], theirs.predict_proba(flat)[alone], atol=1e-12)
    np.testing.assert_array_equal(shares[alone].argmax(1), theirs.predict(flat)[alone])
    assert (shares[20:40].max(1) < 1).any()  # two labels at distance 0 share the vote


def test_equal_distances_answer_as_scikit_learn_where_the_last_neighbour_is_alone():
    sklearn = pytest.importorskip("sklearn.neighbors")
    random = np.random.default_rng(7)
    train, test = (np.uint8(255 * (random.random((n, 4, 4)) < 0.5)) for n in (600, 200))
    labels = random.integers(0, 3, 600)
    square, _ = plain(train, test, 5)
    distances, indices = knn.neighbours(train, test, 4)
    np.testing.assert_array_equal(distances, square[:, :4])
    theirs = sklearn.KNeighborsClassifier(n_neighbors=4, weights="distance", algorithm="brute").fit(
        train.reshape(600, -1).astype(float), labels
    )
    np.testing.assert_allclose(
        np.sqrt(distances), theirs.kneighbors(test.reshape(200, -1).astype(float))[0], rtol=1e-12
    )
    alone = square[:, 3] < square[:, 4]
    assert 20 < alone.sum() < 190
    answers = theirs.predict_proba(test.reshape(200, -1).astype(float))
    np.testing.assert_allclose(
        knn.vote(distances, labels[indices], 3)[alone], answers[alone], atol=1e-12
    )


@pytest.mark.parametrize(
    ("train", "test", "k"),
    [
        (np.zeros((3, 4)), np.zeros((3, 4)), 1),
        (np.zeros((3, 4), np.uint8), np.zeros((3, 5), np.uint8), 1),
        (np.zeros((3, 4), np.uint8), np.zeros((3, 4), np.uint8), 4),
    ],
)
def test_what_does_not_fit_is_refused(train, test, k):
    with pytest.raises(ValueError):
        knn.neighbours(train, test, k)
