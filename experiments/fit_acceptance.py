"""Fit three things to one set of weights, and measure them: what tells Kuzushiji kanji from other
pictures, how confident readings are, and from which probability they are sure.

    # writes runs/small/acceptance.safetensors
    python experiments/fit_acceptance.py --weights runs/small --data DIR
    python experiments/fit_acceptance.py --data DIR  # the shipped weights

It fits them on train images (and on the training fonts, if the data folder has any), one half of
val, the hands and characters that training left out (`autoencoders.hard_examples`) and
`negatives.FITTED`. It reports on the other half, on zero-shot characters and on kinds of pictures
that took no part. It takes a few minutes. It leaves out kinds of negatives whose sources (fonts,
scikit-image, scikit-learn) are not installed.
"""

import argparse
import sys
import warnings
from pathlib import Path

import disturbances
import jax
import jax.numpy as jnp
import negatives
import numpy as np
import optax
from flax import nnx
from image_robustness import wilson
from tqdm import tqdm

from transfer.commands import arguments
from transfer.data import corpus as corpora
from transfer.data.writing import kana
from transfer.evaluation import cross_fitting
from transfer.evaluation.cases import places_of
from transfer.inference import acceptance
from transfer.inference.images import ImageError, read_image
from transfer.inference.pipeline import PRETRAINED, KuzushijiTransfer
from transfer.system.batches import in_batches
from transfer.system.entry import fail, guarded
from transfer.system.errors import DataError
from transfer.system.files import atomic_write
from transfer.training import weights

TRAIN, DISTURBED = 3000, 1000  # train images in all, and those of them that are seen as they come
FONTS = 600  # images of brush fonts, where the data folder has them, that are fitted and reported
AXES, HIDDEN = 64, 32
REJECTED = 0.015  # share of the val images that set the border which may be called no kanji
PRECISION = {"val": 0.97, "hands": 0.95, "aside": 0.85}
"""Which share of the sure readings must be right: of val, of hands, and of characters that training
left out."""


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.weights(parser)
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--out", type=Path, help="folder for acceptance.safetensors [that of the weights]"
    )
    parser.add_argument(
        "--report", type=Path, help="Markdown file for the table, which is also printed"
    )
    parser.add_argument(
        "--count",
        type=int,
        default=300,
        help="number of pictures of each kind to fit [%(default)s]",
    )
    parser.add_argument(
        "--test",
        type=int,
        default=100,
        help="number of pictures of each kind to report [%(default)s]",
    )
    chosen = parser.parse_args()
    if min(chosen.count, chosen.test) < 1:
        parser.error("--count and --test must be 1 or more")
    folder = chosen.weights or PRETRAINED
    try:
        corpus = corpora.load(chosen.data)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # that the file there belongs to other weights: it is about to be replaced
            model = KuzushijiTransfer.load(folder)
        rule, lines = fit(model, corpus, chosen.count, chosen.test)
    except (DataError, weights.WeightsError) as error:
        return fail(str(error))
    path = (chosen.out or folder) / f"{acceptance.FILE}.safetensors"
    try:
        rule.save(path, {"lines": lines}, model.old_params, model.mdn_params)
        if chosen.report:
            with atomic_write(chosen.report) as part:
                part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        return fail(
            f"{path}: cannot be written ({error.strerror}); choose another folder with --out"
        )
    print("\n".join(lines))
    print(f"\n{path.name}: {path.stat().st_size / 1e3:.0f} kB, in {path.parent}")
    return 0


