"""transfer.system.settings: an impossible configuration is refused in one line."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import numpy as np
import pytest

from transfer.baselines.task import BaselineConfig
from transfer.models.classifier import ClassifierConfig
from transfer.models.mdn import MDNConfig
from transfer.models.sketch_rnn import SketchRNNConfig
from transfer.models.stroke_rnn import StrokeRNNConfig
from transfer.models.vae import VAEConfig
from transfer.system import settings
from transfer.system.settings import (
    Amount,
    BelowOne,
    Count,
    Finite,
    Natural,
    Part,
    Positive,
    Range,
    Share,
    WarmUp,
)


@dataclasses.dataclass(frozen=True)
class Config:
    count: Count = 1
    natural: Natural = 0
    warmup: WarmUp = -1
    few: Annotated[int, Range(2, 5)] = 3
    finite: Finite = -3.5
    amount: Amount = 0.0
    positive: Positive = 1e-9
    share: Share = 1.0
    part: Part = 1.0
    below_one: BelowOne = 0.0
    name: Literal["paper", "small", "tiny"] = "paper"
    views: Literal[1, 5] = 1
    two: tuple[Share, Share] = (0.0, 1.0)
    one: tuple[Share] = (0.0,)
    mixed: tuple[Share, Count, bool] = (0.5, 2, False)
    noted: Annotated[int, "a note"] = 1
    noted_count: Annotated[int, "a note", Range(1)] = 1
    widths: tuple[Count, ...] = (1, 2, 3)
    given: bool = False
    free: str = ""

    def __post_init__(self):
        settings.check(self)


@pytest.mark.parametrize(
    "field, good, bad, says",
    [
        (
            "count",
            [1, np.int64(7), 2**40],
            [0, -1, 1.5, True, "1", None],
            "a whole number, 1 or more",
        ),
        ("natural", [0, 5], [-1, 0.5], "a whole number, 0 or more"),
        ("warmup", [-1, 0, 300], [-2], "a whole number, -1 or more"),
        ("few", [2, 5], [1, 6, 2.5], "a whole number from 2 to 5"),
        ("finite", [-1e30, 0, 2], [math.inf, -math.inf, math.nan], "a number that is finite"),
        ("amount", [0, 0.1, np.float32(3)], [-1e-9, math.nan, math.inf], "a number, 0 or more"),
        ("positive", [1e-30, 5], [0, 0.0, -1, math.inf], "a number above 0"),
        ("share", [0, 0.5, 1], [-0.01, 1.01, math.nan], "a number from 0 to 1"),
        ("part", [1e-9, 1], [0, 1.01], "a number above 0 and up to 1"),
        ("below_one", [0, 0.999], [1, 1.0, -0.1], "a number from 0 to below 1"),
        ("name", ["tiny"], ["large", 1], "paper, small or tiny"),
        ("views", [5], [2, 0], "1 or 5"),
        ("two", [(1, 0)], [(0.5, 2)], "for each a number from 0 to 1"),
        ("two", [], [(0.5,), (0, 0, 0), [0.5, 0.5], 0.5], "2 values"),
        ("one", [(1,)], [(2,)], "for each a number from 0 to 1"),
        ("mixed", [(0, 7, True)], [(0.5, 0.5, True)], "for each a whole number, 1 or more"),
        ("mixed", [], [(0.5, 2, 1)], "for each True or False"),
        ("noted", [0, -1, "x"], [], ""),
        ("noted_count", [7], [0], "a whole number, 1 or more"),
        ("widths", [(4,), ()], [(4, 0), (0.5,)], "for each a whole number, 1 or more"),
        ("widths", [], [4, [4]], "some values"),
        ("given", [True], [1, "yes"], "True or False"),
        ("free", ["anything", ""], [], ""),
    ],
)
def test_values_at_the_edge_of_what_a_type_allows(field, good, bad, says):
    for value in good:
        assert getattr(Config(**{field: value}), field) is value
    for value in bad:
        with pytest.raises(ValueError) as error:
            Config(**{field: value})
        option, _, allowed = str(error.value).partition(": give ")
        assert allowed == says
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert option == f"--{field.replace('_', '-')} {shown}"


def test_the_first_wrong_field_is_named_in_one_short_line():
    with pytest.raises(ValueError, match="^--count 0: ") as error:
        Config(count=0, share=7)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError) as error:
        Config(name="x" * 10_000)
    assert str(error.value) == f"--name {'x' * 80}: give paper, small or tiny"


def test_ranges_have_no_upper_end_and_hold_both_ends_unless_told():
    assert Range(3) == (3, math.inf, False, False)
    assert Range(-math.inf, 5).of("a number") == "a number that is finite"
    assert [Range(3, 5, True, True).holds(x) for x in (3, 3.1, 4.9, 5)] == [
        False,
        True,
        True,
        False,
    ]


def test_shares_of_one_thing():
    settings.check_sum(Config(share=0.4, part=0.6), "share", "part")
    with pytest.raises(
        ValueError, match="^--share 0.5, --part 0.6: give shares that add up to at most 1"
    ):
        settings.check_sum(Config(share=0.5, part=0.6), "share", "part")
    settings.check_sum(Config(share=0.1, part=0.9 + 1e-10), "share", "part")  # rounding
    with pytest.raises(ValueError):
        settings.check_sum(Config(share=0.1, part=0.9 + 1e-8), "share", "part")


WRONG = [
    (VAEConfig, {"architecture": "resnet"}, "--architecture resnet: give paper or residual"),
    (
        VAEConfig,
        {"encoder": (40, 0, 256)},
        "--encoder 40 0 256: give for each a whole number, 1 or",
    ),
    (VAEConfig, {"encoder": (40, 112)}, "--encoder 40 112, --encoder-blocks 1 1 1: give 3 or 4"),
    (VAEConfig, {"encoder_blocks": (1, 1, 1, 1)}, "--encoder-blocks 1 1 1 1: give 3 or 4"),
    (VAEConfig, {"encoder": (1,) * 5, "encoder_blocks": (1,) * 5}, "1 1 1 1 1: give 3 or 4"),
    (VAEConfig, {"decoder": (96, 48)}, "--decoder 96 48: give 3 values"),
    (VAEConfig, {"kl_floor": -1.0}, "--kl-floor -1.0: give a number, 0 or more"),
    (VAEConfig, {"decode_every": 0}, "--decode-every 0: give a whole number, 1 or more"),
    (VAEConfig, {"balance": 1.5}, "--balance 1.5: give a number from 0 to 1"),
    (VAEConfig, {"fonts": 0.7, "hands": 0.6}, "--fonts 0.7, --hands 0.6: give shares"),
    (VAEConfig, {"cooldown": 0.0}, "--cooldown 0.0: give a number above 0 and up to 1"),
    (VAEConfig, {"ema": 1.0}, "--ema 1.0: give a number from 0 to below 1"),
    (MDNConfig, {"mixtures": 0}, "--mixtures 0: give a whole number, 1 or more"),
    (MDNConfig, {"views": -1}, "--views -1: give a whole number, 0 or more"),
    (MDNConfig, {"unseen": math.nan}, "--unseen nan: give a number that is finite"),
    (MDNConfig, {"temperature": 0.0}, "--temperature 0.0: give a number above 0"),
    (MDNConfig, {"fonts": 0.7, "hands": 0.6}, "--fonts 0.7, --hands 0.6: give shares"),
    (SketchRNNConfig, {"longest": 1}, "--longest 1: give a whole number, 2 or more"),
    (SketchRNNConfig, {"keep": 0.0}, "--keep 0.0: give a number above 0 and up to 1"),
    (SketchRNNConfig, {"drop": 1.0}, "--drop 1.0: give a number from 0 to below 1"),
    (StrokeRNNConfig, {"stroke_points": 1}, "--stroke-points 1: give a whole number, 2 or more"),
    (StrokeRNNConfig, {"channels": 17}, "--channels 17: give a whole number, 18 or more"),
    (StrokeRNNConfig, {"most": 41}, "--most 41: give a whole number from 1 to 40"),
    (StrokeRNNConfig, {"temperature": 1.5}, "--temperature 1.5: give a number above 0 and up to 1"),
    (StrokeRNNConfig, {"batch": 2.5}, "--batch 2.5: give a whole number, 1 or more"),
    (ClassifierConfig, {"encoder": (32, 64)}, "--encoder 32 64, --encoder-blocks 0 2 1: give"),
    (ClassifierConfig, {"learning_rate": 0.0}, "--learning-rate 0.0: give a number above 0"),
    (ClassifierConfig, {"warmup": -2}, "--warmup -2: give a whole number, -1 or more"),
    (BaselineConfig, {"neighbours": 0}, "--neighbours 0: give a whole number, 1 or more"),
    (BaselineConfig, {"dropout": (0.25, 1.0)}, "--dropout 0.25 1.0: give for each a number from 0"),
    (BaselineConfig, {"stem_stride": 3}, "--stem-stride 3: give 1 or 2"),
    (BaselineConfig, {"mix_alpha": 0.0}, "--mix-alpha 0.0: give a number above 0"),
    (BaselineConfig, {"model": "knn", "regulariser": "input_mixup"}, "--regulariser: nearest"),
]


@pytest.mark.parametrize("kind, given, says", WRONG)
def test_configurations_refuse_what_cannot_be_meant(kind, given, says):
    with pytest.raises(ValueError) as error:
        kind(**given)
    assert says in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError):
        dataclasses.replace(kind(), **given)
