"""Stage 1: train the VAE of each domain, Kuzushiji images to z_old and rasterised KanjiVG to z_new.

With --pretrained the old encoder starts from a classifier of the same images, which is trained first where the runs folder has none.

    python experiments/stage1_vae.py                       # both domains
    python experiments/stage1_vae.py --domain old --preset paper --steps 1000
"""
import sys
from typing import Literal

from transfer import options, stages, training
from transfer.classifier import ClassifierConfig
from transfer.evaluation import judges
from transfer.vae import VAEConfig


def main(opts, config, corpus, domain):
    for each in ("old", "new") if domain == "both" else (domain,):
        # Fields given on the command line hold for both domains, the rest is each domain's own preset.
        preset, default = getattr(VAEConfig, opts.preset)(each), getattr(VAEConfig, opts.preset)("old")
        chosen = options.carried(config, default, preset)
        if each == "old" and chosen.pretrained:
            task = judges.baseline_task(ClassifierConfig.baseline(), corpus, opts.seed)
            training.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)
        task = stages.vae_task(chosen, corpus, each, opts.runs)
        training.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)


if __name__ == "__main__":
    sys.exit(options.run(main, lambda preset: getattr(VAEConfig, preset)("old"), __doc__,
                         domain=(Literal["both", "old", "new"], "both")))