def fit(
    model: KuzushijiTransfer, corpus, count: int, test: int
) -> tuple[acceptance.Acceptance, list[str]]:
    """The rule and the lines of its report."""
    see = seeing(model)
    rng = np.random.default_rng(0)
    old = corpus.old
    train = rng.permutation(old.indices("train"))[:TRAIN]
    train, val, zero = (
        np.array(old.images[np.sort(i)])
        for i in (train, old.indices("val"), old.indices("zero-shot"))
    )
    val_points = np.asarray(old.code_points)[old.indices("val")]
    half = np.arange(len(val)) % 2 == 0
    arrays = distances(see(train))
    rule = acceptance.Acceptance(arrays)
    describe = lambda images: rule.describe(images, see(images))
    pages = disturbed(train[:DISTURBED], 1)
    # The border is set on images that the network has not seen, or it would be set too high.
    learned, bordered = val[half][::2], val[half][1::2]
    kinds = negatives.kinds()
    pictures = {
        kind: read_all(
            make(np.random.default_rng([3, number]), count if kind in negatives.FITTED else test)
        )
        for number, (kind, make) in enumerate(
            tqdm(kinds.items(), desc="negatives", file=sys.stderr, disable=None)
        )
    }
    fitted = [kind for kind in pictures if kind in negatives.FITTED]
    fonts = of_fonts(corpus, "train", rng)
    numbers = [describe(x) for x in (learned, train[DISTURBED:], pages, fonts)]
    foreign = np.concatenate(
        [describe(pictures[kind][0]) for kind in fitted if len(pictures[kind][0])]
    )
    arrays |= learn(np.concatenate(numbers), foreign)
    border = np.quantile(
        acceptance.score(
            arrays, np.concatenate([describe(bordered), describe(disturbed(bordered, 2))])
        ),
        REJECTED,
    )
    arrays["bias2"] = np.float16(arrays["bias2"] - border).astype(
        np.float32
    )  # familiarity 0.5 is the border

    known = half & np.isin(val_points, [ord(c) for c in model.characters])
    parts = {"val": (val[known], val_points[known])} | cross_fitting.left_out(model, corpus)
    model.confidence = cross_fitting.fit_confidence(model, list(parts.values()))
    levels = []
    for name, (images, points) in parts.items():
        first = model.read(images, top=1)
        stated = [r.candidates[0][1] for r in first]
        levels.append(sure_level(stated, right(first, points), PRECISION[name]))
        print(f"{name}: {PRECISION[name]:.0%} of the readings are right from {levels[-1]:.3f} on")
    rule = acceptance.Acceptance(arrays, max(levels), model.confidence)
    model.acceptance = rule
    return rule, report(
        model,
        see,
        val[~half],
        val_points[~half],
        disturbed(val[~half], 4),
        zero,
        of_fonts(corpus, "choose", rng),
        kana.kept(corpus.folder),
        pictures,
    )


def of_fonts(corpus, role: str, rng) -> np.ndarray:
    """Up to FONTS images (n, 64, 64) uint8 of the fonts of a role."""
    if corpus.fonts is None:
        return np.zeros((0, 64, 64), np.uint8)
    rows = np.sort(rng.permutation(corpus.fonts.of(role))[:FONTS])
    return np.array(corpus.fonts.images[rows]).reshape(-1, 64, 64)


def right(results, points: np.ndarray) -> np.ndarray:
    """Whether the first candidate of each result is the kanji, in any form, (n,) bool."""
    return np.array([places_of(r, chr(c))[1] == 0 for r, c in zip(results, points)], bool)


def seeing(model: KuzushijiTransfer):
    """images (N, 64, 64) uint8 -> `acceptance.signals` of all of them."""
    compiled = jax.jit(
        lambda params, x: acceptance.signals(
            nnx.merge(model.old_graph, params), x.astype(jnp.float32) / 255
        )
    )

    return lambda images: in_batches(lambda part: compiled(model.old_params, part), images, (200,))


def distances(seen: dict) -> dict[str, np.ndarray]:
    """The arrays that tell how far a latent and features are from those of the training images,
    rounded as they are stored."""
    z, features = seen["z_old"].astype(np.float64), seen["features"].astype(np.float64)
    variances, axes = np.linalg.eigh(np.cov(z.T))
    centred = features - features.mean(0)
    values, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    found = {
        "z_mean": z.mean(0),
        "z_whiten": axes / np.sqrt(variances + 1e-3),
        "feature_mean": features.mean(0),
        "feature_axes": directions[:, -AXES:],
        "feature_scale": np.sqrt(values[-AXES:] + 1e-3),
    }
    return {k: v.astype(np.float16).astype(np.float32) for k, v in found.items()}


