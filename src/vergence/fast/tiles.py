"""Winograd's change of basis, compiled: a map's tiles at their points, and back.

F(m, 3) in one direction is a small matrix whose entries are small whole numbers, so it is written out, line by line: a
line is `n` values in a row, and the same sums are taken of all of them. In two directions it is taken of whole rows of
a map first, which tiles side by side share, and then of the pixels of each tile, all channels of a pixel being a line.

Only the four functions at the end are called from outside, as `load()` gives them.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np

from vergence.fast.compiled import compiled, inner

# Python's numbers would make float64 of all.
_2, _3, _4, _5, _8 = (np.float32(n) for n in (2, 3, 4, 5, 8))
_half, _4th, _6th, _12th, _24th = (np.float32(1 / n) for n in (2, 4, 6, 12, 24))


# --- one direction ----------------------------------------------------------------------------------------------------
# Each takes lines of n values, `step` apart from x[at] on, and leaves lines `by` apart from y[to] on. Loops are short
# because a compiler that cannot prove lines to be apart looks at each pair of them first, and gives up on many.


@inner
@no_type_check
def _two(x, at, step, n):
    return x[at : at + n], x[at + step : at + step + n]


@inner
@no_type_check
def _three(x, at, step, n):
    return x[at : at + n], x[at + step : at + step + n], x[at + 2 * step : at + 2 * step + n]


@inner
@no_type_check
def _inputs_4(x, at, step, y, to, by, n):
    """B^T for points 0, 1, -1, 2, -2 and infinity: 6 lines become 6."""
    d0, d1, d2 = _three(x, at, step, n)
    d3, d4, d5 = _three(x, at + 3 * step, step, n)
    p0, p1, p2 = _three(y, to, by, n)
    p3, p4, p5 = _three(y, to + 3 * by, by, n)
    for c in range(n):
        p0[c] = _4 * d0[c] - _5 * d2[c] + d4[c]
        p5[c] = _4 * d1[c] - _5 * d3[c] + d5[c]
    for c in range(n):
        even, odd = d4[c] - _4 * d2[c], d3[c] - _4 * d1[c]
        p1[c], p2[c] = even + odd, even - odd
    for c in range(n):
        even, odd = d4[c] - d2[c], _2 * (d3[c] - d1[c])
        p3[c], p4[c] = even + odd, even - odd


@inner
@no_type_check
def _outputs_4(x, at, step, y, to, by, n):
    """A^T: the 6 lines of points become the 4 of a tile."""
    p0, p1, p2 = _three(x, at, step, n)
    p3, p4, p5 = _three(x, at + 3 * step, step, n)
    y0, y1 = _two(y, to, by, n)
    y2, y3 = _two(y, to + 2 * by, by, n)
    for c in range(n):
        y0[c] = p0[c] + (p1[c] + p2[c]) + (p3[c] + p4[c])
    for c in range(n):
        y1[c] = (p1[c] - p2[c]) + _2 * (p3[c] - p4[c])
        y2[c] = (p1[c] + p2[c]) + _4 * (p3[c] + p4[c])
    for c in range(n):
        y3[c] = (p1[c] - p2[c]) + _8 * (p3[c] - p4[c]) + p5[c]


@inner
@no_type_check
def _spread_4(x, at, step, y, to, by, n):
    """A: the 4 lines of a tile of gradients become those of 6 points."""
    g0, g1 = _two(x, at, step, n)
    g2, g3 = _two(x, at + 2 * step, step, n)
    p0, p1, p2 = _three(y, to, by, n)
    p3, p4, p5 = _three(y, to + 3 * by, by, n)
    for c in range(n):
        p0[c], p5[c] = g0[c], g3[c]
    for c in range(n):
        even, odd = g0[c] + g2[c], g1[c] + g3[c]
        p1[c], p2[c] = even + odd, even - odd
    for c in range(n):
        even, odd = g0[c] + _4 * g2[c], _2 * g1[c] + _8 * g3[c]
        p3[c], p4[c] = even + odd, even - odd


@inner
@no_type_check
def _inputs_3(x, at, step, y, to, by, n):
    """B^T for points 0, 1, -1, 2 and infinity: 5 lines become 5."""
    d0, d1, d2 = _three(x, at, step, n)
    d3, d4 = _two(x, at + 3 * step, step, n)
    p0, p1, p2 = _three(y, to, by, n)
    p3, p4 = _two(y, to + 3 * by, by, n)
    for c in range(n):
        p0[c] = _2 * (d0[c] - d2[c]) - (d1[c] - d3[c])
    for c in range(n):
        p1[c] = d3[c] - d2[c] - _2 * d1[c]
        p2[c] = d3[c] - _3 * d2[c] + _2 * d1[c]
    for c in range(n):
        p3[c] = d3[c] - d1[c]
        p4[c] = _2 * (d1[c] - d3[c]) - (d2[c] - d4[c])


@inner
@no_type_check
def _outputs_3(x, at, step, y, to, by, n):
    """A^T: 5 lines become 3."""
    p0, p1, p2 = _three(x, at, step, n)
    p3, p4 = _two(x, at + 3 * step, step, n)
    y0, y1, y2 = _three(y, to, by, n)
    for c in range(n):
        y0[c] = p0[c] + (p1[c] + p2[c]) + p3[c]
    for c in range(n):
        y1[c] = (p1[c] - p2[c]) + _2 * p3[c]
    for c in range(n):
        y2[c] = (p1[c] + p2[c]) + _4 * p3[c] + p4[c]


@inner
@no_type_check
def _spread_3(x, at, step, y, to, by, n):
    """A: 3 lines become 5."""
    g0, g1, g2 = _three(x, at, step, n)
    p0, p1, p2 = _three(y, to, by, n)
    p3, p4 = _two(y, to + 3 * by, by, n)
    for c in range(n):
        p0[c], p4[c] = g0[c], g2[c]
    for c in range(n):
        even = g0[c] + g2[c]
        p1[c], p2[c] = even + g1[c], even - g1[c]
    for c in range(n):
        p3[c] = g0[c] + _2 * g1[c] + _4 * g2[c]


@inner
@no_type_check
def _kernel_4(x, at, step, y, to, by, n):
    """G: the 3 lines of a kernel become those of 6 points."""
    w0, w1, w2 = _three(x, at, step, n)
    p0, p1, p2 = _three(y, to, by, n)
    p3, p4, p5 = _three(y, to + 3 * by, by, n)
    for c in range(n):
        p0[c], p5[c] = w0[c] * _4th, w2[c]
    for c in range(n):
        even, odd = w0[c] + w2[c], w1[c]
        p1[c], p2[c] = (even + odd) * -_6th, (even - odd) * -_6th
    for c in range(n):
        even, odd = w0[c] + _4 * w2[c], _2 * w1[c]
        p3[c], p4[c] = (even + odd) * _24th, (even - odd) * _24th


@inner
@no_type_check
def _weights_4(x, at, step, y, to, by, n):
    """G^T: the 6 lines of points become the 3 of a kernel's gradient."""
    p0, p1, p2 = _three(x, at, step, n)
    p3, p4, p5 = _three(x, at + 3 * step, step, n)
    w0, w1, w2 = _three(y, to, by, n)
    for c in range(n):
        w0[c] = _4th * p0[c] - _6th * (p1[c] + p2[c]) + _24th * (p3[c] + p4[c])
    for c in range(n):
        w1[c] = _12th * (p3[c] - p4[c]) - _6th * (p1[c] - p2[c])
    for c in range(n):
        w2[c] = _6th * ((p3[c] + p4[c]) - (p1[c] + p2[c])) + p5[c]


