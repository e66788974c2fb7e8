"""Train the evaluation's two classifiers: the recogniser of modern drawings, and the baseline that names Kuzushiji images.

    python experiments/train_judges.py                        # both
    python experiments/train_judges.py --which recogniser --views 16
"""
import sys
from typing import Literal

from transfer import options, training
from transfer.classifier import ClassifierConfig
from transfer.evaluation import judges


def preset_of(name: str, which: str) -> ClassifierConfig:
    return ClassifierConfig.tiny() if name == "tiny" else getattr(ClassifierConfig, which)()


def main(opts, config, corpus, which):
    for each in ("recogniser", "baseline") if which == "both" else (which,):
        # Fields given on the command line hold for both, the rest is each one's own preset.
        default = preset_of(opts.preset, "recogniser")
        chosen = options.carried(config, default, preset_of(opts.preset, each))
        task_of = {"recogniser": judges.recogniser_task, "baseline": judges.baseline_task}[each]
        task = task_of(chosen, corpus, opts.seed)
        training.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)


if __name__ == "__main__":
    sys.exit(options.run(main, lambda preset: preset_of(preset, "recogniser"), __doc__,
                         which=(Literal["both", "recogniser", "baseline"], "both")))