def learn(kanji: np.ndarray, foreign: np.ndarray, steps: int = 1500) -> dict[str, np.ndarray]:
    """Train the network by full-batch Adam with weight decay. Both sides have the same weight."""
    x = np.concatenate([kanji, foreign])
    centre, scale = (
        x.mean(0).astype(np.float16).astype(np.float32),
        (x.std(0) + 1e-3).astype(np.float16).astype(np.float32),
    )
    x = jnp.asarray((x - centre) / scale)
    sign = jnp.asarray(np.r_[np.ones(len(kanji)), -np.ones(len(foreign))])
    weight = jnp.asarray(
        np.r_[np.full(len(kanji), 0.5 / len(kanji)), np.full(len(foreign), 0.5 / len(foreign))]
    )
    one, two = jax.random.split(jax.random.key(0))
    params = {
        "in1": jax.random.normal(one, (x.shape[1], HIDDEN)) / np.sqrt(x.shape[1]),
        "bias1": jnp.zeros(HIDDEN),
        "out": jax.random.normal(two, (HIDDEN,)) / np.sqrt(HIDDEN),
        "bias2": jnp.zeros(()),
    }
    optimiser = optax.adam(3e-3)

    def loss(p):
        hidden = jax.nn.relu(x @ p["in1"] + p["bias1"])
        likelihood = (weight * jax.nn.softplus(-sign * (hidden @ p["out"] + p["bias2"]))).sum()
        return likelihood + 1e-4 * ((p["in1"] ** 2).sum() + (p["out"] ** 2).sum())

    def step(state, _):
        p, memory = state
        change, memory = optimiser.update(jax.grad(loss)(p), memory)
        return (optax.apply_updates(p, change), memory), None

    (params, _), _ = jax.jit(lambda state: jax.lax.scan(step, state, None, steps))(
        (params, optimiser.init(params))
    )
    return {k: np.asarray(v, np.float16).astype(np.float32) for k, v in params.items()} | {
        "centre": centre,
        "scale": scale,
    }