@inner
@no_type_check
def _kernel_3(x, at, step, y, to, by, n):
    """G: 3 lines become 5."""
    w0, w1, w2 = _three(x, at, step, n)
    p0, p1, p2 = _three(y, to, by, n)
    p3, p4 = _two(y, to + 3 * by, by, n)
    for c in range(n):
        p0[c], p4[c] = w0[c] * _half, w2[c]
    for c in range(n):
        even = w0[c] + w2[c]
        p1[c], p2[c] = (even + w1[c]) * -_half, (even - w1[c]) * -_6th
    for c in range(n):
        p3[c] = (w0[c] + _2 * w1[c] + _4 * w2[c]) * _6th


@inner
@no_type_check
def _weights_3(x, at, step, y, to, by, n):
    """G^T: 5 lines become 3."""
    p0, p1, p2 = _three(x, at, step, n)
    p3, p4 = _two(x, at + 3 * step, step, n)
    w0, w1, w2 = _three(y, to, by, n)
    for c in range(n):
        w0[c] = _half * (p0[c] - p1[c]) - _6th * (p2[c] - p3[c])
    for c in range(n):
        w1[c] = _6th * (p2[c] + _2 * p3[c]) - _half * p1[c]
    for c in range(n):
        w2[c] = _6th * (_4 * p3[c] - p2[c]) - _half * p1[c] + p4[c]


# --- either size of tile ----------------------------------------------------------------------------------------------


@no_type_check
def _either(of_4, of_3):
    @inner
    def lines(m, x, at, step, y, to, by, n):
        if m == 4:
            of_4(x, at, step, y, to, by, n)
        else:
            of_3(x, at, step, y, to, by, n)

    return lines


_inputs, _spread = _either(_inputs_4, _inputs_3), _either(_spread_4, _spread_3)
_outputs = _either(_outputs_4, _outputs_3)
_kernel, _weights = _either(_kernel_4, _kernel_3), _either(_weights_4, _weights_3)


@inner
@no_type_check
def _tiles(overlap, m, x, at, step, y, to, by, n):
    if overlap:
        _inputs(m, x, at, step, y, to, by, n)
    else:
        _spread(m, x, at, step, y, to, by, n)


# --- two directions ---------------------------------------------------------------------------------------------------


