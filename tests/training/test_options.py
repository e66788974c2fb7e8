"""transfer.training.options: every setting that is given on the command line is used, or refused
with a reason."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from transfer.evaluation import judges
from transfer.models import mdn
from transfer.models.classifier import ClassifierConfig
from transfer.models.mdn import MDNConfig
from transfer.models.sketch_rnn import SketchRNNConfig
from transfer.models.stroke_rnn import StrokeRNNConfig
from transfer.models.vae import VAEConfig
from transfer.stages import autoencoders, decoders, density
from transfer.training import loop, options

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "stage1_vae": {"small": VAEConfig.small()},
    "stage2_mdn": {"small": MDNConfig.small()},
    "stage3_sketch_rnn": {"small": StrokeRNNConfig.small(), "paper": SketchRNNConfig.paper()},
    "train_judges": {"small": ClassifierConfig.recogniser()},
}


@pytest.fixture
def script(monkeypatch):
    """Call a script's main as its command line would; returns the exit code and the configurations
    that would be trained."""
    trained = []

    def task(name):
        return lambda config, *rest: (
            trained.append((name, config)) or loop.Task(name, config, None, None, None, None)
        )

    monkeypatch.setattr(
        autoencoders,
        "vae_task",
        lambda config, corpus, domain, earlier: task(f"vae_{domain}")(config),
    )
    monkeypatch.setattr(density, "mdn_task", task("mdn"))
    monkeypatch.setattr(decoders, "decoder_task", task("sketch_rnn"))
    monkeypatch.setattr(judges, "recogniser_task", task("recogniser"))
    monkeypatch.setattr(judges, "baseline_task", task("baseline"))
    monkeypatch.setattr(loop, "train", lambda *_: None)
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)

    def call(name, *arguments):
        spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        trained.clear()
        choices = {
            "stage1_vae": {"domain": (str, "both"), "start": (Path | None, None)},
            "train_judges": {"which": (str, "both")},
        }.get(name, {})
        return options.run(module.main, "What it trains.", SCRIPTS[name], **choices), dict(trained)

    return call


def test_a_setting_that_is_given_is_used_though_another_preset_has_it_too(script):
    """5,000 steps are what the old domain's preset has, 3,600 the new one's."""
    for domain in ("new", "both"):
        code, trained = script(
            "stage1_vae",
            "--domain",
            domain,
            "--preset",
            "small",
            "--steps",
            5000,
            "--recognition",
            1500,
        )
        assert code == 0
        assert trained["vae_new"] == dataclasses.replace(
            VAEConfig.small("new"), steps=5000, recognition=1500.0
        )
    assert trained["vae_old"] == VAEConfig.small("old")
    _, trained = script("train_judges", "--preset", "small", "--steps", 3200, "--warp", 0.5)
    assert trained["baseline"] == dataclasses.replace(
        ClassifierConfig.baseline(), steps=3200, warp=0.5
    )
    assert trained["recogniser"] == ClassifierConfig.recogniser()


def test_the_preset_picks_all_that_is_not_given(script):
    assert script("stage1_vae")[1] == {
        f"vae_{d}": VAEConfig.tiny(d) for d in ("old", "new")
    }  # the built-in sample
    assert script("stage2_mdn", "--preset", "base", "--no-direct")[1] == {
        "mdn": dataclasses.replace(MDNConfig.base(), direct=False)
    }
    assert script("stage3_sketch_rnn", "--preset", "paper", "--layers", 2)[1][
        "sketch_rnn"
    ] == dataclasses.replace(SketchRNNConfig.paper(), layers=2)
    assert script("stage3_sketch_rnn", "--blocks", 1)[1]["sketch_rnn"] == dataclasses.replace(
        StrokeRNNConfig.tiny(), blocks=1
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("stage3_sketch_rnn", "--preset", "paper", "--blocks", 1), "--blocks: SketchRNNConfig"),
        (("stage3_sketch_rnn", "--layers", 2), "--layers: StrokeRNNConfig"),
        (("stage1_vae", "--domain", "new", "--fonts", 0.1), "--fonts has no effect"),
        (("stage1_vae", "--preset", "paper", "--hidden", 64), "--hidden has no effect"),
        (("stage1_vae", "--augment", "none", "--warp", 0.5), "--warp has no effect"),
        (("stage2_mdn", "--mixtures", 5), "--mixtures has no effect"),
        (("stage2_mdn", "--direction", "back", "--direct"), "--direct has no effect"),
        (("stage1_vae", "--batch", 0), "--batch 0: give a whole number, 1 or more"),
        (("stage2_mdn", "--fonts", 0.7, "--hands", 0.6), "--fonts 0.7, --hands 0.6: give shares"),
        (("stage3_sketch_rnn", "--most", 41), "--most 41: give a whole number from 1 to 40"),
        (("train_judges", "--encoder", 8, 16), "--encoder 8 16, --encoder-blocks 0 1 1: give 3"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_in_one_line(script, capsys, arguments, said):
    code, trained = script(*arguments)
    error = [line for line in capsys.readouterr().err.splitlines() if "sample corpus" not in line]
    assert (
        code == 2
        and not trained
        and len(error) == 1
        and error[0].startswith("error: ")
        and said in error[0]
    )


def test_what_one_of_two_models_uses_is_not_refused(script):
    code, trained = script("stage1_vae", "--fonts", 0.1)
    assert code == 0 and trained["vae_old"].fonts == 0.1


def test_the_density_s_settings_play_a_part_by_its_form():
    free = {"mixtures", "noise", "couplings", "width"}
    assert mdn.unused(MDNConfig.small()) == free and "key" in mdn.unused(MDNConfig.paper())


def test_help_has_every_setting_with_what_it_means(script, capsys):
    code, _ = script("stage3_sketch_rnn", "--help")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert code == 0 and "What it trains." in shown
    assert (
        "--stroke-points INT Points of a stroke, closer together where it turns "
        "(`transfer.data.strokes.resample`). "
        "(small: 12)" in shown
    )
    assert "--layers INT (paper: 3)" in shown
