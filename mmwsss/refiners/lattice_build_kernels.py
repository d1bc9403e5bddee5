"""Compiled loops that build a permutohedral lattice on the CPU; import needs numba.

Every kernel releases the interpreter lock, so that plain threads can share one job: a range ``first``..``last`` of the
points each, or one of several hash tables (``parts``). Arrays are C-contiguous.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_HASH = np.uint64(0x9E3779B97F4A7C15)  # odd, close to 2^64 / golden ratio
_EXACT = dict(nogil=True, cache=True)


@njit(**_EXACT)
def simplices(features, factors, low, strides, codes, weights, first, last):
    """Fill ``codes`` (N, d + 1) int64 of the vertices around each point and their barycentric ``weights``."""
    dims = features.shape[1]
    size = np.float32(dims + 1)
    elevated = np.empty(dims + 1, np.float32)
    nearest = np.empty(dims + 1, np.float32)
    rank = np.empty(dims + 1, np.int64)
    coordinate_at = np.empty(dims + 1, np.int64)
    bary = np.empty(dims + 2, np.float32)
    step = strides.sum()
    for p in range(first, last):
        after = np.float32(0)
        for j in range(dims, 0, -1):
            scaled = features[p, j - 1] * factors[j - 1]
            elevated[j] = after - np.float32(j) * scaled
            after += scaled
        elevated[0] = after
        total = np.float32(0)
        for j in range(dims + 1):
            nearest[j] = np.rint(elevated[j] / size) * size
            total += nearest[j]
        excess = int(np.rint(total / size))
        for i in range(dims + 1):
            place = excess
            difference = elevated[i] - nearest[i]
            for j in range(dims + 1):
                other = elevated[j] - nearest[j]
                place += other > difference or (other == difference and j < i)
            rank[i] = place
        bary[:] = 0
        for i in range(dims + 1):
            if rank[i] < 0:
                rank[i] += dims + 1
                nearest[i] += size
            elif rank[i] > dims:
                rank[i] -= dims + 1
                nearest[i] -= size
            difference = (elevated[i] - nearest[i]) / size
            bary[dims - rank[i]] += difference
            bary[dims + 1 - rank[i]] -= difference
            coordinate_at[rank[i]] = i
        bary[0] += np.float32(1) + bary[dims + 1]
        code = np.int64(0)
        for i in range(dims):
            code += (np.int64(nearest[i]) - low[i]) * strides[i]
        for k in range(dims + 1):
            codes[p, k] = code
            weights[p, k] = bary[k]
            code += step
            wrapped = coordinate_at[dims - k]
            if wrapped < dims:
                code -= (dims + 1) * strides[wrapped]


@njit(inline='always')
def _mix(code):
    return np.uint64(code) * _HASH


@njit(inline='always')
def _part(mixed, parts):
    """Which of ``parts`` hash tables holds a code."""
    return np.int64((((mixed >> np.uint64(12)) & np.uint64(0xFFFFF)) * np.uint64(parts)) >> np.uint64(20))


@njit(inline='always')
def _slot(table, mixed, shift, code):
    """Place of ``code`` in ``table``, or the free one where it belongs."""
    mask = len(table) - 1
    slot = np.int64(mixed >> shift)
    while table[slot] != code and table[slot] != -1:
        slot = (slot + 1) & mask
    return slot


@njit(**_EXACT)
def number_vertices(codes, vertex, corners, parts, part):
    """Number the distinct ``codes`` (E,) of one part in order of appearance, into ``vertex`` (E,).

    Returns the codes and how often each occurs, and the hash table: codes or -1, and numbers. A point has ``corners``
    vertices, many of which it shares with the point before it.
    """
    bits = 12
    table = np.full(1 << bits, -1, np.int64)
    numbers = np.empty(1 << bits, np.int32)
    keys = np.empty(1 << (bits - 1), np.int64)
    counts = np.empty(1 << (bits - 1), np.int64)
    count = 0
    for e in range(len(codes)):
        code = codes[e]
        mixed = _mix(code)
        if _part(mixed, parts) != part:
            continue
        if e >= corners and code == codes[e - corners]:
            number = vertex[e - corners]
            vertex[e] = number
            counts[number] += 1
            continue
        slot = _slot(table, mixed, np.uint64(64 - bits), code)
        if table[slot] == -1:
            if count == len(keys):
                bits += 1
                table = np.full(1 << bits, -1, np.int64)
                numbers = np.empty(1 << bits, np.int32)
                for i in range(count):
                    moved = _slot(table, _mix(keys[i]), np.uint64(64 - bits), keys[i])
                    table[moved] = keys[i]
                    numbers[moved] = i
                keys = np.concatenate((keys, np.empty_like(keys)))
                counts = np.concatenate((counts, np.empty_like(counts)))
                slot = _slot(table, mixed, np.uint64(64 - bits), code)
            table[slot] = code
            numbers[slot] = count
            keys[count] = code
            counts[count] = 0
            count += 1
        number = numbers[slot]
        vertex[e] = number
        counts[number] += 1
    return keys[:count].copy(), counts[:count].copy(), table, numbers


@njit(**_EXACT)
def list_points(codes, weights, vertex, cursor, points, point_weights, per_point, offset, parts, part):
    """Enter the points of the vertices of one part in the lists that start at ``cursor``; shift ``vertex``."""
    for e in range(len(codes)):
        if _part(_mix(codes[e]), parts) == part:
            number = vertex[e] + offset
            vertex[e] = number
            place = cursor[number]
            cursor[number] = place + 1
            points[place] = e // per_point
            point_weights[place] = weights[e]


@njit(**_EXACT)
def find_neighbours(keys, shifts, table, numbers, neighbours, offset, parts, part):
    """Fill ``neighbours`` (d + 1, M, 2) of all ``keys`` that have their next vertex in the table of one part."""
    bits = np.int64(np.rint(math.log2(len(table))))
    shift = np.uint64(64 - bits)
    for v in range(len(keys)):
        for j in range(len(shifts)):
            wanted = keys[v] + shifts[j]
            mixed = _mix(wanted)
            if _part(mixed, parts) == part:
                slot = _slot(table, mixed, shift, wanted)
                if table[slot] == wanted:
                    other = numbers[slot] + offset
                    neighbours[j, v, 1] = other
                    neighbours[j, other, 0] = v


@njit(**_EXACT)
def list_chains(neighbours, order, starts):
    """Enter the vertices that have a neighbour along one direction in ``order`` (M,), run after run.

    Args:
        neighbours: (M, 2) the vertex before and after each, M where there is none.
        starts: (M // 2 + 1,) becomes the place in ``order`` of each run and, last, the end.

    Returns:
        The number of runs.
    """
    missing = len(neighbours)
    runs, place = 0, 0
    for v in range(missing):
        if neighbours[v, 0] != missing or neighbours[v, 1] == missing:
            continue
        starts[runs] = place
        runs += 1
        while v != missing:
            order[place] = v
            place += 1
            v = neighbours[v, 1]
    starts[runs] = place
    return runs
