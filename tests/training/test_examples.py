"""transfer.training.examples: the training examples of the old domain's models, their shares, and
which classes compete for an image."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from transfer.data import corpus as corpora
from transfer.data.writing.fonts import Fonts
from transfer.data.writing.hands import Hands
from transfer.data.writing.kana import Hiragana
from transfer.training import examples

COUNTS = np.array([1, 2, 5, 30, 12])


# Drawing batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_classes_are_drawn_by_their_size_to_the_power_of_one_less_balance(balance):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
    table = {k: jnp.asarray(v) for k, v in examples.class_table(labels, balance).items()}
    index, label = (
        np.asarray(a)
        for a in jax.jit(examples.draw, static_argnums=1)(table, 20_000, jax.random.key(0))
    )
    np.testing.assert_array_equal(labels[index], label)
    weight = COUNTS ** (1 - balance)
    assert (
        stats.chisquare(np.bincount(label, minlength=5), 20_000 * weight / weight.sum()).pvalue
        > 1e-3
    )
    # Within a class every example is as likely as another.
    expected = (20_000 * weight / weight.sum() / COUNTS)[labels]
    assert stats.chisquare(np.bincount(index, minlength=50), expected).pvalue > 1e-3


def test_draw_reaches_first_and_last_of_thousands_of_classes():
    table = {k: jnp.asarray(v) for k, v in examples.class_table(np.arange(3800), 0.5).items()}
    index, label = examples.draw(table, 200_000, jax.random.key(0))
    assert set(np.asarray(label)) == set(range(3800))
    np.testing.assert_array_equal(index, label)


# The pool -----------------------------------------------------------------------------------------

KANA, POINTS = ord("あ"), np.array([0x4E00, 0x4E00, 0x4E8C, 0x56FD])
"""一 twice, 二, 国."""


def grey(*values) -> np.ndarray:
    return np.array(values, np.uint8)[:, None, None] * np.ones((1, 64, 64), np.uint8)


def given(fonts: bool = True, hands: bool = True, sample: bool = False) -> SimpleNamespace:
    """Four images of books; a font to train on with 二, 二, 三, 國 and あ, and one that is kept out with
    三; made hands of 一 and 三."""
    records = [
        {"name": n, "sha256": "ab", "bytes": 1, "role": role}
        for n, role in (("a.ttf", "train"), ("b.ttf", "unseen"))
    ]
    drawn = Fonts(
        grey(10, 11, 12, 13, 14, 15),
        np.array([0x4E8C, 0x4E8C, 0x4E09, 0x4E09, 0x570B, KANA], np.int32),
        np.array([0, 0, 0, 1, 0, 0], np.uint8),
        ["a.ttf", "b.ttf"],
        records,
    )
    made = Hands(grey(20, 21), np.array([0x4E00, 0x4E09], np.int32), {})
    return SimpleNamespace(
        old=SimpleNamespace(images=grey(1, 2, 3, 4, 5)),
        folder=Path("none"),
        is_sample=sample,
        fonts=drawn if fonts else None,
        hands=made if hands else None,
    )


def test_shares_of_the_batch_come_from_fonts_and_made_hands():
    pool = examples.pool(given(), np.array([0, 1, 2, 4]), POINTS, 0.0, 0.25, 0.2)
    assert [chr(c) for c in pool.classes] == ["一", "三", "二", "国", "國"]
    assert (
        pool.images[:, 0, 0].tolist() == [1, 2, 3, 5, 10, 11, 12, 14, 20, 21] and pool.real == 4
    )  # without kana, and the kept font
    assert pool.photographed.tolist() == [True, False, True, True, False]
    tables = jax.tree.map(jnp.asarray, pool.tables)
    draw = jax.jit(lambda key: examples.mix(tables, {"fonts": 0.25, "hands": 0.2}, 12_000, key))
    index, label = (np.asarray(a) for a in draw(jax.random.key(0)))
    points = np.concatenate([POINTS, [0x4E8C, 0x4E8C, 0x4E09, 0x570B, 0x4E00, 0x4E09]])
    np.testing.assert_array_equal(points[index], pool.classes[label])
    # Images of books all alike (balance 0), of fonts and made hands every character alike.
    expected = 12_000 * np.concatenate(
        [np.full(4, 0.55 / 4), 0.25 / 3 / np.array([2, 2, 1, 1]), np.full(2, 0.1)]
    )
    assert stats.chisquare(np.bincount(index, minlength=10), expected).pvalue > 1e-3


@pytest.mark.parametrize(
    "corpus, fonts, hands", [(given(False, False), 0.25, 0.2), (given(), 0.0, 0.0)]
)
def test_without_fonts_and_hands_or_with_shares_of_0_books_alone(corpus, fonts, hands):
    pool = examples.pool(corpus, np.array([0, 1, 2, 4]), POINTS, 0.0, fonts, hands)
    assert len(pool.images) == 4 and list(pool.tables) == ["real"]
    index, _ = examples.mix(
        jax.tree.map(jnp.asarray, pool.tables),
        {"fonts": fonts, "hands": hands},
        50,
        jax.random.key(0),
    )
    assert int(index.max()) < 4


def test_books_alone_unless_other_shares_are_given():
    pool = examples.pool(given(), np.array([0, 1, 2, 4]), POINTS, 0.0)
    assert list(pool.tables) == ["real"] and pool.real == len(pool.images) == 4


def test_kana_join_the_images_of_books_where_they_are_asked_for(monkeypatch):
    learned = Hiragana(grey(30, 31), np.array([KANA, ord("の")], np.int32))
    monkeypatch.setattr(examples.kana, "learned", lambda folder: learned)
    pool = examples.pool(given(), np.array([0, 1, 2, 4]), POINTS, 0.0, 0.25, 0.2, kana_too=True)
    assert (
        pool.images[:, 0, 0].tolist() == [1, 2, 3, 5, 30, 31, 10, 11, 12, 14, 15, 20, 21]
        and pool.real == 6
    )
    assert [chr(c) for c in pool.classes[pool.photographed]] == ["あ", "の", "一", "二", "国"]
    assert (
        ord("あ") not in examples.pool(given(), np.array([0]), POINTS[:1], 0.0, 0.25, 0.2).classes
    )


def test_books_say_nothing_about_classes_without_books_nor_an_image_about_its_other_forms():
    pool = examples.pool(given(), np.array([0, 1, 2, 4]), POINTS, 0.0, 0.25, 0.2)  # 一 三 二 国 國
    index = jnp.array([0, 3, 4, 7])
    label = jnp.array([0, 3, 2, 4])
    part = examples.taking_part(jax.tree.map(jnp.asarray, pool.data()), pool.real, index, label)
    assert part.tolist() == [
        [True, False, True, True, False],  # 一 of a book
        [
            True,
            False,
            True,
            True,
            False,
        ],  # 国 of a book: 國 has no image, and is a form of it besides
        [True, True, True, True, True],  # 二 of a font
        [True, True, True, False, True],
    ]  # 國 of a font: not 国


def test_forms_of_one_character_are_one_group():
    group = examples.form_groups(np.array([ord(c) for c in "一国國広廣山"]))
    assert group[1] == group[2] and group[3] == group[4] and len(set(group.tolist())) == 4


def test_classes_that_are_set_aside_are_rare_ones_chosen_by_hash_whatever_the_order():
    points = np.repeat(np.arange(0x4E00, 0x4E00 + 60), [1, 2, 3, 4, 5, 100] * 10)
    aside = examples.set_aside(points, 12)
    assert len(aside) == 12 and set((aside - 0x4E00) % 6) <= {0, 1, 2}
    np.testing.assert_array_equal(examples.set_aside(points[::-1], 12), aside)
    assert (
        set(examples.set_aside(points, 5)) < set(aside) and len(examples.set_aside(points, 0)) == 0
    )
    assert (
        aside.tolist() != sorted(set(points[np.isin((points - 0x4E00) % 6, [0, 1, 2])]))[:12]
    )  # not simply the first ones


def test_attributes_are_components_and_stroke_counts(monkeypatch):
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    new = corpora.load(quiet=True).new
    classes = np.sort(new.code_points[new.gallery()])
    found = examples.attributes(new, classes)
    assert (
        found.dtype == np.uint8 and len(found) == len(classes) and set(np.unique(found)) == {0, 1}
    )
    strokes = found[:, -len(examples.STROKES) :].sum(1) + examples.STROKES[0] - 1
    glyph = {int(new.code_points[i]): int(i) for i in new.gallery()}
    for point, count in zip(classes, strokes):
        assert count == max(len(new.strokes(glyph[int(point)])), 1)


def test_a_character_that_kanjivg_lacks_has_no_attribute(monkeypatch):
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    found = examples.attributes(corpora.load(quiet=True).new, np.array([0x4E00, 0x2A6D6]))
    # Two characters share no component either: stroke counts alone are left, 一 has fewer than 2.
    assert found.dtype == np.uint8 and found.tolist() == [[0] * len(examples.STROKES)] * 2
