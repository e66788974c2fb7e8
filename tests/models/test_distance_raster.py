import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from transfer.data import raster, sample
from transfer.data.published import kanjivg
from transfer.models.distance_raster import from_stroke3, pad, rasterise

STYLE = "fill:none;stroke:#000000;stroke-width:3;stroke-linecap:round;stroke-linejoin:round"


def random_drawings(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        [rng.uniform(-5, 114, (rng.integers(2, 9), 2)) for _ in range(rng.integers(1, 8))]
        for _ in range(count)
    ]


@pytest.mark.parametrize("size, width", [(64, 3.0), (32, 9.0), (48, 0.7)])
def test_the_same_picture_as_on_the_host(size, width):
    drawings = [
        *random_drawings(12),
        [],
        [[(54.5, 54.5)], [(20, 30), (20, 30)]],
        [[(30, 40), (30, 40), (80, 90)]],
    ]
    pictures = rasterise(*pad(drawings), size=size, width=width)
    assert pictures.shape == (15, size, size) and pictures.dtype == jnp.float32
    expected = np.array([raster.rasterise(d, size, width) for d in drawings])
    assert np.abs(np.asarray(pictures) * 255 - expected).max() <= 1
    assert (
        not pictures[12].any()
        and pictures[13].any()
        and 0 <= pictures.min()
        and pictures.max() <= 1
    )


def test_leading_axes_and_vmap():
    points, mask = pad(random_drawings(6))
    flat = rasterise(points, mask)
    assert np.array_equal(
        rasterise(points.reshape(2, 3, -1, 2), mask.reshape(2, 3, -1)), flat.reshape(2, 3, 64, 64)
    )
    assert np.array_equal(rasterise(points[1], mask[1]), flat[1])
    np.testing.assert_allclose(jax.vmap(rasterise)(points, mask), flat, atol=1e-5)
    assert rasterise(points, mask[0]).shape == (6, 64, 64)  # one mask for all
    assert not rasterise(jnp.zeros((3, 1, 2)), jnp.zeros((3, 0), bool)).any()
    assert rasterise(jnp.zeros((0, 5, 2)), jnp.zeros((0, 4), bool)).shape == (0, 64, 64)


def test_what_is_masked_does_not_matter():
    points, mask = pad([[[(10, 20), (90, 30)], [(20, 80), (50, 60)]]], length=9)
    spoilt = points.copy()
    spoilt[0, 4:] = np.nan
    assert np.array_equal(rasterise(spoilt, mask), rasterise(points, mask))
    gradient = jax.grad(lambda p: rasterise(p, mask).sum())(jnp.asarray(spoilt))
    assert np.isfinite(gradient).all() and gradient[0, :4].any() and not gradient[0, 4:].any()


@pytest.mark.parametrize(
    "strokes",
    [
        [],
        [[(54.5, 54.5), (54.5, 54.5)]],
        [[(54.5, 54.5), (54.5, 54.5), (54.5001, 54.5)]],
        [[(10, 109 / 128), (90, 109 / 128)]],  # through the centres of pixels
        [[(10, 10), (90, 90)], [(10, 10), (90, 90)]],
        [[(-500, -500), (-400, 1e30)]],
    ],
    ids=str,
)
def test_gradients_are_finite(strokes):
    points, mask = pad([strokes], length=6)
    picture, pull = jax.vjp(lambda p: rasterise(p, mask), jnp.asarray(points))
    assert np.isfinite(picture).all()
    for weight in (picture, jnp.ones_like(picture)):
        assert np.isfinite(pull(weight)[0]).all()


def double_precision(points, mask, width, size=64):
    """The definition in float64, for differences over steps that are small beside a pixel."""
    pixel = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1)
    start, end = ((p * size / 109)[mask][:, None, None] for p in (points[:-1], points[1:]))
    chord, offset = end - start, pixel - start
    along = np.clip((offset * chord).sum(-1) / (chord**2).sum(-1), 0, 1)
    distance = np.linalg.norm(offset - along[..., None] * chord, axis=-1).min(0)
    radius = width * size / 109 / 2
    return np.clip(np.minimum(distance + 0.5, radius) - np.maximum(distance - 0.5, -radius), 0, 1)


