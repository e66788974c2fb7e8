"""Stage 3: train the Sketch-RNN decoder that writes z_new as strokes, on the latents of stages 1 and 2.

`paper` moves the pen point by point, the other presets write a whole stroke a step; --points trains their kind of settings point by point.

    python experiments/stage3_sketch_rnn.py
    python experiments/stage3_sketch_rnn.py --units 256 --blocks 1
    python experiments/stage3_sketch_rnn.py --preset paper --steps 1000
"""
import sys

from transfer import options, stages, training
from transfer.sketch_rnn import SketchRNNConfig


def main(opts, config, corpus):
    task = stages.decoder_task(config, corpus, opts.runs, opts.seed)
    training.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)


if __name__ == "__main__":
    points = "--points" in sys.argv[1:]
    sys.argv = [a for a in sys.argv if a != "--points"]
    presets = (lambda preset: getattr(SketchRNNConfig, preset)()) if points else stages.decoder_preset
    sys.exit(options.run(main, presets, __doc__))
