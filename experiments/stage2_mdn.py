"""Stage 2: train the mixture density network P(z_new | z_old) on the latents of stage 1.

python experiments/stage2_mdn.py
python experiments/stage2_mdn.py --density joint --mixtures 50
"""

import sys

from transfer.models import mdn
from transfer.models.mdn import MDNConfig
from transfer.stages import density
from transfer.training import loop, options


def main(opts, given, corpus):
    config = options.overridden(getattr(MDNConfig, opts.preset)(), given)
    options.refuse_unused(given, mdn.unused(config))
    task = density.mdn_task(config, corpus, opts.runs, opts.seed)
    loop.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)


if __name__ == "__main__":
    sys.exit(options.run(main, __doc__, {"small": MDNConfig.small()}))