def sure_level(probabilities, right, wanted: float) -> float:
    """The lowest probability from which at least `wanted` of the readings are right."""
    order = np.argsort(probabilities)[::-1]
    precision = np.cumsum(np.asarray(right)[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(precision >= wanted)
    return round(float(np.asarray(probabilities)[order[enough[-1]]]), 3) if len(enough) else 1.0


def disturbed(images: np.ndarray, seed: int) -> np.ndarray:
    """Images as users have them: enlarged to pages, each disturbed in a different way, and read.
    Refused ones are left out."""
    rng = np.random.default_rng(seed)
    names = [n for n in disturbances.KINDS if n not in ("16 pixels", "2,000 to 6,000 pixels")]
    made = [
        disturbances.KINDS[names[i % len(names)]](
            rng, disturbances.page_of(image), disturbances.page_of(images[i - 1])
        )
        for i, image in enumerate(images)
    ]
    return read_all(made)[0]


def read_all(sources: list) -> tuple[np.ndarray, int]:
    """Images (n, 64, 64) uint8, and how many pictures were refused because they have no ink."""
    read, refused = [], 0
    for source in sources:
        try:
            read.append(read_image(source).image)
        except ImageError:
            refused += 1
    return np.array(read, np.uint8).reshape(-1, 64, 64), refused


def report(model, see, val, points, disturbed_val, zero, fonts, hiragana, pictures) -> list[str]:
    """Lines of Markdown: how often kanji are called none, how often sure readings are right, and
    how hiragana and other pictures are read."""
    share = lambda hits, n: "{:.1f} % [{:.1f}, {:.1f}]".format(
        100 * hits / max(n, 1), *(100 * v for v in wilson(int(hits), n))
    )
    known = lambda images: model.acceptance.familiarity(images, see(images)) >= acceptance.FAMILIAR
    results = model.read(val, top=1)
    hit = right(results, points)
    verdict = np.array([r.verdict for r in results])
    sure, unsure = verdict == "sure", verdict == "not sure"
    lines = [
        (
            f'Level of "sure": best candidate at {model.acceptance.sure:.3f} or more. 95 %'
            " intervals (Wilson)."
        ),
        f"Made from {negatives.sources()}.",
        "",
        '| Kuzushiji kanji | images | called "not a kanji" |',
        "|---|---|---|",
    ]
    for name, images in (
        ("val, the half that took no part", val),
        ("the same, disturbed", disturbed_val),
        ("zero-shot characters", zero),
        (
            (
                "a brush font that training left out, whose images took part in the fit of the "
                "level only"
            ),
            fonts,
        ),
    ):
        if len(images):
            lines.append(
                f"| {name} | {len(images)} | {share((~known(images)).sum(), len(images))} |"
            )
    lines += [
        "",
        "| verdict on val, the half that took no part | share | first candidate right |",
        "|---|---|---|",
        f"| sure | {share(sure.sum(), len(val))} | {share(hit[sure].sum(), int(sure.sum()))} |",
        (
            f"| not sure | {share(unsure.sum(), len(val))} |"
            f" {share(hit[unsure].sum(), int(unsure.sum()))} |"
        ),
        "",
        *of_kana(model, hiragana, share),
        "| not a Kuzushiji kanji | pictures | refused: no ink | taken for a kanji"
        ' | of these "sure" |',
        "|---|---|---|---|---|",
    ]
    groups = {"took no part in the fit": [], "took part": [], "similar to kanji, counted apart": []}
    for kind in pictures:
        groups[
            (
                "similar to kanji, counted apart"
                if kind in negatives.APART
                else "took part"
                if kind in negatives.FITTED
                else "took no part in the fit"
            )
        ].append(kind)
    for group, kinds in groups.items():
        whole_count, whole_taken, whole_sure, whole_refused = 0, 0, 0, 0
        for kind in kinds:
            images, refused = pictures[kind]
            verdicts = (
                [r.verdict for r in model.read(images[known(images)], top=1)] if len(images) else []
            )
            taken, certain = sum(v != "not a kanji" for v in verdicts), verdicts.count("sure")
            count = len(images) + refused
            lines.append(f"| {kind} | {count} | {refused} | {share(taken, count)} | {certain} |")
            whole_count, whole_taken, whole_sure, whole_refused = (
                whole_count + count,
                whole_taken + taken,
                whole_sure + certain,
                whole_refused + refused,
            )
        if kinds:
            lines.append(
                f"| **{group}: all** | {whole_count} | {whole_refused} |"
                f" {share(whole_taken, whole_count)} | {whole_sure} |"
            )
    return lines


def of_kana(model, hiragana, share) -> list[str]:
    """Lines of Markdown: what the kept hiragana are called, and how many are read right."""
    if hiragana is None:
        return []
    results = model.read(hiragana.images, top=1)
    verdicts, count = [r.verdict for r in results], len(results)
    known = [
        r.kana is not None and ord(r.kana[0]) == c for r, c in zip(results, hiragana.code_points)
    ]
    called = " | ".join(
        share(verdicts.count(v), count) for v in ("kana", "sure", "not sure", "not a kanji")
    )
    return [
        '| cursive hiragana that no model has seen | images | called "kana" | "sure", as a kanji |'
        ' "not sure" | "not a kanji" | the likeliest hiragana is right |',
        "|---|---|---|---|---|---|---|",
        f"| Kuzushiji-MNIST, the kept images | {count} | {called} | {share(sum(known), count)} |",
        "",
    ]


if __name__ == "__main__":
    sys.exit(main())
