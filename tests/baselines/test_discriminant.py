"""transfer.baselines.discriminant: against scikit-learn's formulas written out, and on classes
whose directions are known."""

import numpy as np
import pytest
from scipy import linalg

from transfer.baselines import discriminant


def clouds(classes=30, each=200, features=8, seed=0):
    """Classes that differ in the first three features alone, with correlated noise in all."""
    random = np.random.default_rng(seed)
    centres = np.zeros((classes, features))
    centres[:, :3] = random.normal(0, 4, (classes, 3))
    mix = random.normal(0, 1, (features, features)) / 2 + np.eye(features)
    labels = np.repeat(np.arange(classes), each)
    return centres[labels] + random.normal(0, 1, (len(labels), features)) @ mix, labels


def test_directions_solve_the_generalised_eigenproblem():
    x, labels = clouds()
    found = discriminant.fit(x, labels, 30, 3)
    means = np.stack([x[labels == c].mean(0) for c in range(30)])
    inside = x - means[labels]
    pooled = inside.T @ inside / (len(x) - 30)
    pooled = 0.95 * pooled + 0.05 * np.trace(pooled) / 8 * np.eye(8)
    between = np.cov(means.T, bias=True)
    values, vectors = linalg.eigh(between, pooled)
    # Of length 1 by the pooled covariance, then scaled to a variance of 1 with the classes' own.
    scaled = vectors[:, ::-1][:, :3] / np.sqrt(1 + values[::-1][:3])
    for ours, theirs in zip(found.kernel.T, scaled.T):
        np.testing.assert_allclose(ours * np.sign(ours @ theirs), theirs, rtol=1e-6)


def test_z_has_mean_0_variance_1_and_the_classes_means():
    x, labels = clouds()
    found = discriminant.fit(x, labels, 30, 3)
    z = x @ found.kernel + found.bias
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(
        z.var(0), 1, rtol=0.1
    )  # shrinkage takes the inside for a little wider than it is
    np.testing.assert_allclose(
        found.means, np.stack([z[labels == c].mean(0) for c in range(30)]), atol=1e-9
    )


def test_too_few_features_are_refused():
    with pytest.raises(ValueError, match="8 features"):
        discriminant.fit(*clouds(), 30, 9)
