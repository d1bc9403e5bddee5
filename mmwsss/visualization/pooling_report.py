"""Pictures of the patches that a pooling takes, histograms of their number, and the folder that holds them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mmwsss.utils.files import replacing, write_json
from mmwsss.utils.images import read_sample_image

from .panels import overlay_heat, overlay_mask
from .pooling_statistics import PatchCount, PooledImage, summarize, write_counts

COUNTS, HISTOGRAM, PICTURES, RECORD = 'counts.csv', 'histogram.png', 'images', 'report.json'
MAX_HISTOGRAMS = 29  # fill a grid together with the one of all
MAX_MAPS = 3
_MAX_BARS = 32
_BACKGROUND = '#7f7f7f'
_TILE = 3.2  # inches
_PLAIN_TEXT = {'text.parse_math': False}  # names of classes and images may have dollar signs


def write_report(
    out: str | os.PathLike,
    images: Iterable[PooledImage],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    num_pictures: int,
    title: str,
    record: Mapping[str, Any],
    ignore_index: int = 255,
) -> list[PatchCount]:
    """Write ``counts.csv``, ``histogram.png``, ``images/NAME.png`` and ``report.json`` into the folder ``out``.

    Each file takes the place of an older one when it is complete; pictures that an older report names and this one does
    not are removed.

    Args:
        images: what the pooling took, from :func:`~mmwsss.visualization.pooling_statistics.pooled_images`.
        num_pictures: how many of the first images get a picture.
        title: what the report is of, for the histograms.
        record: where it comes from, for ``report.json``.

    Returns:
        The counts of all images.

    Raises:
        ValueError: an image of a picture cannot be read.
    """
    out, counts, pictures = Path(out), [], {}
    former = _former_pictures(out / RECORD)
    for index, image in enumerate(images):
        counts += image.counts
        if index < num_pictures:
            draw_image(out / PICTURES / f'{image.name}.png', image, classes, palette, ignore_index)
            pictures[image.name] = {classes[count.label]: count.k for count in image.counts}
    write_counts(out / COUNTS, counts, classes)
    draw_histograms(out / HISTOGRAM, counts, classes, palette, title)
    summary = [vars(entry) for entry in summarize(counts, classes)]
    write_json(out / RECORD, {**record, 'summary': summary, 'pictures': pictures})
    for path in (out / PICTURES).rglob('*.png'):
        if path.relative_to(out / PICTURES).with_suffix('').as_posix() in former - pictures.keys():
            path.unlink(missing_ok=True)
    return counts


def draw_histograms(
    path: str | os.PathLike,
    counts: Sequence[PatchCount],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    title: str,
) -> None:
    """Write a grid of histograms of K over the images: all foreground classes together, then every class.

    Of more than :data:`MAX_HISTOGRAMS` classes those with most images are drawn, in the order of the classes, and the
    title says so.
    """
    groups: dict[int, list[int]] = {}
    for count in counts:
        groups.setdefault(count.label, []).append(count.k)
    shown = sorted(sorted(groups, key=lambda label: (-len(groups[label]), label))[:MAX_HISTOGRAMS])
    if len(shown) < len(groups):
        title += f'\nthe {len(shown)} of {len(groups)} classes with most images'
    foreground = [k for label, ks in groups.items() if label > 0 for k in ks]
    panels = [('all foreground', 'black', foreground)] if foreground else []
    panels += [(classes[label], _color(palette, label), groups[label]) for label in shown]
    edges = _bin_edges([k for ks in groups.values() for k in ks])

    columns = min(len(panels), 4 if len(panels) <= 12 else 6)
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(_PLAIN_TEXT):
        figure = Figure(figsize=(2.5 * columns + 0.4, 1.9 * rows + 0.8), layout='constrained')
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        figure.supxlabel('number of patches K (dotted: mean)', fontsize='medium')
        figure.supylabel('images', fontsize='medium')
        for position, (name, color, ks) in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, columns, position)
            heights, _ = np.histogram(ks, edges)
            width = edges[1] - edges[0]
            axes.bar(edges[:-1] + width / 2, heights, 0.85 * width, color=color, edgecolor='black', linewidth=0.4)
            axes.axvline(np.mean(ks), color='black', linestyle=':', linewidth=1)
            axes.set_xlim(edges[0] - 0.2 * width, edges[-1] + 0.2 * width)
            axes.set_title(f'{name}\nn {len(ks)}, mean K {np.mean(ks):.1f}', fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
            axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.tick_params(labelsize=7)
            axes.spines[['top', 'right']].set_visible(False)
        _save(figure, path)


def draw_image(
    path: str | os.PathLike,
    image: PooledImage,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignore_index: int = 255,
) -> None:
    """Write a picture with the taken patches outlined: over the photograph, the scores and the true mask.

    The scores of the strongest :data:`MAX_MAPS` foreground classes and of the background have a tile each, drawn from
    the lowest score of the class to its highest.

    Raises:
        ValueError: the image file cannot be read.
    """
    photo = read_sample_image(image.sample, 'cpu', 'the pooling report')[0].permute(1, 2, 0).numpy()
    offset = len(classes) - len(image.scores)
    counts = {count.label: count for count in image.counts}
    foreground = [label for label in counts if label > 0]
    strongest = sorted(sorted(foreground, key=lambda label: -counts[label].best)[:MAX_MAPS])
    shown = foreground + [0] * (0 in counts)
    tiles = [('taken patches', photo, foreground)]
    for label in strongest + [0] * (0 in counts):
        count, scores = counts[label], image.scores[label - offset]
        heat = overlay_heat(photo, _spread(scores, photo.shape[:2]), opacity=0.6)
        tiles.append((f'{classes[label]}, K {count.k}', heat, [label]))
    if image.truth is not None:
        truth = _resize(image.truth.astype(np.uint8), photo.shape[:2])
        tiles.append(('truth', overlay_mask(photo, truth, np.asarray(palette), ignore_index, 0.7), foreground))

    columns = len(tiles) if len(tiles) < 5 else 3
    rows = -(-len(tiles) // columns)
    entries = 2 if columns > 3 else 1  # in a line of the legend
    lines = 0.22 * -(-len(shown) // entries) + 0.5  # inches of the name and the legend
    size = (_TILE * columns, (_TILE * photo.shape[0] / photo.shape[1] + 0.25) * rows + lines)
    with matplotlib.rc_context(_PLAIN_TEXT):
        figure = Figure(figsize=size, layout='constrained')
        FigureCanvasAgg(figure)
        figure.suptitle(f'{image.name}  (score maps: blue lowest, red highest of the class)', fontsize='medium')
        for position, (caption, picture, labels) in enumerate(tiles, start=1):
            axes = figure.add_subplot(rows, columns, position)
            axes.imshow(picture, extent=(0, image.chosen.shape[2], image.chosen.shape[1], 0), aspect='auto')
            axes.set_title(caption, fontsize=9)
            axes.set_axis_off()
            for depth, label in enumerate(labels):
                _outline(axes, image.chosen[label - offset], _color(palette, label), 0.08 * depth)
        if shown:
            handles = [Line2D([], [], color=_color(palette, label), marker='s', linestyle='') for label in shown]
            names = [_in_words(counts[label], classes[label]) for label in shown]
            figure.legend(handles, names, loc='outside lower left', ncols=entries, frameon=False, fontsize=9)
        _save(figure, path)


def _outline(axes: Axes, chosen: np.ndarray, color: str | tuple[float, ...], inset: float) -> None:
    """Draw a square with a white rim in every patch of ``chosen`` (h, w), on all sides ``inset`` of a patch smaller."""
    inset = min(inset, 0.4)  # classes may take the same patch
    line = min(1.6, 0.13 * 72 * _TILE / chosen.shape[1])  # points, thinner where patches are small
    for row, column in np.argwhere(chosen):
        corner, side = (column + inset, row + inset), 1 - 2 * inset
        # All rims lie below all lines, so that neighbours do not cut into each other.
        axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor='white', linewidth=2.1 * line, zorder=2))
        axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=color, linewidth=line, zorder=3))


def _in_words(count: PatchCount, name: str) -> str:
    words = f'{name}: K {count.k}, scores {count.kth:.3f} to {count.best:.3f}'
    return words if count.share is None else f'{words}, {count.on_class} of {count.judged} on the class'


def _spread(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``scores`` (h, w) from 0 for the lowest to 1 for the highest, as patches of an image of ``size``."""
    span = max(float(np.ptp(scores)), 1e-12)
    return _resize((scores - scores.min()) / span, size)


def _resize(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``array`` (h, w) of classes or patches at ``size`` (H, W), nearest."""
    return cv2.resize(array, size[::-1], interpolation=cv2.INTER_NEAREST)


def _bin_edges(ks: Sequence[int]) -> np.ndarray:
    """Edges of at most :data:`_MAX_BARS` bins of one width, a whole number, centred on numbers where it is 1."""
    low, high = (min(ks), max(ks)) if ks else (0, 0)
    low = min(low, 1)
    width = -(-(high - low + 1) // _MAX_BARS)
    return np.arange(low, high + width + 1, width) - 0.5


def _color(palette: Sequence[Sequence[int]], label: int) -> str | tuple[float, ...]:
    """Colour of a class; grey for the background, which palettes have in black."""
    return tuple(value / 255 for value in palette[label]) if label > 0 else _BACKGROUND


def _save(figure: Figure, path: str | os.PathLike) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format='png', dpi=110)


def _former_pictures(path: Path) -> set[str]:
    """Names of the pictures that the report ``path`` lists; none where there is no such report."""
    try:
        return set(json.loads(path.read_text(encoding='utf-8'))['pictures'])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
