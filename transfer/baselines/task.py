"""Turns a baseline's configuration and labelled images into a `Task` for `training.train`, and
loads a trained run again.

Parameters are two trees: "weights", and "statistics", the running means and variances of batch
normalisation. The loop knows only gradients. So half the squared distance between the running
statistics and the batch's is added to the loss (and its value subtracted again). A step of gradient
descent on it at rate 0.1 is exactly PyTorch's running average with momentum 0.1.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from transfer.baselines import networks
from transfer.baselines.datasets import Labelled
from transfer.baselines.networks import BLOCKS, Mix
from transfer.baselines.order import shuffled
from transfer.evaluation.calibration import balanced_accuracy
from transfer.models import augment
from transfer.system import settings
from transfer.system.batches import in_batches
from transfer.system.devices import shard
from transfer.system.settings import Amount, BelowOne, Count, Natural, Positive
from transfer.training import weights
from transfer.training.loop import Task

RUNNING = 0.1
"""Share of a batch in the running statistics, like PyTorch's momentum."""


@dataclasses.dataclass(frozen=True)
class BaselineConfig:
    """Model, loss and training settings. Use a preset and override fields."""

    model: Literal["knn", "logistic", "mlp", "cnn", "preact_resnet18", "preact_resnet34"] = "cnn"
    regulariser: Literal["none", "input_mixup", "manifold_mixup"] = "none"
    neighbours: Count = 4
    """For `knn`, whose votes weigh 1 / distance."""
    width: Count = 32
    """Channels of the first stage (32 in the CNN, 64 in the residual networks), hidden units of the
    `mlp`."""
    stem_stride: Literal[1, 2] = 1
    """For a residual network's first convolution."""
    dropout: tuple[BelowOne, BelowOne] = (0.25, 0.5)
    """For the `cnn`, after pooling and after the dense layer."""
    optimizer: Literal["lbfgs", "adadelta", "sgd", "adamw"] = "adadelta"
    """`lbfgs` takes all images in every step."""
    schedule: Literal["constant", "step", "cosine"] = "constant"
    """step: the rate falls to a tenth at half and again at three quarters of the steps. cosine: it
    falls to 0 after a warm-up."""
    epochs: Amount = 12.0
    steps: Natural = 0
    """Overrides epochs; 0: as many as the epochs take."""
    batch: Count = 128
    learning_rate: Positive = 1.0
    momentum: BelowOne = 0.9
    """Nesterov's, for `sgd`."""
    warmup: Natural = 0
    weight_decay: Amount = 0.0
    """For `sgd` and `adamw`, over all weights. For `lbfgs`, over squared weights without biases, in
    units of 1 / (2 n), scikit-learn's 1 / C."""
    mix_alpha: Positive = 2.0
    """The share of a mixed image is drawn from Beta(alpha, alpha)."""
    label_smoothing: BelowOne = 0.0
    objective: Literal["cross_entropy", "binary"] = "cross_entropy"
    """binary: the mean over classes of each one's own cross-entropy, as in manifold mixup's
    program. Its gradient is smaller by a factor of about the number of classes, and the learning
    rate suits that: 0.1 with `cross_entropy` and no warm-up diverges, here and in PyTorch."""
    warp: Amount = 0.0
    """Strength of the image augmentation (`transfer.models.augment.warp`)."""
    cutout: Natural = 0
    """Side in pixels of the square that is blanked in every training image."""
    ema: BelowOne = 0.0
    """Decay of the averaged weights that are evaluated; 0 uses the raw ones."""
    views: Literal[1, 5, 9] = 1
    """Test-time augmentation: probabilities are means over this many views, shifted by up to a
    pixel."""
    watched: Count = 1000
    """Held-out images on which the learning curve is measured. The final figures use all of
    them."""

    def __post_init__(self):
        """Raise ValueError for settings that contradict each other."""
        settings.check(self)
        if self.model == "knn" and self.regulariser != "none":
            raise ValueError("--regulariser: nearest neighbours have none")

    @classmethod
    def published(cls, model: str, regulariser: str = "none", size: int = 28) -> BaselineConfig:
        """As published: 4 neighbours; scikit-learn's logistic regression; Keras' mnist_cnn.py;
        mixup's and manifold mixup's recipes for CIFAR."""
        if model == "logistic":
            if size > 28:  # thousands of classes: all images in every step would take hours
                return cls(
                    model,
                    regulariser,
                    optimizer="adamw",
                    schedule="cosine",
                    epochs=5,
                    batch=512,
                    learning_rate=1e-3,
                )
            return cls(model, regulariser, optimizer="lbfgs", steps=200, weight_decay=1.0)
        if model == "mlp":
            return cls(
                model, regulariser, width=512, optimizer="adamw", epochs=20, learning_rate=1e-3
            )
        if model in BLOCKS:
            # Of thousands of classes the binary objective would hardly have a gradient, and there
            # is no published recipe.
            few = size < 64
            return cls(
                model,
                regulariser,
                width=64,
                stem_stride=1 if few else 2,
                optimizer="sgd",
                schedule="step" if few else "cosine",
                epochs=200,
                batch=100,
                learning_rate=0.1,
                warmup=0 if few else 1000,
                weight_decay=1e-4,
                mix_alpha=1.0 if regulariser == "input_mixup" else 2.0,
                objective="binary" if few else "cross_entropy",
            )
        return cls(model, regulariser)

    @classmethod
    def best(
        cls, model: str = "preact_resnet18", regulariser: str = "none", size: int = 28
    ) -> BaselineConfig:
        """Settings that aim beyond the best published result: the residual network with
        augmentation and averaged weights. Other models are as published."""
        config = cls.published(model, regulariser, size)
        if model not in BLOCKS:
            return config
        return dataclasses.replace(
            config,
            schedule="cosine",
            objective="cross_entropy",
            warmup=1000,
            weight_decay=5e-4,
            batch=128,
            label_smoothing=0.1,
            warp=0.7,
            cutout=size // 2,
            ema=0.999,
            views=5,
            mix_alpha=2.0,
        )


