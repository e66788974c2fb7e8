"""Turns batches of uint8 images into augmented float32 images, inside the compiled training step.

Everything is a pure function of a key, runs on the device and has static shapes. Images are 64x64;
`warp` and `cutout` take any square.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

SIZE = 64


def to_float(images: jax.Array) -> jax.Array:
    """Images (B, 64, 64) uint8 as float32 in [0, 1], ink 1."""
    return images.astype(jnp.float32) / 255.0


def _sample(images: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Bilinear values of images (B, S, S) uint8 at pixel centres y, x (B, S, S); paper outside."""
    size = images.shape[1]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1)))
    flat = padded.reshape(images.shape[0], -1)
    stride = size + 2
    y, x = jnp.clip(y + 1.0, 0.0, size + 0.999), jnp.clip(x + 1.0, 0.0, size + 0.999)
    y0, x0 = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    fy, fx = y - y0, x - x0
    corner = (y0 * stride + x0).reshape(images.shape[0], -1)

    def at(offset):
        return (
            jnp.take_along_axis(flat, corner + offset, axis=1).reshape(y.shape).astype(jnp.float32)
        )

    top = at(0) * (1 - fx) + at(1) * fx
    bottom = at(stride) * (1 - fx) + at(stride + 1) * fx
    return (top * (1 - fy) + bottom * fy) / 255.0


def resize_and_place(images: jax.Array, key: jax.Array, smallest: int = 48) -> jax.Array:
    """The authors' augmentation: each axis is shrunk by itself, and the result placed at random.

    images: (B, 64, 64) uint8; the result is float32 in [0, 1].
    smallest: the smallest size in pixels to which an axis is shrunk.
    """
    batch = images.shape[0]
    size_key, place_key = jax.random.split(key)
    size = jax.random.randint(size_key, (batch, 2), smallest, SIZE + 1)
    place = jnp.floor(jax.random.uniform(place_key, (batch, 2)) * (SIZE - size + 1))
    pixel = jnp.arange(SIZE) + 0.5
    source = (pixel[None, None] - place[..., None]) * (SIZE / size[..., None]) - 0.5  # (B, 2, 64)
    y = jnp.broadcast_to(source[:, 0, :, None], images.shape)
    x = jnp.broadcast_to(source[:, 1, None, :], images.shape)
    return _sample(images, y, x)


def warp(
    images: jax.Array, key: jax.Array, strength: float = 1.0, thickness: float = 0.5
) -> jax.Array:
    """Random affine map, smooth displacement and stroke thickness, as writers and woodblocks vary.

    At strength 1: scale ±12 % an axis, shift ±3 of 64 px, rotation ±6°, shear ±0.12, displacement
    of about 1.5 of 64 px on a 4x4 grid.

    images: (B, S, S) uint8; the result is float32 in [0, 1].
    thickness: largest share of a pixel by which ink becomes thicker or thinner; 0 leaves it
    unchanged.
    """
    y, x, amount = warping(*images.shape[:2], key, strength, thickness)
    warped = _sample(images, y, x)
    if not thickness:
        return warped
    # A grey dilation or erosion of one pixel, blended: heavier or lighter ink.
    thick, thin = _neighbourhood(warped, jnp.maximum), _neighbourhood(warped, jnp.minimum)
    return (
        warped
        + jnp.maximum(amount, 0) * (thick - warped)
        + jnp.maximum(-amount, 0) * (thin - warped)
    )


