"""CPU kernels of pixel-adaptive refinement, compiled by numba on the first call and cached on disk.

They work on blocks of rows and release the GIL; the caller spreads the blocks over plain threads, because numba's own
threading layer may not be entered by several Python threads at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LOG2_E = np.float32(1.4426950408889634)
LOWEST_EXPONENT = np.float32(-126)
MANTISSA = np.int32(1 << 23)
EXPONENT_BIAS = np.int32(127)
# Taylor series of 2^f about 0 for |f| <= 1/2; the error stays below the rounding of float32.
C1, C2, C3, C4, C5, C6, C7 = (
    np.float32(np.log(2) ** n / np.prod(np.arange(1, n + 1, dtype=np.float64))) for n in range(1, 8)
)
ONE = np.float32(1)
HALF = np.float32(0.5)

# Contraction to fused multiply-adds is the only liberty: sums keep their order.
_compile = njit(nogil=True, cache=True, fastmath={'contract'}, error_model='numpy')


@_compile
def affinity_rows(  # pragma: no cover - runs compiled
    padded: np.ndarray,
    dilations: np.ndarray,
    inverse_scale: np.float32,
    eps: np.float32,
    squared: bool,
    centre: bool,
    position: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Write rows ``first`` to ``last`` of the affinity ``out`` (N, H, W).

    ``padded`` is the image (3, H + 2P, W + 2P) with its border repeated P = max(dilations) times; ``position`` (N,)
    is added to the softmax over the neighbours; ``centre`` counts the pixel itself once per dilation in the deviation.
    """
    neighbours, _, width = out.shape
    pad = dilations.max()
    rings = len(dilations)
    count = np.float32(neighbours + rings if centre else neighbours)
    mean = np.empty(width, np.float32)
    factor = np.empty(width, np.float32)
    bits = np.empty(width, np.int32)
    power = bits.view(np.float32)
    inverse_channels = ONE / np.float32(len(padded))
    for y in range(first, last):
        for channel in range(len(padded)):
            plane = padded[channel]
            here = plane[pad + y, pad : pad + width]
            # Deviations from the pixel itself: flat regions give exactly 0, as two passes over the neighbours do.
            mean[:] = np.float32(0)
            for n in range(neighbours):
                near = _neighbour(plane, y, n, dilations, pad, width)
                for x in range(width):
                    mean[x] += near[x] - here[x]
            for x in range(width):
                mean[x] /= count
            factor[:] = np.float32(0)
            for n in range(neighbours):
                near = _neighbour(plane, y, n, dilations, pad, width)
                for x in range(width):
                    deviation = near[x] - here[x] - mean[x]
                    factor[x] += deviation * deviation
            if centre:
                for x in range(width):
                    factor[x] += np.float32(rings) * mean[x] * mean[x]
            for x in range(width):
                factor[x] = inverse_scale / (np.sqrt(factor[x] / (count - ONE)) + eps)
            for n in range(neighbours):
                near = _neighbour(plane, y, n, dilations, pad, width)
                row = out[n, y]
                if channel == 0:
                    row[:] = np.float32(0)
                if squared:
                    for x in range(width):
                        distance = (near[x] - here[x]) * factor[x]
                        row[x] -= inverse_channels * (distance * distance)
                else:
                    for x in range(width):
                        row[x] -= inverse_channels * (abs(near[x] - here[x]) * factor[x])
        _softmax_row(out, y, position, mean, factor, bits, power)


@njit(nogil=True, inline='always')
def _neighbour(plane, y, n, dilations, pad, width):  # pragma: no cover - runs compiled
    """Row of the neighbours number ``n`` of the pixels of row ``y``; numbering as in ``par.NEIGHBOURS``."""
    d = dilations[n // 8]
    place = n % 8
    place += place >= 4
    start = pad + (place % 3 - 1) * d
    return plane[pad + y + (place // 3 - 1) * d, start : start + width]


@njit(nogil=True, fastmath={'contract'}, error_model='numpy', inline='always')
def _softmax_row(out, y, position, top, total, bits, power):  # pragma: no cover - runs compiled
    neighbours, _, width = out.shape
    top[:] = out[0, y]
    for n in range(1, neighbours):
        row = out[n, y]
        for x in range(width):
            top[x] = max(top[x], row[x])
    total[:] = np.float32(0)
    for n in range(neighbours):
        row = out[n, y]
        # exp(v) = 2^k 2^f with k written straight into the exponent bits, which vectorises; a call of exp does not.
        for x in range(width):
            v = max((row[x] - top[x]) * LOG2_E, LOWEST_EXPONENT)
            k = np.floor(v + HALF)
            f = v - k
            row[x] = ONE + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * (C6 + f * C7))))))
            bits[x] = (np.int32(k) + EXPONENT_BIAS) * MANTISSA
        for x in range(width):
            row[x] *= power[x]
            total[x] += row[x]
    for n in range(neighbours):
        row = out[n, y]
        constant = position[n]
        for x in range(width):
            row[x] = row[x] / total[x] + constant


@_compile
def propagate_rows(  # pragma: no cover - runs compiled
    source: np.ndarray, weights: np.ndarray, dilations: np.ndarray, target: np.ndarray, first: int, last: int
) -> None:
    """Write rows ``first`` to ``last`` of one step into ``target``, repeated border included.

    ``source`` and ``target`` are maps (C, H + 2P, W + 2P) with P = max(dilations), ``weights`` is (N, H, W). All
    channels of a row share the eight rows of weights of one dilation, which therefore stay in the first-level cache.
    """
    _, height, width = weights.shape
    pad = dilations.max()
    left, right = slice(pad, pad + width), pad + width
    for y in range(first, last):
        middle = pad + y
        for ring in range(len(dilations)):
            d = dilations[ring]
            before, after = slice(pad - d, pad - d + width), slice(pad + d, pad + d + width)
            n = 8 * ring
            w0, w1, w2, w3 = weights[n, y], weights[n + 1, y], weights[n + 2, y], weights[n + 3, y]
            w4, w5, w6, w7 = weights[n + 4, y], weights[n + 5, y], weights[n + 6, y], weights[n + 7, y]
            for channel in range(len(source)):
                plane = source[channel]
                a0, a1, a2 = plane[middle - d, before], plane[middle - d, left], plane[middle - d, after]
                a3, a4 = plane[middle, before], plane[middle, after]
                a5, a6, a7 = plane[middle + d, before], plane[middle + d, left], plane[middle + d, after]
                row = target[channel, middle, left]
                if ring == 0:
                    row[:] = np.float32(0)
                for x in range(width):
                    row[x] += (
                        w0[x] * a0[x]
                        + w1[x] * a1[x]
                        + w2[x] * a2[x]
                        + w3[x] * a3[x]
                        + w4[x] * a4[x]
                        + w5[x] * a5[x]
                        + w6[x] * a6[x]
                        + w7[x] * a7[x]
                    )
        for channel in range(len(source)):
            plane = target[channel]
            plane[middle, :pad] = plane[middle, pad]
            plane[middle, right:] = plane[middle, right - 1]
            if y == 0:
                for row in range(pad):
                    plane[row] = plane[pad]
            if y == height - 1:
                for row in range(pad):
                    plane[pad + height + row] = plane[middle]
