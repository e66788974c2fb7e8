import types

import numpy as np
import pytest
from flax import nnx

from transfer.evaluation import distribution
from transfer.evaluation.stroke_quality import derangement
from transfer.models import sketch_rnn, stroke_rnn
from transfer.models.stroke_forms import Axes
from transfer.stages.encoding import Network
from transfer.stages.point_decoder import PointDecoder, stroke_arrays
from transfer.stages.stroke_decoder import StrokeDecoder, stroke_codes


@pytest.fixture
def with_decoder(cases):
    """The cases with a small decoder of random weights."""
    config = sketch_rnn.SketchRNNConfig(units=8, mixtures=2)
    graph, state = nnx.split(sketch_rnn.SketchRNN(config, nnx.Rngs(0)))
    object.__setattr__(
        cases, "model", types.SimpleNamespace(decoder=PointDecoder(config, graph, state))
    )
    return cases


def test_stroke_nll_is_each_images_own(with_decoder):
    cases = with_decoder
    model = nnx.merge(cases.model.decoder.graph, cases.model.decoder.params)
    swapped = distribution.stroke_nll(cases, np.array([1, 0, 3, 2]))
    for i, other in ((0, 1), (3, 2)):
        rows, count = stroke_arrays(
            cases.corpus, cases.glyphs[i : i + 1], cases.model.decoder.config
        )
        condition = {"z": cases.results[other].z_new[None]}
        move, pen = sketch_rnn.negative_log_likelihood(model, rows, count, condition)
        assert swapped[i] == pytest.approx(
            float((move + pen)[0]) / len(np.concatenate(cases.truth[i])), rel=1e-4
        )


def test_stroke_nll_of_a_decoder_of_whole_strokes(cases):
    config = stroke_rnn.StrokeRNNConfig.tiny()
    graph, state = nnx.split(stroke_rnn.StrokeRNN(config, nnx.Rngs(0)))
    strokes, count = stroke_codes(cases.corpus, cases.glyphs, config)
    axes = Axes.of(np.concatenate([s[:n] for s, n in zip(strokes, count)]))
    network = Network(config, state, {}, lambda: stroke_rnn.StrokeRNN(config, nnx.Rngs(0)), "")
    object.__setattr__(cases, "model", types.SimpleNamespace(decoder=StrokeDecoder(network, axes)))
    swapped = distribution.stroke_nll(cases, np.array([1, 0, 3, 2]))
    condition = {"z": cases.results[1].z_new[None], "picture": cases.results[1].pixels[None]}
    alone = stroke_rnn.negative_log_likelihood(
        nnx.merge(graph, state), axes, strokes[:1], count[:1], condition
    )
    assert swapped[0] == pytest.approx(float(alone[0]) / count[0], rel=1e-4)
    assert "NLL per stroke" in distribution.measure(cases).per_image


def test_certainty_is_set_against_hits(with_decoder):
    cases = with_decoder
    confidence, hit = distribution.confidences(cases)
    assert confidence.tolist() == [0.9, 0.6, 0.5, 0.3] and hit.tolist() == [
        True,
        False,
        False,
        False,
    ]
    found = distribution.measure(cases)
    assert found.overall["expected calibration error"][0] == pytest.approx(
        (0.1 + 0.6 + 0.5 + 0.3) / 4
    )
    assert found.overall["AUROC of 1 - confidence for wrong images"][0] == 1
    assert (
        found.overall["AUROC of pixel uncertainty for wrong images"][0] == 1
    )  # 0 where right, more where wrong
    right, wrong = (
        found.per_image["pixel uncertainty, right"],
        found.per_image["pixel uncertainty, wrong"],
    )
    np.testing.assert_allclose(right, [0, np.nan, np.nan, np.nan], atol=1e-6)
    np.testing.assert_allclose(wrong, [np.nan, 0.1, 0.2, 0.3], atol=1e-6)
    assert found.per_image["different kanji among 3 drawings"].tolist() == [1, 2, 2, 1]


def test_pixels_are_wrong_where_the_prediction_is_off_by_half(with_decoder):
    doubt, wrong = distribution.pixels(with_decoder)
    assert len(doubt) == len(wrong) == 4 * 64 * 64
    truth = np.asarray(with_decoder.corpus.new.images[with_decoder.glyphs]) / 255.0
    expected = sum((abs(r.pixels - t) > 0.5).sum() for r, t in zip(with_decoder.results, truth))
    assert wrong.sum() == expected > 0
    assert not wrong[doubt < 0.15].any()  # images 0 and 1 are predicted exactly


def test_derangement_never_gives_the_same_kanji():
    classes = np.array([1, 1, 1, 2, 3])
    for seed in range(5):
        other = derangement(classes, seed)
        assert (classes[other] != classes).all()
    assert derangement(np.array([4, 4]), 0).tolist() == [0, 1]
