"""Stage 2: train the mixture density network P(z_new | z_old) on the latents of stage 1, or the way
back, P(z_old | z_new).

    python experiments/stage2_mdn.py
    python experiments/stage2_mdn.py --density flow
    python experiments/stage2_mdn.py --density joint --mixtures 50
    python experiments/stage2_mdn.py --direction back

If you choose another density than that of the preset, it takes settings that suit it
(`models.mdn.suited`), unless you give your own.
"""

import sys

from transfer.models import mdn
from transfer.models.mdn import MDNConfig
from transfer.stages import density
from transfer.training import loop, options


def main(opts, given, corpus):
    preset = getattr(MDNConfig, opts.preset)()
    preset = mdn.suited(preset, given.get("density"), given.get("direction"))
    config = options.overridden(preset, given)
    options.refuse_unused(given, mdn.unused(config))
    task = density.mdn_task(config, corpus, opts.runs, opts.seed)
    loop.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)


if __name__ == "__main__":
    sys.exit(options.run(main, __doc__, {"small": MDNConfig.small()}))
