"""Pictures of one prediction: image | maps | pseudo mask | truth | prediction, with captions and a colour legend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mmwsss.utils.files import replacing

WHITE = (255, 255, 255)
INK = (30, 30, 30)
IGNORED = WHITE
PALE = (190, 190, 190)  # lies over the background: most colours of classes are darker, and all more coloured
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPTION = 22  # height of captions and of the legend, in pixels
_GAP = 4
_VISIBLE = 0.0003  # share of a mask that a class needs to be found by eye


def make_panel(
    image: np.ndarray,
    maps: np.ndarray | None,
    pseudo_mask: np.ndarray | None,
    truth: np.ndarray | None,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    prediction: np.ndarray | None = None,
    image_labels: np.ndarray | None = None,
    used_image_labels: bool = False,
    ignore_index: int = 255,
    max_maps: int = 3,
    fill_maps: bool = False,
    min_height: int = 192,
    max_height: int = 320,
    opacity: float = 0.7,
) -> np.ndarray:
    """Draw one row of captioned tiles, leaving out those that are None, above a legend of the classes in them.

    The legend leaves out classes that have no map and in every mask less than 0.03 % of the pixels.

    Args:
        image: (H, W, 3) uint8, RGB.
        maps: (C, H, W) scores; without background channel C = len(classes) - 1, otherwise C = len(classes). Values
            are drawn on the fixed scale 0..1 and the caption gives the maximum.
        pseudo_mask: (H, W) classes or ``ignore_index``, which is drawn in white.
        truth: (H, W) ground truth.
        palette: one RGB colour per class.
        prediction: (H, W) segmentation made without image labels.
        image_labels: (len(classes) - 1,) multi-hot; decides which maps are drawn. Without it these are the classes of
            the truth, then those of the masks; the strongest ``max_maps`` of them are shown.
        used_image_labels: whether maps and pseudo mask saw the image labels; said in the captions.
        fill_maps: leave blank tiles in place of absent maps so that the columns of several panels line up.
        min_height, max_height: tiles lower or higher than this are scaled.
        opacity: of colours over the image.

    Returns:
        (H', W', 3) uint8, RGB.

    Raises:
        ValueError: an argument has the wrong shape or type, or the palette is too short.
    """
    _check_image(image)
    _check_inputs(image, maps, (pseudo_mask, truth, prediction), classes, palette)
    colors = np.asarray(palette, dtype=np.uint8)
    tags = ' +tags' if used_image_labels else ''
    shown = [] if maps is None else _classes_to_show(maps, (truth, pseudo_mask, prediction), image_labels, classes)
    tiles = [('image', None, image)]
    offset = 0 if maps is None else len(classes) - maps.shape[0]
    for c in shown[:max_maps]:
        score = maps[c - offset]
        caption = f'{classes[c]} {score.max():.2f}{tags}'
        tiles.append((caption, tuple(colors[c].tolist()), overlay_heat(image, score, opacity)))
    if fill_maps and maps is not None:
        tiles += [('', None, np.full_like(image, 255))] * (max_maps - len(shown[:max_maps]))
    masks = [(f'pseudo mask{tags}', pseudo_mask), ('truth', truth), ('prediction', prediction)]
    masks = [(caption, mask) for caption, mask in masks if mask is not None]
    tiles += [(caption, None, overlay_mask(image, mask, colors, ignore_index, opacity)) for caption, mask in masks]

    size = _tile_size(image.shape[:2], min_height, max_height)
    row = _join([_captioned(_scale(tile, size), caption, color) for caption, color, tile in tiles])
    present = {c for _, mask in masks for c in _visible(mask)} | set(shown[:max_maps])
    entries = [(classes[c], tuple(colors[c].tolist())) for c in sorted(present) if 0 < c < len(classes)]
    if ignore_index in present:
        entries.append(('ignored', IGNORED))
    return np.vstack([row, _legend(entries, row.shape[1])])


def overlay_heat(image: np.ndarray, score: np.ndarray, opacity: float) -> np.ndarray:
    """Colour map of ``score`` (H, W), clipped to 0..1, over the grey version of ``image`` (H, W, 3) uint8 RGB."""
    level = np.rint(np.nan_to_num(score.astype(np.float32)).clip(0, 1) * 255).astype(np.uint8)
    heat = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[..., ::-1]
    return _blend(_grey(image), heat, opacity)


def overlay_mask(
    image: np.ndarray, mask: np.ndarray, colors: np.ndarray, ignore_index: int, opacity: float
) -> np.ndarray:
    """Classes of ``mask`` (H, W) in their ``colors`` (C, 3) over the grey ``image``; ignored pixels plain white.

    Background (class 0) is the pale image, so that dark and bright colours of a palette stand out.
    """
    known = (mask > 0) & (mask < len(colors)) & (mask != ignore_index)
    colors = np.concatenate(([PALE], colors[1:]))
    painted = _blend(_grey(image), colors[np.where(known, mask, 0)], opacity)
    painted[mask == ignore_index] = IGNORED
    return painted


def montage(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Stack panels (H_i, W_i, 3) uint8 below each other, the narrow ones filled up with white on the right.

    Raises:
        ValueError: there are no panels.
    """
    if len(panels) == 0:
        raise ValueError('montage needs at least one panel')
    width = max(panel.shape[1] for panel in panels)
    return np.vstack([_pad(panel, panel.shape[0] + _GAP, width) for panel in panels])


