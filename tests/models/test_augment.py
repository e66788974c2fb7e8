"""transfer.models.augment: batches stay images, the same key gives the same batch, and no ink
leaves the page by resizing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transfer.models import augment

WARP = jax.jit(augment.warp, static_argnums=(2, 3))


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (3, 64, 64), dtype=np.uint8)
    shapes = np.zeros((3, 64, 64), np.uint8)
    shapes[0, 20:44, 10:50], shapes[1], shapes[2, 63, 63] = 255, 255, 255
    return jnp.asarray(np.concatenate([noise, shapes]))


@pytest.fixture(scope="module")
def apply():
    return jax.jit(augment.augment, static_argnums=(2, 3))


@pytest.mark.parametrize("kind", ["paper", "photo", "warp", "none"])
def test_batches_are_images_in_0_to_1_decided_by_the_key(kind, images, apply):
    first, again, other = (
        np.asarray(apply(images, jax.random.key(k), kind, 1.0)) for k in (0, 0, 1)
    )
    assert first.shape == (6, 64, 64) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1 + 1e-6
    np.testing.assert_array_equal(first, again)
    if kind == "none":
        np.testing.assert_allclose(first, np.asarray(images, np.float32) / 255, rtol=1e-6)
    else:
        assert (np.abs(first - other).reshape(6, -1).max(1)[:5] > 0.1).all()


@pytest.mark.parametrize("kind", ["paper", "warp"])
def test_images_of_a_batch_are_changed_each_in_its_own_way(kind, images, apply):
    got = np.asarray(apply(jnp.tile(images[3:4], (8, 1, 1)), jax.random.key(0), kind, 1.0))
    assert all(np.abs(got[a] - got[b]).max() > 0.1 for a in range(8) for b in range(a))


def test_resizing_keeps_all_ink_on_the_page_at_48_to_64_pixels():
    blobs = np.zeros((256, 64, 64), np.uint8)
    for i, (y, x) in enumerate(np.random.default_rng(0).integers(0, 57, (256, 2))):
        blobs[i, y : y + 8, x : x + 8] = 255
    blobs[:64] = 0
    blobs[:64, :8, :8] = blobs[:64, -8:, -8:] = 255  # corners stay too
    got = np.asarray(jax.jit(augment.resize_and_place)(jnp.asarray(blobs), jax.random.key(0)))
    share = got.sum((1, 2)) / (blobs / 255.0).sum((1, 2))
    low = 48 / 64
    assert low**2 * 0.9 < share.min() < 0.65 and 0.92 < share.max() < 1.1
    full = np.asarray(
        jax.jit(augment.resize_and_place)(
            jnp.full((512, 64, 64), 255, jnp.uint8), jax.random.key(1)
        )
    )
    height, width = (full.max(2) > 0.5).sum(1), (full.max(1) > 0.5).sum(1)
    assert set(height) == set(width) == set(range(48, 65))
    assert np.corrcoef(height, width)[0, 1] < 0.2  # each axis is resized by itself
    top = (full.max(2) > 0.5).argmax(1)
    assert (
        (top <= 64 - height).all()
        and (top[height < 60] > 0).any()
        and (top[height < 60] == 0).any()
    )


def test_warp_of_strength_0_is_the_identity(images):
    for thickness in (0.0, 0.5):  # strength scales the thickness as well
        np.testing.assert_allclose(
            WARP(images, jax.random.key(3), 0.0, thickness), np.asarray(images) / 255, atol=1e-3
        )


def test_warp_moves_further_the_stronger_it_is():
    disc = np.hypot(*np.mgrid[-32:32, -32:32]) < 6
    images = jnp.asarray(np.tile(np.uint8(255 * disc), (64, 1, 1)))
    moved = []
    for strength in (0.35, 1.0):
        got = np.asarray(WARP(images, jax.random.key(0), strength, 0.0))
        centre = np.stack(
            [(got * axis).sum((1, 2)) / got.sum((1, 2)) for axis in np.mgrid[-32:32, -32:32]], 1
        )
        moved.append(np.hypot(*(centre + 0.5).T))
    assert 0.3 < moved[0].mean() < moved[1].mean() < 6 and moved[1].max() < 12


def test_thickness_makes_strokes_heavier_and_lighter():
    line = np.zeros((64, 64, 64), np.uint8)
    line[:, 30:34, 10:54] = 255
    mean = lambda thickness: np.asarray(
        WARP(jnp.asarray(line), jax.random.key(0), 1.0, thickness)
    ).mean((1, 2))
    share = mean(0.5) / mean(0.0)
    assert share.min() < 0.85 and share.max() > 1.15


DISTURB = jax.jit(augment.disturb)


@pytest.fixture(scope="module")
def disturbed():
    """2,000 squares of ink, disturbed: what is inside of them and what is outside."""
    clean = np.zeros((2000, 64, 64), np.float32)
    clean[:, 20:44, 20:44] = 1
    got = np.asarray(DISTURB(jnp.asarray(clean), jax.random.key(0)))
    return clean, got


def test_disturbed_images_stay_images_and_most_ink_stays(disturbed):
    clean, got = disturbed
    assert got.shape == clean.shape and got.min() >= 0 and got.max() <= 1
    assert 0.75 < got[clean > 0].mean() < 0.95
    assert np.corrcoef(got.ravel()[::7], clean.ravel()[::7])[0, 1] > 0.85


def test_each_disturbance_meets_about_its_share_of_the_images(disturbed):
    clean, got = disturbed
    inside, outside = got[:, 24:40, 24:40], got[:, :, :12]
    thicker = (got[:, 32, 19] > 0.5).mean()
    assert 0.05 < thicker < 0.4
    assert 0.15 < (outside.max((1, 2)) > 0.05).mean() < 0.6  # grain, neighbours, frames
    assert 0.05 < (inside.min((1, 2)) == 0).mean() < 0.45  # worn or hidden places
    assert 0.15 < (np.quantile(inside, 0.9, axis=(1, 2)) < 0.95).mean() < 0.5  # pale ink


def test_a_neighbour_is_another_image_of_the_batch_and_comes_from_one_side():
    """White and black images take turns: what is black in a white one is its neighbour's."""
    clean = np.zeros((1000, 64, 64), np.float32)
    clean[::2] = 1
    got = np.asarray(DISTURB(jnp.asarray(clean), jax.random.key(1)))[1::2]
    strips = (got > 0.3).mean((1, 2))
    full = np.stack(
        [
            got[:, :2].mean((1, 2)),
            got[:, -2:].mean((1, 2)),
            got[:, :, :2].mean((1, 2)),
            got[:, :, -2:].mean((1, 2)),
        ]
    )
    from_a_side = (full > 0.3).any(0)
    assert 0.05 < from_a_side.mean() < 0.25 and strips[from_a_side].max() < 0.45


def test_small_originals_lose_what_is_finer_than_their_pixels():
    stripes = np.zeros((400, 64, 64), np.float32)
    stripes[:, :, ::2] = 1
    got = np.asarray(DISTURB(jnp.asarray(stripes), jax.random.key(2)))
    contrast = np.abs(np.diff(got[:, 16:48, 16:48], axis=2)).mean((1, 2))
    assert 0.15 < (contrast < 0.2).mean() < 0.75
