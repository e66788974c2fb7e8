"""Train the evaluation's two classifiers: the recogniser of modern drawings, and the baseline that
names Kuzushiji images.

    python experiments/train_judges.py                        # both
    python experiments/train_judges.py --which recogniser --views 16

The settings that you give hold for both; each takes all others from its own preset.
"""

import sys
from typing import Literal

from transfer.evaluation import judges
from transfer.models.classifier import ClassifierConfig
from transfer.training import loop, options


def preset_of(name: str, which: str) -> ClassifierConfig:
    return ClassifierConfig.tiny() if name == "tiny" else getattr(ClassifierConfig, which)()


def main(opts, given, corpus, which):
    chosen = ("recogniser", "baseline") if which == "both" else (which,)
    configs = [options.overridden(preset_of(opts.preset, each), given) for each in chosen]
    for each, config in zip(chosen, configs):
        if each == "recogniser":
            task = judges.recogniser_task(config, corpus, opts.seed)
        else:
            task = judges.baseline_task(config, corpus)
        loop.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)


if __name__ == "__main__":
    which = Literal["both", "recogniser", "baseline"], "both"
    sys.exit(options.run(main, __doc__, {"small": ClassifierConfig.recogniser()}, which=which))