def fitted(config: BaselineConfig, data: Labelled) -> BaselineConfig:
    """The configuration with its epochs turned into steps; for an optimiser that takes all images,
    the batch is all of them."""
    batch = (
        len(data.train_images)
        if config.optimizer == "lbfgs"
        else min(config.batch, len(data.train_images))
    )
    steps = config.steps or max(1, -(-int(config.epochs * len(data.train_images)) // batch))
    return dataclasses.replace(config, batch=batch, steps=steps)


# A model as a function of two trees ---------------------------------------------------------------


class Network:
    """A network without its parameters, for images of one size and a number of classes."""

    def __init__(self, config: BaselineConfig, size: int, classes: int):
        self._make = lambda key: networks.build(config, size, classes, nnx.Rngs(params=key))
        self._graph, _ = nnx.split(nnx.eval_shape(lambda: self._make(jax.random.key(0))))

    def init(self, key: jax.Array) -> dict:
        """Parameters, {"weights": ..., "statistics": ...}."""
        _, learned, statistics = nnx.split(self._make(key), nnx.Param, nnx.BatchStat)
        return {"weights": nnx.to_pure_dict(learned), "statistics": nnx.to_pure_dict(statistics)}

    def _model(self, params: dict) -> nnx.Module:
        return nnx.merge(self._graph, params["weights"], params["statistics"])

    def train(
        self, params: dict, images: jax.Array, key: jax.Array, mix: Mix | None = None
    ) -> tuple[jax.Array, dict]:
        """images (B, S, S) in [0, 1] -> logits (B, C), and the batch's statistics."""
        model = self._model(params)
        logits = model(images, True, key, mix)
        return logits, jax.lax.stop_gradient(nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

    def logits(self, params: dict, images: jax.Array) -> jax.Array:
        """images (B, S, S) in [0, 1] -> logits (B, C)."""
        return self._model(params)(images)

    def features(self, params: dict, images: jax.Array) -> jax.Array:
        """images (B, S, S) in [0, 1] -> what the last layer reads, (B, D)."""
        return self._model(params).features(images)


def draw_mix(config: BaselineConfig, batch: int, key: jax.Array) -> Mix | None:
    """Depth, share and partners of a batch's mixup, or None if there is none."""
    if config.regulariser == "none":
        return None
    depth_key, share_key, partner_key = jax.random.split(key, 3)
    depths = {"input_mixup": 1, "manifold_mixup": 2 if config.model in ("logistic", "mlp") else 3}[
        config.regulariser
    ]
    return Mix(
        jax.random.randint(depth_key, (), 0, depths),
        jax.random.beta(share_key, config.mix_alpha, config.mix_alpha),
        jax.random.permutation(partner_key, batch),
    )


def binary_cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """-(t log p + (1 - t) log(1 - p)) of each class's probability p = softmax(logits), in nats: (B,
    C) and (B, C) to (B, C).

    Both logarithms are at least -100, as in PyTorch's `BCELoss`.
    """
    log_p = jax.nn.log_softmax(logits)
    # 1 - p is the sum of the others; near p = 1 it is taken from them, where 1 - p itself would be
    # rounded to nothing.
    highest = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(highest, -jnp.inf, log_p), -1, keepdims=True)
    log_rest = jnp.where(highest, others, jnp.log1p(-jnp.exp(jnp.where(highest, -1.0, log_p))))
    return -(target * jnp.maximum(log_p, -100.0) + (1.0 - target) * jnp.maximum(log_rest, -100.0))


def loss(
    config: BaselineConfig,
    network: Network,
    params: dict,
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    mix: Mix | None,
):
    """The loss and its parts: the mean cross-entropy in nats with the mixed and smoothed targets,
    or the `binary` one, and the term that makes the running statistics follow.

    images: (B, S, S) float32 in [0, 1]. labels: (B,) int32. key: for dropout.
    """
    logits, seen = network.train(params, images, key, mix)
    target = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), config.label_smoothing)
    if mix is not None:
        target = mix.share * target + (1.0 - mix.share) * target[mix.partner]
    entropy = optax.softmax_cross_entropy(logits, target).mean()
    value = (
        entropy
        if config.objective == "cross_entropy"
        else binary_cross_entropy(logits, target).mean()
    )
    parts = {"cross_entropy": entropy, "accuracy": (logits.argmax(-1) == labels).mean()}
    if config.optimizer == "lbfgs":
        kernels = [leaf for leaf in jax.tree.leaves(params["weights"]) if leaf.ndim > 1]
        value += (
            0.5
            * config.weight_decay
            / len(images)
            * sum(jnp.square(kernel).sum() for kernel in kernels)
        )
    apart = jax.tree.map(
        lambda running, batch: 0.5 * jnp.square(running - batch).sum(), params["statistics"], seen
    )
    follow = sum(jax.tree.leaves(apart))
    return value + follow - jax.lax.stop_gradient(follow), parts


