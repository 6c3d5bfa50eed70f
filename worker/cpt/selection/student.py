"""Student's t: how far a mean of few values may be off."""

import math
from typing import Final

#: The normal distribution's point, and those with 1, 2, 3 and 4 degrees of freedom.
_TWO_SIDED: Final = (1.959964, (12.7062, 4.3027, 3.1824, 2.7764))
_PIECES: Final = 400


def t95(freedom: int) -> float:
    """What t's absolute value stays below in 95% of cases; from 1 degree of freedom on.

    By Abramowitz and Stegun 26.7.5.
    """
    z, points = _TWO_SIDED
    if freedom <= len(points):
        return points[freedom - 1]
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def upper_tail(t: float, freedom: int) -> float:
    """The chance of a value of t or more, by Simpson's rule over its angle: t = sqrt(freedom) tan(angle)."""
    angle = math.atan(t / math.sqrt(freedom))
    width = (math.pi / 2 - angle) / _PIECES

    def density(place: int) -> float:
        return max(0.0, math.cos(angle + place * width)) ** (freedom - 1)

    inner = sum((4 if place % 2 else 2) * density(place) for place in range(1, _PIECES))
    area = width / 3 * (density(0) + inner + density(_PIECES))
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return min(1.0, constant * area)
