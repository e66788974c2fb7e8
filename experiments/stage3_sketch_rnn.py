"""Stage 3: train the Sketch-RNN decoder that writes z_new as strokes, on the latents of stages 1
and 2.

`paper` moves the pen point by point. The other presets write a whole stroke in each step. Each kind
has settings of its own.

    python experiments/stage3_sketch_rnn.py
    python experiments/stage3_sketch_rnn.py --units 256 --blocks 1
    python experiments/stage3_sketch_rnn.py --preset paper --steps 1000
"""

import sys

from transfer.models.sketch_rnn import SketchRNNConfig
from transfer.models.stroke_rnn import StrokeRNNConfig
from transfer.stages import decoders
from transfer.training import loop, options


def main(opts, given, corpus):
    config = options.overridden(decoders.decoder_preset(opts.preset), given)
    task = decoders.decoder_task(config, corpus, opts.runs, opts.seed)
    loop.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)


if __name__ == "__main__":
    sys.exit(
        options.run(
            main, __doc__, {"small": StrokeRNNConfig.small(), "paper": SketchRNNConfig.paper()}
        )
    )
