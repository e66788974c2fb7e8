"""Stage 3: train the Sketch-RNN decoder that writes z_new as strokes, on the latents of stages 1 and 2.

    python experiments/stage3_sketch_rnn.py
    python experiments/stage3_sketch_rnn.py --units 256 --no-glimpse
"""
import sys

from transfer import options, stages, training
from transfer.sketch_rnn import SketchRNNConfig


def main(opts, config, corpus):
    task = stages.sketch_rnn_task(config, corpus, opts.runs, opts.seed)
    training.train(task, opts.runs / task.name, opts.seed, opts.checkpoint_seconds)


if __name__ == "__main__":
    sys.exit(options.run(main, lambda preset: getattr(SketchRNNConfig, preset)(), __doc__))
