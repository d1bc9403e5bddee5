"""Compiled loops that filter on a permutohedral lattice and step the mean field on the CPU; import needs numba.

Every kernel works on the half-open range ``first``..``last`` of its last two arguments and releases the interpreter
lock, so that plain threads can share one job. Arrays are C-contiguous: points N, vertices M, W channels (padded so that
rows are whole vectors). Row M of a grid is the missing vertex and stays zero.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_FAST = dict(nogil=True, cache=True, fastmath=True, error_model='numpy')


@njit(**_FAST)
def splat(values, starts, points, point_weights, grid, first, last):
    """``grid`` (M + 1, W): sum of the weighted values (N, W) of the points around each vertex.

    Lists hold a multiple of four points, so that one loop over the channels serves four: short loops cost more to enter
    than to run.
    """
    width = values.shape[1]
    for v in range(first, last):
        for e in range(starts[v], starts[v + 1], 4):
            p, weight_p = points[e], point_weights[e]
            q, weight_q = points[e + 1], point_weights[e + 1]
            r, weight_r = points[e + 2], point_weights[e + 2]
            s, weight_s = points[e + 3], point_weights[e + 3]
            if e == starts[v]:
                for c in range(width):
                    grid[v, c] = (weight_p * values[p, c] + weight_q * values[q, c]) + (
                        weight_r * values[r, c] + weight_s * values[s, c]
                    )
            else:
                for c in range(width):
                    grid[v, c] += (weight_p * values[p, c] + weight_q * values[q, c]) + (
                        weight_r * values[r, c] + weight_s * values[s, c]
                    )


@njit(**_FAST)
def blur(grid, neighbours, blurred, first, last):
    """``blurred``: 1/2, 1, 1/2 along one direction with ``neighbours`` (M + 1, 2)."""
    width = grid.shape[1]
    half = np.float32(0.5)
    for v in range(first, last):
        before = neighbours[v, 0]
        after = neighbours[v, 1]
        for c in range(width):
            blurred[v, c] = grid[v, c] + half * (grid[before, c] + grid[after, c])


@njit(**_FAST)
def blur_twice(grid, neighbours, then, blurred, first, last):
    """Like :func:`blur` along ``neighbours`` and then along ``then``, with half the traffic to memory."""
    width = grid.shape[1]
    half, quarter = np.float32(0.5), np.float32(0.25)
    for v in range(first, last):
        before, after = then[v, 0], then[v, 1]
        v0, v1 = neighbours[v, 0], neighbours[v, 1]
        b0, b1 = neighbours[before, 0], neighbours[before, 1]
        a0, a1 = neighbours[after, 0], neighbours[after, 1]
        for c in range(width):
            blurred[v, c] = (
                grid[v, c]
                + half * ((grid[v0, c] + grid[v1, c]) + (grid[before, c] + grid[after, c]))
                + quarter * ((grid[b0, c] + grid[b1, c]) + (grid[a0, c] + grid[a1, c]))
            )


@njit(**_FAST)
def blur_chains(grid, order, starts, first, last):
    """1/2, 1, 1/2 along one direction in place; ``order[starts[k]:starts[k + 1]]`` are the vertices of chain k.

    A chain is a maximal run of neighbours, so that each row is read and written once, and vertices without neighbours
    are not touched.
    """
    width = grid.shape[1]
    missing = len(grid) - 1
    half = np.float32(0.5)
    before = np.empty(width, np.float32)
    for k in range(first, last):
        for c in range(width):
            before[c] = 0
        end = starts[k + 1]
        for e in range(starts[k], end):
            v = order[e]
            after = order[e + 1] if e + 1 < end else missing
            for c in range(width):
                old = grid[v, c]
                grid[v, c] = old + half * (before[c] + grid[after, c])
                before[c] = old


@njit(**_FAST)
def slice_points(grid, vertex, weights, scale, out, first, last):
    """``out`` (N, W): values of the grid at the points, times ``scale``."""
    width = grid.shape[1]
    for p in range(first, last):
        for c in range(width):
            out[p, c] = 0
        for j in range(vertex.shape[1]):
            v = vertex[p, j]
            weight = weights[p, j] * scale
            for c in range(width):
                out[p, c] += weight * grid[v, c]


@njit(**_FAST)
def scale_points(weights, norm, first, last):
    """Multiply the weights (N, d + 1) of each point by its ``norm`` (N, 1)."""
    for p in range(first, last):
        for j in range(weights.shape[1]):
            weights[p, j] *= norm[p, 0]


@njit(**_FAST)
def scale_lists(points, point_weights, norm, first, last):
    """Multiply the weights of the lists of points by the ``norm`` (N, 1) of each point."""
    for e in range(first, last):
        point_weights[e] *= norm[points[e], 0]


@njit(**_FAST)
def gather_points(planes, order, out, first, last):
    """``out`` (N, W): channels of ``planes`` (C, N) side by side, points in the given order."""
    for p in range(first, last):
        for c in range(len(planes)):
            out[p, c] = planes[c, order[p]]


@njit(**_FAST)
def scatter_points(values, order, planes, first, last):
    """Inverse of :func:`gather_points`."""
    for p in range(first, last):
        for c in range(len(planes)):
            planes[c, order[p]] = values[p, c]


@njit(**_FAST)
def mean_field_update(
    unary, grid_2d, vertex_2d, weights_2d, scale_2d, grid_5d, vertex_5d, weights_5d, scale_5d, q, first, last
):
    """``q`` (N, W): softmax over channels of the unary plus the messages read from a 2-D and a 5-D lattice."""
    width = unary.shape[1]
    row = np.empty(width, np.float32)
    bits = np.empty(width, np.int32)
    powers = bits.view(np.float32)
    for p in range(first, last):
        f0, f1, f2 = vertex_2d[p, 0], vertex_2d[p, 1], vertex_2d[p, 2]
        u0, u1, u2 = weights_2d[p, 0] * scale_2d, weights_2d[p, 1] * scale_2d, weights_2d[p, 2] * scale_2d
        g0, g1, g2 = vertex_5d[p, 0], vertex_5d[p, 1], vertex_5d[p, 2]
        g3, g4, g5 = vertex_5d[p, 3], vertex_5d[p, 4], vertex_5d[p, 5]
        w0, w1, w2 = weights_5d[p, 0] * scale_5d, weights_5d[p, 1] * scale_5d, weights_5d[p, 2] * scale_5d
        w3, w4, w5 = weights_5d[p, 3] * scale_5d, weights_5d[p, 4] * scale_5d, weights_5d[p, 5] * scale_5d
        for c in range(width):
            row[c] = (
                (unary[p, c] + u0 * grid_2d[f0, c] + u1 * grid_2d[f1, c] + u2 * grid_2d[f2, c])
                + (w0 * grid_5d[g0, c] + w1 * grid_5d[g1, c] + w2 * grid_5d[g2, c])
                + (w3 * grid_5d[g3, c] + w4 * grid_5d[g4, c] + w5 * grid_5d[g5, c])
            )
        largest = row[0]
        for c in range(1, width):
            largest = max(largest, row[c])
        # exp(x) = 2^n exp(r) with |r| <= ln(2) / 2 and a polynomial for exp(r): unlike the library's exp this loop
        # becomes vector instructions. Below e^-60 nothing changes the sums, and subnormal numbers would be slow.
        for c in range(width):
            x = max(row[c] - largest, np.float32(-60))
            n = np.floor(x * np.float32(1.442695041) + np.float32(0.5))
            r = (x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
            poly = np.float32(1 / 720)
            poly = poly * r + np.float32(1 / 120)
            poly = poly * r + np.float32(1 / 24)
            poly = poly * r + np.float32(1 / 6)
            poly = poly * r + np.float32(1 / 2)
            poly = poly * r + np.float32(1)
            row[c] = poly * r + np.float32(1)
            bits[c] = (np.int32(n) + np.int32(127)) << np.int32(23)
        total = np.float32(0)
        for c in range(width):
            row[c] *= powers[c]
            total += row[c]
        inverse = np.float32(1) / total
        for c in range(width):
            q[p, c] = row[c] * inverse
