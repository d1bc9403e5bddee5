"""Generated data set `shapes`: textured shapes on cluttered backgrounds, the pure functions behind its converter.

A class is a shape together with a texture; both colours of a texture, its period, phase and angle are drawn per object,
so neither a colour nor an outline alone tells the class. Every image depends only on (seed, split, index, size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = (
    'background',
    'striped_disc',
    'checked_square',
    'dotted_triangle',
    'zigzag_star',
    'gridded_cross',
    'mottled_ring',
)
PALETTE = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]]
DISC, SQUARE, TRIANGLE, STAR, CROSS, RING = range(1, len(CLASSES))
PAIR = (SQUARE, STAR)  # the classes that mostly occur together
SPLITS = ('train', 'val')
IGNORE_INDEX = 255
VERSION = 5  # counts up with every change of the pictures, so that an older set on disk is told apart

_REFERENCE_SIZE = 144  # lengths in pixels below hold at this longer side and scale with it
_TOGETHER, _OF = 2, 3  # of the images built around a class of the pair; 80 % of all that show one, show both
_MIN_VISIBLE, _MIN_PIXELS = 0.4, 80
_SUPERSAMPLE = 4
_RING_HOLE = 0.4
_PERIODS = ((4.5, 6.5), (7.0, 9.5), (5.5, 7.5), (5.0, 6.5), (6.0, 8.0), (4.5, 6.5))
_EXTENTS = {1: (0.56, 0.70), 2: (0.50, 0.66), 3: (0.44, 0.60), 4: (0.40, 0.54)}  # by number of objects
# Outlines that fill little of their circle are drawn larger, so that classes cover similar areas.
_GAINS = (0.85, 1.05, 1.2, 1.15, 1.05, 1.0)
_EXTENT_LIMITS = (0.2, 0.7)


@dataclass(frozen=True)
class Placement:
    """One object: class index, centre (x, y) and radius in pixels, squeeze of its second axis, angle in radians."""

    label: int
    x: float
    y: float
    radius: float
    squeeze: float
    angle: float


def outline(label: int) -> np.ndarray:
    """Outline of class ``label`` as float64 (N, 2) vertices on or inside the unit circle."""
    if label == CROSS:
        arm = 0.4
        quarter = np.array([[np.sqrt(1 - arm**2), -arm], [np.sqrt(1 - arm**2), arm], [arm, arm]])
        turn = np.array([[0, 1], [-1, 0]])
        return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])
    count, inner = {DISC: (64, 1.0), SQUARE: (4, 1.0), TRIANGLE: (3, 1.0), STAR: (10, 0.6), RING: (64, 1.0)}[label]
    angles = 2 * np.pi * np.arange(count) / count
    radii = np.where(np.arange(count) % 2, inner, 1.0)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def texture(label: int, u: np.ndarray, v: np.ndarray, period: float, rng: np.random.Generator) -> np.ndarray:
    """Texture of class ``label`` at object coordinates ``u``, ``v`` (H, W) in periods: mix of two colours in [0, 1]."""
    waves = np.cos(2 * np.pi * u), np.cos(2 * np.pi * v)
    if label == DISC:
        wave = waves[0]
    elif label == SQUARE:
        wave = 2 * waves[0] * waves[1]
    elif label == TRIANGLE:
        slanted = [np.cos(np.pi * (u + sign * np.sqrt(3) * v)) for sign in (-1, 1)]
        wave = 0.8 * (waves[0] + slanted[0] + slanted[1] - 0.15)
    elif label == STAR:
        wave = np.cos(2 * np.pi * (v + 1.1 * np.abs((u / 1.7) % 1 - 0.5) * 2))
    elif label == CROSS:
        wave = 1.2 * (np.maximum(*waves) - 0.62)
    else:
        wave = band_noise(u.shape, period, rng)
    # Slope of one pixel at the crossing: hard edges without aliasing.
    return np.clip(0.5 + wave * period / (2 * np.pi), 0, 1)


def band_noise(shape: tuple[int, int], period: float, rng: np.random.Generator) -> np.ndarray:
    """Random float field (H, W) of unit variance whose wavelengths lie around ``period`` pixels in every direction."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    band = np.exp(-(((np.hypot(fy, fx) * period - 1) / 0.18) ** 2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * band, s=shape)
    return field / field.std()


