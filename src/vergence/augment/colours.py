"""The colour jitter of a view, compiled: a picture at a time, which stays in the fastest cache through all of it."""

from collections.abc import Callable
from functools import cache
from typing import no_type_check

import numpy as np

from vergence.augment.parameters import CONTRAST, HUE, SATURATION
from vergence.fast.compiled import compiled, inner

_0, _half, _1, _6, _least = (np.float32(n) for n in (0, 0.5, 1, 6, 1e-30))
_sixth, _third = np.float32(1 / 6), np.float32(1 / 3)
_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)


@inner
@no_type_check
def _clamp(value):
    return min(max(value, _0), _1)


@inner
@no_type_check
def _blend(line, factor, other):
    for i in range(line.shape[0]):
        line[i] = _clamp(factor * line[i] + other)


@inner
@no_type_check
def _saturate(red, green, blue, factor):
    rest = _1 - factor
    for i in range(red.shape[0]):
        gray = rest * (red[i] * _RED + green[i] * _GREEN + blue[i] * _BLUE)
        red[i] = _clamp(factor * red[i] + gray)
        green[i] = _clamp(factor * green[i] + gray)
        blue[i] = _clamp(factor * blue[i] + gray)


@inner
@no_type_check
def _gray_of(red, green, blue, rows, columns, sums):
    """The mean gray, of rows and columns that count as much as they are said to; `sums` is room for a row."""
    width, total = columns.shape[0], _0
    sums[:] = _0
    for row in range(rows.shape[0]):
        share, begin = rows[row], row * width
        r, g, b = red[begin : begin + width], green[begin : begin + width], blue[begin : begin + width]
        for i in range(width):
            sums[i] += share * (r[i] * _RED + g[i] * _GREEN + b[i] * _BLUE)
    for i in range(width):
        total += columns[i] * sums[i]
    return total


@inner
@no_type_check
def _turn(red, green, blue, by):
    """The hue, as `operations.adjust_hue` says it."""
    for i in range(red.shape[0]):
        r, g, b = red[i], green[i], blue[i]
        largest, smallest = max(max(r, g), b), min(min(r, g), b)
        slope = (largest - smallest) * _6
        angle = abs((g + b - r - smallest) / max(slope, _least) + _sixth)
        angle = (angle if g >= b else -angle) + by  # in [-1, 1]
        angle = angle - _1 if angle > _half else angle
        angle = angle + _1 if angle < -_half else angle
        smallest -= slope * _sixth
        red[i] = _clamp(min(max(abs(_half - abs(angle)), _sixth), _third) * slope + smallest)
        green[i] = _clamp(min(max(abs(angle + _sixth), _sixth), _third) * slope + smallest)
        blue[i] = _clamp(min(max(abs(angle - _sixth), _sixth), _third) * slope + smallest)


@no_type_check
def _jitter(x, which, factors, order, rows, columns):
    sums = np.empty(x.shape[3], np.float32)
    for i in range(x.shape[0]):
        if not which[i]:
            continue
        red, green, blue = x[i, 0].reshape(-1), x[i, 1].reshape(-1), x[i, 2].reshape(-1)
        for now in range(4):
            operation = order[i, now]
            factor = factors[i, operation]
            if operation == HUE:
                _turn(red, green, blue, factor)
            elif operation == SATURATION:
                _saturate(red, green, blue, factor)
            else:
                other = _0
                if operation == CONTRAST:
                    other = (_1 - factor) * _gray_of(red, green, blue, rows[i], columns[i], sums)
                _blend(red, factor, other)
                _blend(green, factor, other)
                _blend(blue, factor, other)


@cache
def load() -> Callable[..., None]:
    """`(x, which, factors, order, rows, columns)`: `operations.jitter_` on arrays without gaps.

    Pictures `[b 3 h w]` in float32, changed in place; `which` `[b]`; factors `[b 4]` in float32, by operation; order
    `[b 4]`; what each row `[b h]` and column `[b w]` counts in the mean gray.
    """

    def warm(jitter: Callable[..., None]) -> None:
        x, which = np.zeros((1, 3, 1, 1), np.float32), np.ones(1, np.bool_)
        factors, order, share = np.zeros((1, 4), np.float32), np.arange(4)[None], np.ones((1, 1), np.float32)
        jitter(x, which, factors, order, share, share)

    return compiled([_jitter], warm)[0]
