"""Student's t: how far a mean of few values may be off."""

from typing import Final

#: The normal distribution's point, and those with 1, 2, 3 and 4 degrees of freedom.
_TWO_SIDED: Final = (1.959964, (12.7062, 4.3027, 3.1824, 2.7764))
_ONE_SIDED: Final = (1.644854, (6.3138, 2.9200, 2.3534, 2.1318))


def t95(freedom: int, *, one_sided: bool = False) -> float:
    """What t stays below in 95% of cases, or its absolute value unless `one_sided`; from 1 degree of freedom on.

    By Abramowitz and Stegun 26.7.5.
    """
    z, points = _ONE_SIDED if one_sided else _TWO_SIDED
    if freedom <= len(points):
        return points[freedom - 1]
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
