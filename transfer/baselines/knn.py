"""Exact nearest neighbours of byte images: matrix products find candidates and a bound, and integer
arithmetic decides.

    |t - x|^2 / 2 = |t|^2 / 2 + |x|^2 / 2 - t.x

takes one matrix product for each pair of a test block and a training block. Training images are
grouped, and only the least value of each group is kept. The groups with the least values so far are
merged block by block, so that memory depends on the blocks and not on the data set. Distances to
all members of these groups are then computed again in integers. A member of any other group cannot
be nearer than the greatest kept value less the product's rounding error. If that does not settle a
test image, it is compared with everything.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from transfer.system.devices import multiplies_bfloat16

GROUP = 16
"""Training images that share one kept value."""
SPARE = 8
"""Groups kept beyond one for each neighbour. Each makes it less likely that an image must be
compared with everything."""
TEST_BLOCK, TRAIN_BLOCK = 2048, 2048
"""Their products stay in a cache."""
PIECES = 4
"""Bytes of |x|^2."""


def neighbours(
    train: np.ndarray,
    test: np.ndarray,
    k: int = 4,
    test_block: int = TEST_BLOCK,
    train_block: int = TRAIN_BLOCK,
    progress: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """The k training images nearest to each test image, exactly: squared distances (N, k) int64,
    ascending, and indices (N, k) int64.

    train (M, ...) and test (N, ...) are uint8; all images have one shape of at most 33,025 pixels.
    Of equally near images the one with the lower index comes first. Raises ValueError if shapes do
    not fit, arrays are not uint8, or k is not in 1..M.
    """
    train, test = (np.ascontiguousarray(a).reshape(len(a), -1) for a in (train, test))
    pixels = train.shape[1]
    if (
        train.dtype != np.uint8
        or test.dtype != np.uint8
        or test.shape[1] != pixels
        or pixels * 255**2 >= 2**31
    ):
        raise ValueError(
            f"train {train.dtype} {train.shape} and test {test.dtype} {test.shape}: give uint8"
            " images of one, not too large shape"
        )
    if not 1 <= k <= len(train):
        raise ValueError(f"k = {k}: there are {len(train)} training images")
    train_block = -(-min(train_block, len(train)) // GROUP) * GROUP
    blocks = -(-len(train) // train_block)
    padded = np.zeros((blocks * train_block, pixels), np.uint8)
    padded[: len(train)] = train
    padded = jax.device_put(padded.reshape(blocks, train_block, pixels))
    distances, indices = np.empty((len(test), k), np.int64), np.empty((len(test), k), np.int64)
    unsettled = []
    with tqdm(
        total=len(test), desc=progress, unit="image", disable=None if progress else True
    ) as bar:
        for at in range(0, len(test), test_block):
            part = test[at : at + test_block]
            filled = np.zeros((min(test_block, -(-len(test) // 8) * 8), pixels), np.uint8)
            filled[: len(part)] = part
            found = _nearest(jnp.asarray(filled), padded, len(train), k)
            square, index, settled = (np.asarray(a)[: len(part)] for a in found)
            distances[at : at + len(part)], indices[at : at + len(part)] = square, index
            unsettled.append(at + np.flatnonzero(~settled))
            bar.update(len(part))
    for at in np.concatenate(unsettled):
        square = np.concatenate(
            [
                ((train[of : of + 8192].astype(np.int32) - test[at].astype(np.int32)) ** 2).sum(1)
                for of in range(0, len(train), 8192)
            ]
        )
        indices[at] = np.argsort(square, kind="stable")[:k]
        distances[at] = square[indices[at]]
    return distances, indices


@functools.partial(jax.jit, static_argnums=(2, 3))
def _nearest(test, train, count: int, k: int):
    """(B, D) uint8, (blocks, M, D) uint8 of which `count` are real -> squares (B, k) int32, indices
    (B, k), settled (B,)."""
    blocks, members, pixels = train.shape
    groups = members // GROUP
    kept = min(k + SPARE, blocks * groups)
    # A byte is exact in bfloat16; sums are float32 either way.
    number = jnp.bfloat16 if multiplies_bfloat16() else jnp.float32
    # |x|^2 / 2 is part of the product, as columns of eight bits each, which are exact, too.
    left = jnp.concatenate([test.astype(number), -jnp.ones((len(test), PIECES), number)], 1)

    def merge(best, block):
        at, images = block
        # What fills up the last block is farther away than any image can be.
        twice = jnp.where(
            at * members + jnp.arange(members) < count,
            jnp.square(images.astype(jnp.int32)).sum(1),
            2**31 - 1,
        )
        pieces = jnp.stack(
            [
                (twice >> (8 * i) & 255).astype(jnp.float32) * 2.0 ** (8 * i - 1)
                for i in range(PIECES)
            ],
            1,
        )
        likeness = jax.lax.dot_general(
            left,
            jnp.concatenate([images.astype(number), pieces.astype(number)], 1),
            (((1,), (1,)), ((), ())),
            preferred_element_type=jnp.float32,
        )
        # Group g of a block: its members g, g + groups, g + 2 groups, ...
        least = -likeness.reshape(-1, GROUP, groups).max(1)
        values = jnp.concatenate([best[0], least], 1)
        numbers = jnp.concatenate(
            [best[1], jnp.broadcast_to(at * groups + jnp.arange(groups), least.shape)], 1
        )
        top, place = jax.lax.top_k(-values, kept)
        return (-top, jnp.take_along_axis(numbers, place, 1)), None

    start = jnp.full((len(test), kept), jnp.inf), jnp.zeros((len(test), kept), jnp.int32)
    (values, numbers), _ = jax.lax.scan(merge, start, (jnp.arange(blocks), train))
    member = (numbers // groups * members + numbers % groups)[..., None] + groups * jnp.arange(
        GROUP
    )
    flat = train.reshape(-1, pixels)

    def compare(pair):
        image, index = pair
        difference = flat[jnp.minimum(index, count - 1)].astype(jnp.int32) - image.astype(jnp.int32)
        square = jnp.where(index < count, jnp.square(difference).sum(-1), jnp.iinfo(jnp.int32).max)
        order = jnp.lexsort((index, square))[:k]
        return square[order], index[order]

    square, index = jax.lax.map(compare, (test, member.reshape(len(test), -1)), batch_size=8)
    # A sum of D products is rounded by at most D u times the sum of their magnitudes (Higham,
    # Accuracy and Stability, 3.1), here |t||x| + |x|^2 / 2, with u = 2^-23 for units that truncate.
    # An image that is nearer than the last one found has |x| <= |t| + its distance.
    own = jnp.square(test.astype(jnp.int32)).sum(-1).astype(jnp.float32)
    last, length = square[:, -1].astype(jnp.float32), jnp.sqrt(own)
    reach = length + jnp.sqrt(last)
    error = (pixels + PIECES) * 2.0**-23 * reach * (2 * length + reach)
    beyond = 2 * values[:, -1]
    settled = (last + error + 2.0**-20 * (own + last + jnp.abs(beyond)) < own + beyond) | (
        kept == blocks * groups
    )
    return square, index, settled


def vote(distances: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Shares of the vote, weighted by 1 / distance: (N, classes) float64, rows of sum 1.

    distances (N, k): squared, ascending; labels (N, k) of the neighbours. If any neighbours have
    distance 0, they alone vote. This is what scikit-learn's
    `KNeighborsClassifier(weights="distance")` does: its answer is the argmax, and the lowest class
    if shares are equal.
    """
    with np.errstate(divide="ignore"):
        weights = 1.0 / np.sqrt(np.asarray(distances, np.float64))
    same = np.isinf(weights)
    weights = np.where(same.any(1, keepdims=True), same, weights)
    shares = np.zeros((len(weights), classes))
    rows = np.arange(len(weights))
    for each in range(weights.shape[1]):
        shares[rows, labels[:, each]] += weights[:, each]
    return shares / shares.sum(1, keepdims=True)