def optimizer(config: BaselineConfig) -> optax.GradientTransformation:
    """The optimiser that the configuration names, for the two trees."""
    if config.optimizer == "lbfgs":
        return optax.lbfgs()
    rate = {
        "constant": lambda: config.learning_rate,
        "step": lambda: optax.piecewise_constant_schedule(
            config.learning_rate, {config.steps // 2: 0.1, config.steps * 3 // 4: 0.1}
        ),
        "cosine": lambda: optax.warmup_cosine_decay_schedule(
            0.0, config.learning_rate, min(config.warmup, config.steps // 2), config.steps
        ),
    }[config.schedule]()
    if config.optimizer == "adadelta":
        chosen = optax.adadelta(rate, rho=0.95, eps=1e-7)
    elif config.optimizer == "adamw":
        chosen = optax.adamw(rate, weight_decay=config.weight_decay)
    else:
        chosen = optax.chain(
            optax.add_decayed_weights(config.weight_decay),
            optax.sgd(rate, config.momentum, nesterov=True),
        )
    return optax.partition(
        {"weights": chosen, "statistics": optax.sgd(RUNNING)},
        {"weights": "weights", "statistics": "statistics"},
    )


def augmented(config: BaselineConfig, images: jax.Array, key: jax.Array) -> jax.Array:
    """Images (B, S, S) uint8 as the network sees them in training, float32 in [0, 1]."""
    warp_key, cut_key = jax.random.split(key)
    shown = augment.warp(images, warp_key, config.warp) if config.warp else augment.to_float(images)
    return augment.cutout(shown, cut_key, config.cutout) if config.cutout else shown


def build(config: BaselineConfig, data: Labelled, seed: int = 0) -> Task:
    """The training problem. `config` is what `fitted` returns."""
    size, classes = data.train_images.shape[1], len(data.names)
    network, everything = Network(config, size, classes), config.batch == len(data.train_images)

    def feed(data, number):
        if everything:
            return shard(data)
        index = shuffled(
            number * config.batch + jnp.arange(config.batch), len(data["images"]), seed
        )
        return shard({"images": data["images"][index], "labels": data["labels"][index]})

    def loss_of(params, batch, key, variant):
        augment_key, mix_key, model_key = jax.random.split(key, 3)
        images = augmented(config, batch["images"], augment_key)
        return loss(
            config,
            network,
            params,
            images,
            batch["labels"],
            model_key,
            draw_mix(config, config.batch, mix_key),
        )

    few = np.sort(np.random.default_rng(0).permutation(len(data.test_images))[: config.watched])

    def evaluate(params):
        log, labels = (
            log_probabilities(config, network, params, data.test_images[few]),
            data.test_labels[few],
        )
        answers = log.argmax(1)
        return {
            "accuracy": float((answers == labels).mean()),
            "balanced_accuracy": balanced_accuracy(labels, answers),
            "cross_entropy": float(-log[np.arange(len(few)), labels].mean()),
        }

    return Task(
        config.model,
        config,
        network.init,
        loss_of,
        {"images": data.train_images, "labels": np.asarray(data.train_labels, np.int32)},
        evaluate,
        provenance=data.provenance,
        optimizer=optimizer(config),
        feed=feed,
    )


# Answers ------------------------------------------------------------------------------------------

SHIFTS = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]


def shifted(images: jax.Array, down: int, right: int) -> jax.Array:
    """Images (B, S, S) moved by up to a pixel; paper (0) fills the gap."""
    size = images.shape[1]
    return jnp.pad(images, ((0, 0), (1, 1), (1, 1)))[
        :, 1 - down : 1 - down + size, 1 - right : 1 - right + size
    ]


def in_parts(function, images: np.ndarray) -> np.ndarray:
    """Apply `function`, compiled, to any number of images: (N, S, S) uint8 to (N, …).

    function: images (B, S, S) float32 in [0, 1] -> (B, …).
    """
    return in_batches(jax.jit(lambda part: function(augment.to_float(part))), images, (256,))


def log_probabilities(
    config: BaselineConfig, network: Network, params: dict, images: np.ndarray
) -> np.ndarray:
    """(N, S, S) uint8 -> (N, C) float32, natural logarithms. With `views` they are of the mean over
    shifted images."""

    def ask(images):
        views = jnp.concatenate([shifted(images, *shift) for shift in SHIFTS[: config.views]])
        seen = jax.nn.log_softmax(network.logits(params, views)).reshape(
            config.views, len(images), -1
        )
        return jax.nn.logsumexp(seen, 0) - np.log(config.views).astype(np.float32)

    return in_parts(ask, images)


def load(path: Path, size: int, classes: int) -> tuple[BaselineConfig, Network, dict]:
    """Configuration, network and parameters of a weights file. Raises WeightsError."""
    params, _, described = weights.load(path)
    config = weights.config(BaselineConfig, described)
    return (
        config,
        Network(config, size, classes),
        {"weights": params["weights"], "statistics": params.get("statistics", {})},
    )
