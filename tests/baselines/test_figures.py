"""transfer.baselines.figures: what each picture shows, where, and under which words."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw

from transfer.baselines import discriminant, figures
from transfer.baselines.datasets import Labelled
from transfer.evaluation.classification import Answers

GREY = (110, 110, 110)


@pytest.fixture
def shown(monkeypatch):
    """The figures of matplotlib that are saved, by file name."""
    found = {}
    monkeypatch.setattr(
        figures, "_save", lambda figure, path: found.setdefault(Path(path).name, figure)
    )
    return found


@pytest.fixture
def data():
    """Four classes with 6, 5, 4 and 3 training images and 3, 3, 2 and 4 held-out ones."""
    random = np.random.default_rng(0)
    train, test = np.repeat(np.arange(4), (6, 5, 4, 3)), np.repeat(np.arange(4), (3, 3, 2, 4))
    images = random.integers(0, 256, (len(train) + len(test), 28, 28)).astype(np.uint8)
    return Labelled(
        "kmnist",
        images[: len(train)],
        train.astype(np.int32),
        images[len(train) :],
        test.astype(np.int32),
        ["a", "花", "b", "c"],
        "synthetic",
        {},
    )


def answers(data, chosen, sure=None):
    log = np.full((len(chosen), 4), -9.0, np.float32)
    log[np.arange(len(chosen)), chosen] = -0.1 if sure is None else np.log(sure)
    return Answers(log, data.test_labels, data.train_count)


def test_a_figure_is_saved_as_png_and_whole(tmp_path):
    figure, panels = figures._axes(2, 1, 2)
    assert len(panels) == 2 and figure.get_size_inches().tolist() == [2, 1]
    figures._save(figure, tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.size == (220, 110)


def test_learning_curves_have_the_losses_and_what_was_held_out(tmp_path, shown):
    lines = [
        {"step": 50, "cross_entropy": 3.0, "accuracy": 0.1, "seconds": 1},
        {"step": 60, "val/cross_entropy": 2.5, "val/accuracy": 0.3, "val/other": 7},
        {"step": 100, "cross_entropy": 2.0, "accuracy": 0.4},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figures.curves(tmp_path / "metrics.jsonl", tmp_path / "c.png")
    left, right = shown["c.png"].axes
    for axes, trained, held in (
        (left, [[50, 3.0], [100, 2.0]], [[60, 2.5]]),
        (right, [[50, 0.1], [100, 0.4]], [[60, 0.3]]),
    ):
        assert [line.get_xydata().tolist() for line in axes.lines] == [trained, held]
        assert [line.get_label() for line in axes.lines] == ["training batches", "held-out images"]
        assert [line.get_marker() for line in axes.lines] == ["None", "o"]
        assert axes.get_xlabel() == "step" and axes.xaxis.get_gridlines()[0].get_visible()
    assert (left.get_ylabel(), right.get_ylabel()) == ("cross-entropy, nats", "share right")
    assert left.get_legend() and not right.get_legend()
    (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[0]) + "\n")
    figures.curves(tmp_path / "metrics.jsonl", tmp_path / "d.png")
    assert [len(axes.lines) for axes in shown["d.png"].axes] == [1, 1]


def test_the_matrix_has_shares_of_each_true_class(tmp_path, shown, data):
    chosen = np.array([0, 0, 1, 1, 1, 1, 0, 3, 3, 3, 3, 2])
    figures.matrix(answers(data, chosen), data.names, tmp_path / "m.png")
    axes, bar = shown["m.png"].axes
    share = [[2 / 3, 1 / 3, 0, 0], [0, 1, 0, 0], [0.5, 0, 0, 0.5], [0, 0, 0.25, 0.75]]
    [image] = axes.images
    np.testing.assert_allclose(image.get_array(), np.sqrt(share), rtol=1e-6)
    assert image.get_clim() == (0, 1)
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [t.get_text() for t in ticks] == ["a", "U+82B1", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answered", "true")
    assert bar.get_ylabel() == "square root of the share"
    some = Answers(np.eye(4, dtype=np.float32)[:1], np.array([0]), data.train_count)
    figures.matrix(some, data.names, tmp_path / "n.png")  # classes that nobody asks for
    assert np.asarray(shown["n.png"].axes[0].images[0].get_array()).sum() == 1


@pytest.fixture
def said(monkeypatch):
    """Where each text is written, and in which colour."""
    found, write = {}, ImageDraw.ImageDraw.text

    def text(self, at, words, fill=None, font=None, **given):
        found[words] = at, fill
        return write(self, at, words, fill, font, **given)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


def test_the_sheet_has_the_commonest_confusions_with_their_images(tmp_path, said, data):
    chosen = np.array([1, 1, 0, 1, 1, 0, 2, 2, 3, 3, 3, 1])  # a as 花 twice, 花 as a, c as 花
    figures.sheet(answers(data, chosen), data, tmp_path / "s.png", rows=2, images=1)
    assert said["true"] == ((150, 4), GREY) and said["answered"] == ((212, 4), GREY)
    assert said["mistaken images"] == ((294, 4), GREY)
    rows = [words for words in said if " read as\n" in words]
    assert rows == ["a read as\nU+82B1: 2 times", "U+82B1 read as\na: 1 times"]
    assert said[rows[0]] == ((6, 38), "black") and said[rows[1]] == ((6, 102), "black")
    with Image.open(tmp_path / "s.png") as image:
        page = np.asarray(image.convert("RGB"))
    assert page.shape == (24 + 2 * 64, 150 + 3 * 62 + 20, 3)
    grown = lambda image: np.kron(255 - image, np.ones((2, 2), np.uint8))[..., None]
    for row, (true, answered, wrong) in enumerate(((0, 1, 0), (1, 0, 5))):
        y = 24 + 64 * row
        for x, image, frame in (
            (150, figures.typical(data, true), (190, 210, 190)),
            (212, figures.typical(data, answered), (190, 210, 190)),
            (294, data.test_images[wrong], (225, 190, 190)),
        ):
            inside = page[y : y + 56, x : x + 56]
            np.testing.assert_array_equal(inside, np.broadcast_to(grown(image), inside.shape))
            for at in ((y - 1, x - 1), (y + 56, x + 56), (y - 1, x + 56), (y + 56, x - 1)):
                assert tuple(page[at]) == frame


def test_a_sheet_without_mistakes_says_so(tmp_path, said, data):
    figures.sheet(answers(data, data.test_labels), data, tmp_path / "s.png")
    assert said["nothing was mistaken"] == ((6, 30), "black")
    with Image.open(tmp_path / "s.png") as image:
        assert image.size == (150 + 10 * 62 + 20, 24 + 64)
    # Fourteen rows of eight images at most.
    labels = np.repeat(np.arange(20), 9).astype(np.int32)
    log = np.eye(20, dtype=np.float32)[(labels + 1) % 20]
    many = Labelled(
        "k49",
        np.zeros((20, 28, 28), np.uint8),
        np.arange(20, dtype=np.int32),
        np.zeros((180, 28, 28), np.uint8),
        labels,
        list("abcdefghijklmnopqrst"),
        "",
        {},
    )
    figures.sheet(Answers(log, labels, many.train_count), many, tmp_path / "t.png")
    with Image.open(tmp_path / "t.png") as image:
        assert image.size == (150 + 10 * 62 + 20, 24 + 14 * 64)
        assert image.getpixel((150 + 9 * 62 + 20 + 28, 24 + 28)) == (255, 255, 255)  # 255 - 0
        assert image.getpixel((150 + 9 * 62 + 19, 23)) == (225, 190, 190)


def test_the_typical_image_is_nearest_to_the_mean_of_the_first_500(data):
    images = np.zeros((503, 28, 28), np.uint8)
    images[:500:2], images[1:500:2], images[250], images[500:] = 40, 60, 50, 255
    labels = np.zeros(503, np.int32)
    many = Labelled("mnist", images, labels, images, labels, ["0"], "", {})
    assert figures.typical(many, 0)[0, 0] == 50
    assert (figures.typical(data, 2) == data.train_images[11:15]).all((1, 2)).any()


def test_the_largest_classes_are_chosen(data):
    train, test = figures.choose(data, classes=2, images=4)
    assert train.tolist() == [0, 1, 2, 3, 6, 7, 8, 9] and test.tolist() == [0, 1, 2, 3, 4, 5]
    train, test = figures.choose(data)
    assert train.tolist() == list(range(18)) and test.tolist() == list(range(12))
    assert _largest(12, 101) == (10 * 100, 10 * 100)


def _largest(classes, each):
    labels = np.repeat(np.arange(classes), each).astype(np.int32)
    images = np.zeros((len(labels), 1, 1), np.uint8)
    names = [str(n) for n in range(classes)]
    data = Labelled("k49", images, labels, images, labels, names, "", {})
    return tuple(map(len, figures.choose(data)))


def test_the_plane_is_that_of_training_images_and_held_out_ones_lie_in_it(tmp_path, shown, data):
    random = np.random.default_rng(1)
    chosen = figures.choose(data, classes=3)
    train, test = (random.normal(size=(len(index), 5)) for index in chosen)
    train[:, 0] += 3 * data.train_labels[chosen[0]]
    figures.embedding(train, test, data, chosen, tmp_path / "e.png")
    [axes] = shown["e.png"].axes
    dots, rings = axes.collections
    plane = discriminant.fit(train, data.train_labels[chosen[0]], 3, 2)
    np.testing.assert_allclose(dots.get_offsets(), train @ plane.kernel + plane.bias)
    np.testing.assert_allclose(rings.get_offsets(), test @ plane.kernel + plane.bias)
    colour = {c: tuple(np.round(dots.get_facecolors()[i][:3], 3)) for i, c in ((0, 0), (6, 1))}
    assert colour == {0: (0.122, 0.467, 0.706), 1: (1.0, 0.498, 0.055)}  # C0 and C1
    assert len(rings.get_facecolors()) == 0 and len(rings.get_edgecolors()) == len(test)
    assert tuple(np.round(rings.get_edgecolors()[3][:3], 3)) == colour[1]
    boxes = [a for a in axes.artists if hasattr(a, "xy")]
    np.testing.assert_allclose([box.xy for box in boxes], plane.means)
    pictures = [np.asarray(box.offsetbox.get_data()) for box in boxes]
    for c, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture, 255 - figures.typical(data, c))
    assert [round(box.offsetbox.get_zoom(), 6) for box in boxes] == [1.0] * 3
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["training images", "held-out images"]
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0


def test_saliency_is_the_gradient_of_the_answer_by_the_pixels(tmp_path, shown, data):
    kernel = np.random.default_rng(2).normal(size=(784, 4)).astype(np.float32) / 28
    logits = lambda images: images.reshape(len(images), -1) @ jnp.asarray(kernel)
    chosen = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 1])
    sure = np.array([0.9, 0.3, 0.8, 0.31, 0.32, 0.33, 0.34, 0.35, 0.36, 0.37, 0.38, 0.99])
    cases = answers(data, chosen, sure)
    figures.saliency(logits, cases, data, tmp_path / "a.png", each=2, draws=2, noise=0.0)
    figure = shown["a.png"]
    panels = np.array(figure.axes).reshape(4, 2)
    assert not any(axes.axison for axes in panels.ravel())
    # Right: the surest two, images 0 and 2. Wrong: image 11 alone.
    for row, column, index, title in (
        (0, 0, 0, "a\nread a"),
        (0, 1, 2, "a\nread a"),
        (2, 0, 11, "c\nread U+82B1"),
    ):
        [image] = panels[row, column].images
        np.testing.assert_array_equal(image.get_array(), 255 - data.test_images[index])
        assert image.get_clim() == (0, 255) and image.get_cmap().name == "gray"
        assert panels[row, column].get_title() == title
        [heat] = panels[row + 1, column].images
        x = np.asarray(data.test_images[index], np.float32).reshape(-1) / 255
        share = np.asarray(jax.nn.softmax(x @ kernel))
        wanted = abs(kernel[:, chosen[index]] - kernel @ share).reshape(28, 28)
        np.testing.assert_allclose(heat.get_array(), wanted, rtol=1e-3, atol=1e-6)
    assert not panels[2, 1].images and not panels[3, 1].images
    right = answers(data, data.test_labels)
    figures.saliency(logits, right, data, tmp_path / "b.png", each=1, draws=1)
    assert [len(axes.images) for axes in shown["b.png"].axes] == [1, 1, 0, 0]