def smooth_noise(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """Random float field (H, W) in about [0, 1] that changes over ``1 / cells`` of the image."""
    coarse = Image.fromarray(rng.random((cells + 1, cells + 1)).astype(np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC), np.float64)


def plan_labels(index: int, rng: np.random.Generator) -> list[int]:
    """Class indices of the 1 to 4 objects of image ``index``; the image is built around class ``1 + index % K``."""
    num_classes = len(CLASSES) - 1
    labels = [1 + index % num_classes]
    if labels[0] in PAIR and index // num_classes % _OF < _TOGETHER:
        labels.append(PAIR[1] if labels[0] == PAIR[0] else PAIR[0])
    count = int(rng.choice([1, 2, 3, 4], p=[0.1, 0.35, 0.33, 0.22]))
    others = [label for label in range(1, num_classes + 1) if label not in PAIR]
    while len(labels) < count:
        labels.append(int(rng.choice(labels if rng.random() < 0.35 else others)))
    return labels


def place(labels: list[int], shape: tuple[int, int], shrink: float, rng: np.random.Generator) -> list[Placement]:
    """Draw a position for every object in an image of ``shape`` (H, W); the classes of the pair become neighbours."""
    height, width = shape
    low, high = _EXTENTS[len(labels)]
    placed: list[Placement] = []
    for label in labels:
        extent = np.clip(rng.uniform(low, high) * _GAINS[label - 1] * shrink, *_EXTENT_LIMITS)
        radius = extent * max(shape) / 2
        mates = [p for p in placed if label in PAIR and p.label in PAIR and p.label != label]
        if mates:
            way, reach = rng.uniform(0, 2 * np.pi), (mates[0].radius + radius) * rng.uniform(0.7, 0.95)
            x, y = mates[0].x + reach * np.cos(way), mates[0].y + reach * np.sin(way)
        else:
            x, y = rng.uniform(0, width), rng.uniform(0, height)
        inset = 0.75 * radius
        x, y = np.clip(x, inset, width - inset), np.clip(y, inset, height - inset)
        placed.append(Placement(label, x, y, radius, rng.uniform(0.85, 1.0), rng.uniform(0, 2 * np.pi)))
    return placed


def coverage(item: Placement, shape: tuple[int, int]) -> np.ndarray:
    """Share of every pixel that the object covers, float64 (H, W) in [0, 1]."""
    canvas = Image.new('L', (shape[1] * _SUPERSAMPLE, shape[0] * _SUPERSAMPLE))
    draw = ImageDraw.Draw(canvas)
    vertices = _to_image(outline(item.label), item)
    draw.polygon([tuple(p) for p in vertices * _SUPERSAMPLE], fill=255)
    if item.label == RING:
        hole = _to_image(outline(item.label) * _RING_HOLE, item)
        draw.polygon([tuple(p) for p in hole * _SUPERSAMPLE], fill=0)
    return np.asarray(canvas.reduce(_SUPERSAMPLE), np.float64) / 255


def full_area(item: Placement) -> float:
    """Area of the whole object in pixels, the part outside the image or behind others included."""
    x, y = _to_image(outline(item.label), item).T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    return float(area * (1 - _RING_HOLE**2) if item.label == RING else area)


def lay_out(labels: list[int], shape: tuple[int, int], rng: np.random.Generator) -> tuple[list, list, np.ndarray]:
    """Place objects so that each one stays visible.

    Returns:
        the placements, their coverages (H, W) from back to front, and the mask, uint8 (H, W) of class indices.

    Raises:
        RuntimeError: no arrangement was found, the image is too small for its objects.
    """
    least = _MIN_PIXELS * (max(shape) / _REFERENCE_SIZE) ** 2
    for attempt in range(200):
        items = place(labels, shape, 0.99**attempt, rng)
        covers = [coverage(item, shape) for item in items]
        owner = np.zeros(shape, np.uint8)
        for number, cover in enumerate(covers, start=1):
            owner[cover >= 0.5] = number
        seen = np.bincount(owner.ravel(), minlength=len(items) + 1)[1:]
        if all(n >= max(least, _MIN_VISIBLE * full_area(item)) for n, item in zip(seen, items)):
            return items, covers, np.array([0, *labels], np.uint8)[owner]
    raise RuntimeError(f'no arrangement of {len(labels)} objects found in an image of {shape}; use a larger size')


def paint_object(item: Placement, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Texture of one object in its own two colours, float64 (H, W, 3) in 0..255."""
    unit = max(shape) / _REFERENCE_SIZE
    period = rng.uniform(*_PERIODS[item.label - 1]) * unit
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle, phase = rng.uniform(0, 2 * np.pi), rng.random(2)
    u = ((x - item.x) * np.cos(angle) + (y - item.y) * np.sin(angle)) / period + phase[0]
    v = ((y - item.y) * np.cos(angle) - (x - item.x) * np.sin(angle)) / period + phase[1]
    mix = texture(item.label, u, v, period, rng)[..., None]
    first, second = two_colours(rng)
    light = (
        1
        + rng.uniform(-0.15, 0.15) * (x - item.x) / item.radius
        + rng.uniform(-0.15, 0.15) * (y - item.y) / item.radius
    )
    return (first * (1 - mix) + second * mix) * np.clip(light, 0.7, 1.3)[..., None]


def two_colours(rng: np.random.Generator, contrast: float = 80) -> tuple[np.ndarray, np.ndarray]:
    """Two random RGB colours (3,) in 0..255 whose luminances differ by at least ``contrast``."""
    while True:
        pair = rng.uniform(0, 255, (2, 3))
        if abs((pair[0] - pair[1]) @ (0.299, 0.587, 0.114)) >= contrast:
            return pair[0], pair[1]


def paint_background(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Cluttered background, float64 (H, W, 3) in 0..255: noise, wood, lines, strokes, outlines without texture."""
    unit = max(shape) / _REFERENCE_SIZE
    colours = rng.uniform(0, 255, (3, 3))
    coarse, fine = (smooth_noise(shape, int(rng.integers(*cells)), rng)[..., None] for cells in ((2, 5), (5, 9)))
    image = colours[0] * (1 - coarse) + colours[1] * coarse + (colours[2] - colours[0]) * (fine - 0.5) * 0.6
    y, x = np.mgrid[: shape[0], : shape[1]]
    if rng.random() < 0.5:
        # Wood grain: bands too wide to pass for the stripes of a class.
        angle, period = rng.uniform(0, np.pi), rng.uniform(18, 32) * unit
        bent = (x * np.cos(angle) + y * np.sin(angle)) / period + 1.5 * smooth_noise(shape, 3, rng)
        image += rng.uniform(-35, 35, 3) * np.sin(2 * np.pi * bent)[..., None]
    canvas = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).resize((shape[1] * 2, shape[0] * 2))
    draw, size = ImageDraw.Draw(canvas), 2 * max(shape)
    for _ in range(rng.integers(3, 9)):
        label, radius = int(rng.integers(1, len(CLASSES))), rng.uniform(0.04, 0.2) * size
        item = Placement(label, *rng.uniform(0, size, 2), radius, rng.uniform(0.4, 1.0), rng.uniform(0, 2 * np.pi))
        draw.polygon([tuple(p) for p in _to_image(outline(label), item)], fill=_colour(rng))
    for _ in range(rng.integers(2, 7)):
        draw.line(rng.uniform(0, size, 4).tolist(), fill=_colour(rng), width=int(rng.integers(2, 7) * max(1, unit)))
    for _ in range(rng.integers(0, 3)):
        # Short strokes in many colours: detail as fine as the textures, without their regularity.
        centre, spread = rng.uniform(0, size, 2), rng.uniform(0.05, 0.12) * size
        for start in rng.normal(centre, spread, (40, 2)):
            end = start + rng.normal(0, 5 * unit, 2)
            draw.line([*start, *end], fill=_colour(rng), width=max(2, int(3 * unit)))
    image = np.array(canvas.reduce(2), np.float64)
    for _ in range(rng.integers(0, 3)):
        # Outlines filled with pixel noise: contrast alone does not make an object. No ring, which would look mottled.
        label, radius = int(rng.integers(DISC, RING)), rng.uniform(0.08, 0.2) * max(shape)
        item = Placement(label, *rng.uniform(0, shape[::-1]), radius, rng.uniform(0.6, 1.0), rng.uniform(0, 2 * np.pi))
        first, second = two_colours(rng)
        fill = first + (second - first) * rng.random((*shape, 1))
        image += (fill - image) * coverage(item, shape)[..., None]
    return image


def make_sample(seed: int, split: str, index: int, size: int, ignore_border: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Image ``index`` of ``split``: uint8 RGB (H, W, 3) with longer side ``size``, and its mask, uint8 (H, W)."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    short = round(size * float(rng.choice([1, 1, 5 / 6])))
    shape = (short, size) if rng.random() < 0.5 else (size, short)
    items, covers, mask = lay_out(plan_labels(index, rng), shape, rng)
    image = paint_background(shape, rng)
    for item, cover in zip(items, covers):
        image += (paint_object(item, shape, rng) - image) * cover[..., None]
    image += rng.normal(0, rng.uniform(2, 8), (*shape, 3))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), with_ignore_border(mask, ignore_border)


def make_close_up(seed: int, index: int, size: int) -> tuple[np.ndarray, int]:
    """Close-up ``index``: uint8 RGB (size, size, 3) filled by one class or by background, and the class index.

    The pictures on which a classifier is pretrained, as ImageNet serves real photographs: one label each, no masks.
    Textures have the scale of a scene whose longer side is ``3 * size``.
    """
    rng = np.random.default_rng([seed, len(SPLITS), index])
    label, side = index % len(CLASSES), 3 * size
    if label == 0:
        image = paint_background((side, side), rng)
    else:
        image = paint_object(Placement(label, side / 2, side / 2, side / 2, 1.0, 0.0), (side, side), rng)
    top, left = rng.integers(0, side - size + 1, 2)
    image = image[top : top + size, left : left + size] + rng.normal(0, rng.uniform(2, 8), (size, size, 3))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), label


def with_ignore_border(mask: np.ndarray, width: int) -> np.ndarray:
    """Copy of ``mask``, uint8 (H, W), whose pixels within ``width`` of another label hold ``IGNORE_INDEX``."""
    if width == 0:
        return mask.copy()
    picture = Image.fromarray(mask)
    high, low = (np.asarray(picture.filter(f(2 * width + 1))) for f in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
    return np.where(high != low, np.uint8(IGNORE_INDEX), mask)


def _to_image(points: np.ndarray, item: Placement) -> np.ndarray:
    """Vertices (N, 2) of a unit outline in pixel coordinates of the image."""
    x, y = item.radius * points[:, 0], item.radius * item.squeeze * points[:, 1]
    cos, sin = np.cos(item.angle), np.sin(item.angle)
    return np.stack([item.x + x * cos - y * sin, item.y + x * sin + y * cos], 1)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    return tuple(int(c) for c in rng.integers(0, 256, 3))
