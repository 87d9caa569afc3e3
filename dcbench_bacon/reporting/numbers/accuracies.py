"""Accuracies as numbers and as text, the same in all tables and commands."""

import math
from collections.abc import Sequence


def moments(accuracies: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample deviation (n - 1) of fractions, in percent.

    Sums are exact, so that neither order nor precision decides a printed digit. The
    deviation of a single number is NaN.
    """
    count = len(accuracies)
    mean = math.fsum(accuracies) / count
    if count < 2:
        return _tidy(mean), math.nan
    squares = math.fsum((accuracy - mean) ** 2 for accuracy in accuracies)
    return _tidy(mean), 100 * math.sqrt(squares / (count - 1))


def _tidy(mean: float) -> float:
    """Return a fraction in percent, such as 62.06 and not 62.06000000000001."""
    return round(100 * mean, 9)


def accuracy(mean: float, deviation: float, count: int) -> str:
    """Return mean and deviation in percent and n, as all tables and commands print."""
    spread = f" ± {deviation:.2f}" if deviation == deviation else ""
    return f"{mean:.2f}{spread} (n={count})"