@pytest.mark.parametrize("width", [0.7, 3.0, 8.0])
def test_gradient_against_finite_differences(width):
    rng = np.random.default_rng(1)
    (points,), (mask,) = pad(random_drawings(1, seed=3))
    weights = rng.normal(size=(64, 64))
    slope = jax.grad(lambda p: (rasterise(p, mask, width=width) * weights).sum())(
        jnp.asarray(points)
    )
    for _ in range(5):
        direction = rng.normal(size=points.shape)
        ends = [
            (double_precision(points + step * direction, mask, width) * weights).sum()
            for step in (1e-6, -1e-6)
        ]
        expected = (ends[0] - ends[1]) / 2e-6
        assert float((slope * direction).sum()) == pytest.approx(expected, rel=2e-3, abs=2e-2)


def test_strokes_can_be_fitted_to_a_picture():
    right = [[(30, 40), (80, 60)]]
    target = rasterise(*pad([right]), width=12.0)
    points, mask = pad([[[(36, 36), (74, 66)]]])
    slope = jax.jit(jax.grad(lambda p: ((rasterise(p, mask, width=12.0) - target) ** 2).sum()))
    points = jnp.asarray(points)
    for _ in range(60):
        points = points - 0.05 * slope(points)
    np.testing.assert_allclose(points, right, atol=0.05)


def test_stroke_3_rows_draw_themselves():
    from transfer.data.strokes import to_stroke3

    drawings = random_drawings(3, seed=5)
    rows = np.zeros((3, 70, 3), np.float32)
    for row, drawing in zip(rows, drawings):
        stroke3 = to_stroke3(drawing)
        row[: len(stroke3)] = stroke3
    count = np.array([sum(map(len, d)) for d in drawings])
    pictures = jax.jit(lambda r, c: rasterise(*from_stroke3(r, c)))(rows, count)
    np.testing.assert_allclose(pictures, rasterise(*pad(drawings)), atol=1e-3)


def test_padding():
    points, mask = pad([[np.zeros((3, 2)), np.ones((1, 2))], []])
    assert points.shape == (2, 5, 2) and mask.tolist() == [[True, True, False, True], [False] * 4]
    with pytest.raises(ValueError, match="does not fit 4"):
        pad([[np.zeros((3, 2)), np.ones((2, 2))]], length=4)


def differences(glyphs):
    """Mean absolute difference from resvg, in 1/255, of (the host's raster, the device's)."""
    resvg = pytest.importorskip("resvg_py")
    strokes = [kanjivg.polylines(g) for g in glyphs]
    reference = []
    for glyph in glyphs:
        paths = "".join(f'<path d="{s.path}"/>' for s in glyph.strokes)
        text = (
            '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64" viewBox="0 0 109 109">'
            f'<g style="{STYLE}">{paths}</g></svg>'
        )
        png = bytes(resvg.svg_to_bytes(svg_string=text, skip_system_fonts=True))
        reference.append(np.asarray(Image.open(io.BytesIO(png)))[..., 3])
    reference = np.array(reference, np.float64)
    host = np.array([raster.rasterise(s) for s in strokes], np.float64)
    return np.abs(host - reference).mean(), np.abs(
        np.asarray(rasterise(*pad(strokes))) * 255.0 - reference
    ).mean()


def test_both_rasters_agree_with_resvg_on_the_sample(tmp_path):
    sample.write(tmp_path, images_per_class=1)
    glyphs = kanjivg.read(tmp_path / "kanjivg-00000000.xml.gz")[:16]
    host, device = differences(glyphs)
    assert 0 < host <= 3 and 0 < device <= 3, (host, device)


@pytest.mark.realdata
def test_both_rasters_agree_with_resvg_on_kanjivg(real_data):
    from transfer.data.prepare import kanjivg_source

    glyphs = [
        g
        for g in kanjivg.read(kanjivg_source(real_data))
        if kanjivg.is_kanji(g.code_point) and not g.variant
    ]
    chosen = np.random.default_rng(0).choice(len(glyphs), 40, replace=False)
    host, device = differences([glyphs[i] for i in chosen])
    assert 0 < host <= 3 and 0 < device <= 3, (host, device)
