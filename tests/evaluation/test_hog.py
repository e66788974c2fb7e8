import numpy as np

from transfer.evaluation.hog import BINS, CELLS, HogJudge, features
from transfer.evaluation.judges import clean_images


def slow(image):
    """One image, pixel by pixel."""
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    pixels = np.pad(image / 255.0, 2)
    blurred = np.zeros((64, 64))
    for y in range(64):
        for x in range(64):
            blurred[y, x] = kernel @ pixels[y : y + 5, x : x + 5] @ kernel
    down, right = np.gradient(blurred)
    cells = np.zeros((CELLS, CELLS, BINS))
    for y in range(64):
        for x in range(64):
            turn = (np.arctan2(down[y, x], right[y, x]) % np.pi) / np.pi * BINS
            size, bin_ = np.hypot(down[y, x], right[y, x]), int(turn)
            cells[y // 8, x // 8, bin_ % BINS] += size * (1 - (turn - bin_))
            cells[y // 8, x // 8, (bin_ + 1) % BINS] += size * (turn - bin_)
    flat = np.sqrt(cells.ravel())
    return flat / np.linalg.norm(flat)


def test_features_against_a_plain_loop(sample_corpus):
    images = np.asarray(sample_corpus.new.images[5:8])
    np.testing.assert_allclose(features(images), [slow(i) for i in images], atol=2e-4)


def test_blank_gives_zeros_and_every_glyph_is_nearest_to_itself(sample_corpus):
    assert not features(np.zeros((1, 64, 64), np.uint8)).any()
    gallery = sample_corpus.new.gallery()
    images = clean_images(sample_corpus, gallery)
    answers = HogJudge(images, gallery).similarities(images).argmax(1)
    assert (answers == np.arange(len(gallery))).all()
