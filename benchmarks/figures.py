"""What is calculated from the runs. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import linear_regression, median


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of ours / theirs, each of ours with the one that ran in the same round.

    What slows the machine down for a while then slows down both.
    """
    return median(our / their for our, their in zip(ours, theirs, strict=True))


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """How y grows with x: the k of y ~ x ** k that fits the logarithms best, by least squares."""
    xs, ys = zip(*points, strict=True)
    return linear_regression([*map(math.log, xs)], [*map(math.log, ys)]).slope