@no_type_check
def _map_to(x, first, m, overlap, points):
    _, height, width, channels = x.shape
    size, tiles = points.shape[0], points.shape[2]
    rows, columns = -(-height // m), -(-width // m)
    before = 1 if overlap else 0
    row = (columns * m + 2 * before) * channels
    edged = np.zeros((rows * m + 2 * before, row), np.float32)  # the edge of a picture, which stays 0
    lines = np.empty((size, row), np.float32)
    flat, flat_lines, flat_points = edged.reshape(-1), lines.reshape(-1), points.reshape(-1)
    for tile in range(0, tiles, columns):
        picture, at = divmod(tile // columns, rows)
        if at == 0:
            for i in range(height):
                edged[before + i, before * channels : (before + width) * channels] = x[first + picture, i].reshape(-1)
        _tiles(overlap, m, flat, at * m * row, row, flat_lines, 0, row, row)
        for i in range(size):
            for column in range(columns):
                begin, to = i * row + column * m * channels, (i * size * tiles + tile + column) * channels
                _tiles(overlap, m, flat_lines, begin, channels, flat_points, to, tiles * channels, channels)


@no_type_check
def _map_from(points, m, y, first):
    _, height, width, channels = y.shape
    size, tiles = points.shape[0], points.shape[2]
    rows, columns = -(-height // m), -(-width // m)
    row = columns * m * channels
    lines, strip = np.empty((size, row), np.float32), np.empty((m, row), np.float32)
    flat_points, flat_lines, flat = points.reshape(-1), lines.reshape(-1), strip.reshape(-1)
    for tile in range(0, tiles, columns):
        picture, at = divmod(tile // columns, rows)
        for i in range(size):
            for column in range(columns):
                begin, to = (i * size * tiles + tile + column) * channels, i * row + column * m * channels
                _outputs(m, flat_points, begin, tiles * channels, flat_lines, to, channels, channels)
        _outputs(m, flat_lines, 0, row, flat, 0, row, row)
        for i in range(min(m, height - at * m)):
            y[first + picture, at * m + i].reshape(-1)[:] = strip[i, : width * channels]


@no_type_check
def _kernel_to(weight, m, turned, points):
    outs, _, _, ins = weight.shape
    size = points.shape[0]
    lines = np.empty((size, 3 * ins), np.float32)
    flat, flat_lines, flat_points = weight.reshape(-1), lines.reshape(-1), points.reshape(-1)
    for out in range(outs):
        if turned:  # from the last row, and the last column, to the first
            _kernel(m, flat, (out * 3 + 2) * 3 * ins, -3 * ins, flat_lines, 0, 3 * ins, 3 * ins)
        else:
            _kernel(m, flat, out * 9 * ins, 3 * ins, flat_lines, 0, 3 * ins, 3 * ins)
        for i in range(size):
            to = (i * size * outs + out) * ins
            if turned:
                _kernel(m, flat_lines, (i * 3 + 2) * ins, -ins, flat_points, to, outs * ins, ins)
            else:
                _kernel(m, flat_lines, i * 3 * ins, ins, flat_points, to, outs * ins, ins)


@no_type_check
def _kernel_from(points, m, weight):
    outs, _, _, ins = weight.shape
    size = points.shape[0]
    lines = np.empty((size, 3 * ins), np.float32)
    flat, flat_lines, flat_points = weight.reshape(-1), lines.reshape(-1), points.reshape(-1)
    for out in range(outs):
        for i in range(size):
            begin = (i * size * outs + out) * ins
            _weights(m, flat_points, begin, outs * ins, flat_lines, i * 3 * ins, ins, ins)
        _weights(m, flat_lines, 0, 3 * ins, flat, out * 9 * ins, 3 * ins, 3 * ins)


class Tiles(NamedTuple):
    """What is called. Maps are `[b h w c]`, kernels `[o 3 3 i]`, and either at their points `[n n tiles c]` or
    `[n n o i]`, n = m + 2: arrays of float32 without gaps. Tiles are those of whole pictures, from picture `first` on,
    row by row.

    Attributes:
        map_to: `(map, first, m, overlap, points)` fills points: with `overlap` tiles are n wide and begin one pixel
            before the map (B^T), else m wide (A); outside the map is 0.
        map_from: `(points, m, map, first)` fills the pictures of a map, with tiles m wide (A^T).
        kernel_to: `(kernel, m, turned, points)` fills points (G), of the kernel by half a turn if asked for.
        kernel_from: `(points, m, kernel)` fills a kernel (G^T).
    """

    map_to: Callable[..., None]
    map_from: Callable[..., None]
    kernel_to: Callable[..., None]
    kernel_from: Callable[..., None]


@cache
def load() -> Tiles:
    """The compiled functions; compiling takes ten seconds where numba has not kept them."""

    def warm(*functions: Callable[..., None]) -> None:
        tiles = Tiles(*functions)
        points, pixel, kernel = (np.zeros((n, n, 1, 1), np.float32) for n in (6, 1, 3))
        kernel = kernel.reshape(1, 3, 3, 1)
        tiles.map_to(pixel, 0, 4, True, points)
        tiles.map_from(points, 4, pixel, 0)
        tiles.kernel_to(kernel, 4, False, points)
        tiles.kernel_from(points, 4, kernel)

    return Tiles(*compiled([_map_to, _map_from, _kernel_to, _kernel_from], warm))