def save_png(path: str | os.PathLike, array: np.ndarray) -> Path:
    """Write an RGB picture (H, W, 3) uint8 as PNG; the file appears whole or not at all, missing folders are made.

    Raises:
        ValueError: ``array`` is no such picture.
    """
    _check_image(array)
    _, data = cv2.imencode('.png', np.ascontiguousarray(array[..., ::-1]))
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
    return Path(path)


def _check_image(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'expected an RGB picture (H, W, 3) uint8, got {image.shape} {image.dtype}')


def _check_inputs(image, maps, masks, classes, palette) -> None:
    if len(palette) < len(classes):
        raise ValueError(
            f'palette has {len(palette)} colours for {len(classes)} classes; give one RGB colour per class'
        )
    if maps is not None and maps.shape[0] not in (len(classes) - 1, len(classes)):
        raise ValueError(f'maps must have {len(classes) - 1} or {len(classes)} channels, got {maps.shape[0]}')
    for array in (maps, *masks):
        if array is not None and array.shape[-2:] != image.shape[:2]:
            raise ValueError(f'maps and masks must have the size {image.shape[:2]} of the image, got {array.shape}')


def _classes_to_show(maps, masks, image_labels, classes) -> list[int]:
    """Foreground classes of the image, strongest map first."""
    if image_labels is not None:
        present = (np.flatnonzero(np.asarray(image_labels) > 0) + 1).tolist()
    else:
        found = (set(np.unique(mask).tolist()) & set(range(1, len(classes))) for mask in masks if mask is not None)
        present = sorted(next((s for s in found if s), range(1, len(classes))))
    offset = len(classes) - maps.shape[0]
    return sorted(present, key=lambda c: -float(maps[c - offset].max()))


def _visible(mask: np.ndarray) -> list[int]:
    """Values of ``mask`` that enough pixels have to be seen."""
    values, counts = np.unique(mask, return_counts=True)
    return values[counts >= _VISIBLE * mask.size].astype(int).tolist()


def _tile_size(size: tuple[int, int], low: int, high: int) -> tuple[int, int]:
    """Size (height, width) of a tile within the limits; enlarging goes by whole factors to keep pixels square."""
    height, width = size
    factor = -(-low // height) if height < low else min(1.0, high / height)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _scale(tile: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if tile.shape[:2] == size:
        return tile
    # Enlarged nearest: a smooth edge would show colours, and so classes, that are not there.
    mode = cv2.INTER_NEAREST if size[0] >= tile.shape[0] else cv2.INTER_AREA
    return cv2.resize(tile, size[::-1], interpolation=mode)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _blend(under: np.ndarray, over: np.ndarray, opacity: float) -> np.ndarray:
    return np.rint(under * (1 - opacity) + over * opacity).astype(np.uint8)


def _pad(array: np.ndarray, height: int, width: int) -> np.ndarray:
    padded = np.full((height, width, 3), 255, dtype=np.uint8)
    padded[: array.shape[0], : array.shape[1]] = array
    return padded


def _join(tiles: list[np.ndarray]) -> np.ndarray:
    return np.hstack([_pad(tile, tile.shape[0], tile.shape[1] + _GAP) for tile in tiles])[:, :-_GAP]


def _captioned(tile: np.ndarray, caption: str, color: tuple[int, ...] | None) -> np.ndarray:
    strip = np.full((_CAPTION, tile.shape[1], 3), 255, dtype=np.uint8)
    _write(strip, caption, color, 2, tile.shape[1])
    return np.vstack([strip, tile])


def _legend(entries: list[tuple[str, tuple[int, ...]]], width: int) -> np.ndarray:
    """Swatches and names in as many lines as they need."""
    lines, x = [np.full((_CAPTION, width, 3), 255, dtype=np.uint8)], 2
    for name, color in entries:
        needed = _text_width(name, 0.45) + _CAPTION + 12
        if x > 2 and x + needed > width:
            lines.append(np.full((_CAPTION, width, 3), 255, dtype=np.uint8))
            x = 2
        _write(lines[-1], name, color, x, width)
        x += needed
    return np.vstack(lines)


def _write(strip: np.ndarray, text: str, color: tuple[int, ...] | None, x: int, right: int) -> None:
    """Write ``text`` into ``strip`` from ``x``, smaller if it would pass ``right``, after a swatch of ``color``."""
    if color is not None:
        side = _CAPTION - 8
        cv2.rectangle(strip, (x, 4), (x + side, 4 + side), color, cv2.FILLED)
        cv2.rectangle(strip, (x, 4), (x + side, 4 + side), INK, 1)
        x += side + 5
    size = 0.45
    while size > 0.3 and x + _text_width(text, size) > right:
        size -= 0.025
    cv2.putText(strip, text, (x, _CAPTION - 7), _FONT, size, INK, 1, cv2.LINE_AA)


def _text_width(text: str, size: float) -> int:
    return cv2.getTextSize(text, _FONT, size, 1)[0][0]