def warping(
    batch: int, size: int, key: jax.Array, strength: float, thickness: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `warp` does with a key.

    Returns the pixels y and x that it takes, (B, S, S) each, and how much thicker ink becomes,
    (B, 1, 1).
    """
    unit = size / SIZE
    keys = jax.random.split(key, 6)
    uniform = lambda k, shape: jax.random.uniform(k, shape, minval=-1.0, maxval=1.0) * strength
    scale = jnp.exp(uniform(keys[0], (batch, 2)) * 0.12)
    shift = uniform(keys[1], (batch, 2)) * (3.0 * unit)
    angle, shear = uniform(keys[2], (2, batch)) * jnp.array([[0.105], [0.12]])
    centre = (size - 1) / 2
    v, u = jnp.meshgrid(jnp.arange(size) - centre, jnp.arange(size) - centre, indexing="ij")
    cos, sin = jnp.cos(angle)[:, None, None], jnp.sin(angle)[:, None, None]
    x = (cos * u + (shear[:, None, None] * cos - sin) * v) * scale[:, 0, None, None] + shift[
        :, 0, None, None
    ]
    y = (sin * u + (shear[:, None, None] * sin + cos) * v) * scale[:, 1, None, None] + shift[
        :, 1, None, None
    ]
    knots = jnp.linspace(0, size - 1, 4)
    basis = jnp.maximum(
        0.0, 1.0 - jnp.abs(jnp.arange(size)[:, None] - knots) / (knots[1] - knots[0])
    )  # (S, 4)
    bend = jnp.einsum(
        "yi,bijc,xj->byxc",
        basis,
        jax.random.normal(keys[3], (batch, 4, 4, 2)) * (1.5 * unit) * strength,
        basis,
    )
    amount = jax.random.uniform(keys[4], (batch, 1, 1), minval=-thickness, maxval=thickness) * min(
        1.0, strength
    )
    return y + centre + bend[..., 1], x + centre + bend[..., 0], amount


def _neighbourhood(images: jax.Array, pick) -> jax.Array:
    """The maximum or minimum (`pick`) over each pixel's 3x3 neighbourhood.

    It uses shifts, because XLA's windows are slow on CPU.
    """
    rows = jnp.pad(images, ((0, 0), (1, 1), (0, 0)), mode="edge")
    rows = pick(pick(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    both = jnp.pad(rows, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return pick(pick(both[:, :, :-2], both[:, :, 1:-1]), both[:, :, 2:])


def cutout(images: jax.Array, key: jax.Array, side: int) -> jax.Array:
    """A square around a random pixel of each image becomes paper (arXiv 1708.04552).

    The part outside the image is lost. images: (B, H, W) float32. side: of the square, in pixels.
    """
    batch, height, width = images.shape
    row_key, column_key = jax.random.split(key)
    hidden = lambda key, n: (
        abs(jnp.arange(n) - jax.random.randint(key, (batch, 1), 0, n) + (side % 2 == 0) * 0.5)
        < side / 2
    )
    square = hidden(row_key, height)[:, :, None] & hidden(column_key, width)[:, None, :]
    return jnp.where(square, 0.0, images)


def _coarse() -> jax.Array:
    """Matrices (C, 64, 64) that reduce a row of 64 pixels to 16, 20, … 40 and enlarge it again."""
    pixel = jnp.arange(SIZE) + 0.5

    def matrix(size):
        weight = jnp.maximum(
            0.0, 1.0 - jnp.abs(pixel[:, None] * (size / SIZE) - (jnp.arange(size) + 0.5))
        )  # (64, size)
        enlarge = weight / weight.sum(1, keepdims=True)
        overlap = jnp.minimum(
            pixel[None] + 0.5, (jnp.arange(size)[:, None] + 1) * (SIZE / size)
        ) - jnp.maximum(pixel[None] - 0.5, jnp.arange(size)[:, None] * (SIZE / size))
        reduce = jnp.maximum(overlap, 0.0)
        return enlarge @ (reduce / reduce.sum(1, keepdims=True))

    return jnp.stack([matrix(size) for size in range(16, 41, 4)])


def disturb(images: jax.Array, key: jax.Array) -> jax.Array:
    """Disturb characters (B, 64, 64) float32 in [0, 1] as photographs, scans and crops do.

    Each of these happens to an image with its own probability: heavier or lighter ink, an original
    of 16 to 40 pixels, pale ink, ink that is missing in places, paper grain, a bit of a
    neighbouring character at an edge, the frame of a seal, a hidden rectangle.
    """
    batch = images.shape[0]
    keys = iter(jax.random.split(key, 32))
    uniform = lambda low=0.0, high=1.0, shape=(batch, 1, 1): jax.random.uniform(
        next(keys), shape, minval=low, maxval=high
    )
    chance = lambda share: uniform() < share
    pixel = jnp.arange(SIZE, dtype=jnp.float32)

    # Ink: one pixel thicker or thinner on every side at most, beside what `warp` has done.
    amount = uniform(-0.9, 1.4) * chance(0.5)
    thick, thin = _neighbourhood(images, jnp.maximum), _neighbourhood(images, jnp.minimum)
    x = (
        images
        + jnp.clip(amount, 0, 1) * (thick - images)
        + jnp.clip(-amount, 0, 1) * (thin - images)
    )

    # Neighbours: another image of the batch, of which a strip reaches in from one side.
    reach = jax.random.randint(next(keys), (batch,), 2, 12)
    side = jax.random.randint(next(keys), (batch,), 0, 4)
    place = (
        pixel.astype(jnp.int32)[None]
        - jnp.where(side % 2 == 0, SIZE - reach, reach - SIZE)[:, None]
    )  # (B, 64)
    inside = (place >= 0) & (place < SIZE)
    place = jnp.clip(place, 0, SIZE - 1)
    other = jnp.roll(images, 1, 0)
    rows = jnp.take_along_axis(other, place[:, :, None], 1) * inside[:, :, None]
    columns = jnp.take_along_axis(other, place[:, None, :], 2) * inside[:, None, :]
    x = jnp.maximum(x, jnp.where((side < 2)[:, None, None], rows, columns) * chance(0.12))

    # The frame of a seal, or a ruled line, in a grey that the removal of colour leaves.
    corner, extent = uniform(-10.0, 44.0, (batch, 2)), uniform(14.0, 40.0, (batch, 2))
    away = (
        jnp.abs(pixel - (corner + extent / 2)[..., None]) - extent[..., None] / 2
    )  # (B, 2, 64), 0 on the edge
    box = jnp.maximum(away[:, 0, :, None], away[:, 1, None, :])
    frame = jnp.clip(1.5 - jnp.abs(box), 0.0, 1.0) * uniform(0.2, 0.8)
    x = jnp.maximum(x, frame * chance(0.06))

    # Small originals.
    coarse = _coarse()[jax.random.randint(next(keys), (batch,), 0, 7)]
    x = jnp.where(chance(0.3), jnp.einsum("bij,bjk,blk->bil", coarse, x, coarse), x)

    # A worn block or a dry brush: smooth noise below a level takes ink away; paper's grain adds
    # some.
    noise = jax.random.normal(next(keys), (2, batch, 22, 22))
    noise = jnp.repeat(jnp.repeat(noise, 3, 2), 3, 3)[..., 1:65, 1:65]
    worn = jnp.clip(2.0 * (noise[0] + uniform(1.2, 2.5)), 0.0, 1.0)
    x = x * jnp.where(chance(0.15), worn, 1.0)
    grain = jnp.abs(noise[1]) * uniform(0.02, 0.16) + jax.random.uniform(
        next(keys), x.shape
    ) * uniform(0.0, 0.12)
    x = x + (1.0 - x) * grain * chance(0.15)

    # Pale ink, and a rectangle that is hidden: the rest must do.
    x = x * jnp.where(chance(0.3), uniform(0.45, 1.0), 1.0)
    corner, extent = uniform(-8.0, 60.0, (batch, 2)), uniform(6.0, 24.0, (batch, 2))
    inside = (pixel >= corner[..., None]) & (pixel < (corner + extent)[..., None])
    x = jnp.where(inside[:, 0, :, None] & inside[:, 1, None, :] & chance(0.3), 0.0, x)
    return jnp.clip(x, 0.0, 1.0)


def augment(images: jax.Array, key: jax.Array, kind: str, strength: float = 1.0) -> jax.Array:
    """Images (B, 64, 64) uint8 under a named augmentation, as float32 in [0, 1].

    kind: "paper" (`resize_and_place`), "warp", "photo" ("warp" and then `disturb`) or "none".
    strength: of `warp`.
    """
    if kind == "photo":
        warp_key, disturb_key = jax.random.split(key)
        return disturb(warp(images, warp_key, strength), disturb_key)
    if kind == "paper":
        return resize_and_place(images, key)
    if kind == "warp":
        return warp(images, key, strength)
    return to_float(images)
