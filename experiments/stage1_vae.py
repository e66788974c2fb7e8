"""Stage 1: train the VAE of each domain, Kuzushiji images to z_old and rasterised KanjiVG to z_new.

    python experiments/stage1_vae.py                       # both domains
    python experiments/stage1_vae.py --domain old --preset paper --steps 1000
    python experiments/stage1_vae.py --domain old --preset long --start transfer/pretrained

The settings that you give hold for both domains; each domain takes all others from its own preset.
`--start` names a folder of weights or runs. Its VAEs go on training, with a new optimiser and a new
schedule.
"""

import sys
from pathlib import Path
from typing import Literal

from transfer.models import vae
from transfer.models.vae import VAEConfig
from transfer.stages import autoencoders
from transfer.training import loop, options


def main(opts, given, corpus, domain, start):
    domains = ("old", "new") if domain == "both" else (domain,)
    configs = [options.overridden(getattr(VAEConfig, opts.preset)(each), given) for each in domains]
    options.refuse_unused(
        given, *(vae.unused(config, each) for each, config in zip(domains, configs))
    )
    for each, config in zip(domains, configs):
        task = autoencoders.vae_task(config, corpus, each, start)
        loop.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)


if __name__ == "__main__":
    sys.exit(
        options.run(
            main,
            __doc__,
            {"small": VAEConfig.small()},
            domain=(Literal["both", "old", "new"], "both"),
            start=(Path | None, None),
        )
    )
