"""Linear discriminant analysis: it reduces features of labelled examples to a few directions that
separate the classes."""

from __future__ import annotations

import dataclasses

import numpy as np

_SHRINKAGE = 0.05
"""Share of the mean variance in the pooled covariance, because classes have few examples (Ledoit &
Wolf 2004 say how much is best)."""


@dataclasses.dataclass(frozen=True)
class Discriminant:
    """z = features @ kernel + bias, with a variance of about 1 over all examples.

    kernel (F, D), bias (D,); means (C, D): the classes' z.
    """

    kernel: np.ndarray
    bias: np.ndarray
    means: np.ndarray


def fit(features: np.ndarray, labels: np.ndarray, classes: int, dimensions: int) -> Discriminant:
    """Find the `dimensions` directions with the most variance between classes relative to the
    variance within them. features: (N, F). labels: (N,) int, in which every one of `classes`
    occurs. Raises ValueError if there are fewer features than directions."""
    if features.shape[1] < dimensions:
        raise ValueError(f"{features.shape[1]} features cannot give {dimensions} directions")
    x = np.asarray(features, np.float64)
    count = np.bincount(labels, minlength=classes)[:, None]
    means = np.zeros((classes, x.shape[1]))
    np.add.at(means, labels, x)
    means /= count
    middle = means.mean(0)
    inside = x - means[labels]
    pooled = inside.T @ inside / max(len(x) - classes, 1)
    size = pooled.shape[0]
    pooled = (1 - _SHRINKAGE) * pooled + _SHRINKAGE * np.trace(pooled) / size * np.eye(size)
    variance, axes = np.linalg.eigh(pooled)
    whiten = axes / np.sqrt(variance)
    apart = (means - middle) @ whiten
    eigenvalues, directions = np.linalg.eigh(apart.T @ apart / classes)
    chosen = np.argsort(-eigenvalues)[:dimensions]
    scale = 1 / np.sqrt(1 + eigenvalues[chosen])
    kernel = whiten @ directions[:, chosen] * scale
    return Discriminant(kernel, -middle @ kernel, (means - middle) @ kernel)
