"""Counting the patches that a pooling takes, and the pictures of them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn

from mmwsss.models.heads import CAMHead, PatchClassHead
from mmwsss.models.poolings import AdaptiveKPooling
from mmwsss.visualization import pooling_report
from mmwsss.visualization.pooling_report import draw_histograms, write_report
from mmwsss.visualization.pooling_statistics import (
    COLUMNS,
    PatchCount,
    PooledImage,
    check_pooling,
    classes_at_centres,
    count_patches,
    summarize,
    write_counts,
)

CLASSES = ('background', 'cat', '$dog', 'cow')
PALETTE = [[0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200]]


def scores_of(channels: int) -> np.ndarray:
    """Scores (channels, 2, 3) with the best patches in different places."""
    scores = np.full((channels, 2, 3), 0.1, dtype=np.float32)
    scores[-1, 0] = 0.9, 0.85, 0.3
    scores[-2, 1] = 0.2, 0.5, 0.49
    return scores


def chosen_of(scores: np.ndarray) -> np.ndarray:
    return AdaptiveKPooling('ratio', tau=0.9, kmin=1).selection(torch.from_numpy(scores)[None])[0].numpy()


@pytest.mark.parametrize('channels', [3, 4])
def test_counts_of_the_present_classes(channels):
    truth = np.zeros((20, 30), dtype=np.int64)
    truth[:10, :10] = 3  # under the best patch of the cow
    truth[:10, 10:20] = 255  # under its second
    truth[10:, 10:] = 2
    scores = scores_of(channels)
    counts = count_patches('one', scores, chosen_of(scores), [0, 2, 3], 4, truth)
    expected = [(2, 2, 0.5, 0.49, 2, 2), (3, 2, 0.9, 0.85, 1, 1)]
    if channels == 4:
        expected = [(0, 6, 0.1, 0.1, 5, 2), *expected]
    found = [(c.label, c.k, c.best, c.kth, c.judged, c.on_class) for c in counts]
    assert found == [pytest.approx(row, rel=1e-6) for row in expected]
    assert [count.share for count in counts] == [0.4, 1.0, 1.0][-len(counts) :]
    unknown = count_patches('one', scores, chosen_of(scores), [2], 4)
    assert (unknown[0].judged, unknown[0].on_class, unknown[0].share) == (None, None, None)


def test_a_patch_on_ignored_pixels_alone_has_no_share():
    scores = scores_of(4)
    (count,) = count_patches('one', scores, chosen_of(scores), [3], 4, np.full((4, 6), 255))
    assert (count.judged, count.share) == (0, None)


def test_centres_of_patches_that_do_not_divide_the_mask():
    mask = np.arange(25).reshape(5, 5)
    assert classes_at_centres(mask, (2, 3)).tolist() == [[5, 7, 9], [15, 17, 19]]
    assert classes_at_centres(mask, (1, 1)).tolist() == [[12]]


def some_counts() -> list[PatchCount]:
    return [
        PatchCount('a', 0, 10, 0.9, 0.8, 10, 10),
        PatchCount('a', 3, 2, 0.6, 0.5, 2, 1),
        PatchCount('b', 1, 4, 0.8, 0.7, 4, 4),
        PatchCount('b', 3, 6, 0.4, 0.3, 0, 0),
    ]


def test_summary():
    everything, background, cat, cow = summarize(some_counts(), CLASSES)
    assert (everything.name, everything.images, everything.mean, everything.median) == ('all foreground', 2, 4, 4)
    assert everything.share == pytest.approx(5 / 6)
    assert (background.name, background.mean, background.share) == ('background', 10, 1)
    assert (cat.name, cat.images) == ('cat', 1)
    assert (cow.lowest, cow.highest, cow.mean, cow.best, cow.share) == (2, 6, 4, pytest.approx(0.5), 0.5)
    assert [entry.name for entry in summarize(some_counts()[:1], CLASSES)] == ['background']


def test_csv(tmp_path):
    write_counts(tmp_path / 'counts.csv', some_counts(), CLASSES)
    rows = list(csv.reader((tmp_path / 'counts.csv').open()))
    assert rows[0] == list(COLUMNS)
    assert rows[2] == ['a', 'cow', '2', '0.6', '0.5', '0.5000']
    assert rows[4] == ['b', 'cow', '6', '0.4', '0.3', '']
    assert [path.name for path in tmp_path.iterdir()] == ['counts.csv']


def drawn_titles(monkeypatch) -> list[list[str]]:
    """Figure title and titles of the panels of every figure that is saved from now on."""
    found, save = [], pooling_report._save

    def note(figure, path):
        found.append([figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)])
        save(figure, path)

    monkeypatch.setattr(pooling_report, '_save', note)
    return found


def test_histograms(tmp_path, monkeypatch):
    titles = drawn_titles(monkeypatch)
    draw_histograms(tmp_path / 'few.png', some_counts(), CLASSES, PALETTE, 'few')
    assert titles[0] == [
        'few', 'all foreground\nn 3, mean K 4.0', 'background\nn 1, mean K 10.0', 'cat\nn 1, mean K 4.0',
        'cow\nn 2, mean K 4.0',
    ]  # fmt: skip
    # Class 1 is in no image, the higher the index the more images show it.
    many = [PatchCount(str(i), label, 1 + i, 1, 1) for label in range(2, 81) for i in range(label)]
    names = [f'class {label}' for label in range(81)]
    draw_histograms(tmp_path / 'many.png', many, names, [[label, 0, 0] for label in range(81)], 'many')
    assert titles[1][0] == 'many\nthe 29 of 79 classes with most images'
    assert [title.split('\n')[0] for title in titles[1][2:]] == names[52:]
    assert min(Image.open(tmp_path / 'many.png').size) > 800


def test_bars_are_whole_numbers_of_patches():
    np.testing.assert_array_equal(pooling_report._bin_edges([2, 4]), [0.5, 1.5, 2.5, 3.5, 4.5])
    edges = pooling_report._bin_edges([1, 576])
    assert len(edges) <= 34
    assert len(set(np.diff(edges))) == 1
    assert edges[0] < 1 < 576 < edges[-1]


def pooled(folder, name: str, labels, truth: bool = True) -> PooledImage:
    path = folder / f'{name}.png'
    Image.new('RGB', (30, 20), (90, 90, 90)).save(path)
    sample = SegDataSample(metainfo=dict(img_path=str(path), ori_shape=(20, 30)))
    mask = np.zeros((20, 30), dtype=np.int64) if truth else None
    scores = scores_of(4)
    counts = count_patches(name, scores, chosen_of(scores), labels, 4, mask)
    return PooledImage(name, sample, scores, chosen_of(scores), counts, mask)


def test_report_takes_the_place_of_an_older_one(tmp_path, monkeypatch):
    titles = drawn_titles(monkeypatch)
    out = tmp_path / 'out'
    (out / 'images').mkdir(parents=True)
    (out / 'images' / 'mine.png').write_bytes(b'kept')
    images = [pooled(tmp_path, 'a', [0, 2, 3]), pooled(tmp_path, 'b', [0]), pooled(tmp_path, 'c', [1], truth=False)]
    counts = write_report(out, images, CLASSES, PALETTE, 3, 'title', dict(split='val'))
    assert [(count.image, count.label) for count in counts] == [('a', 0), ('a', 2), ('a', 3), ('b', 0), ('c', 1)]
    assert [title[1:] for title in titles[:3]] == [
        ['taken patches', '$dog, K 2', 'cow, K 2', 'background, K 6', 'truth'],
        ['taken patches', 'background, K 6', 'truth'],
        ['taken patches', 'cat, K 6'],
    ]
    assert sorted(path.name for path in (out / 'images').iterdir()) == ['a.png', 'b.png', 'c.png', 'mine.png']
    record = json.loads((out / 'report.json').read_text())
    assert record['pictures']['a'] == {'background': 6, '$dog': 2, 'cow': 2}
    assert record['split'] == 'val'

    write_report(out, images[1:], CLASSES, PALETTE, 1, 'title', {})
    assert sorted(path.name for path in (out / 'images').iterdir()) == ['b.png', 'mine.png']
    assert sorted(path.name for path in out.iterdir()) == ['counts.csv', 'histogram.png', 'images', 'report.json']


def outlined(axes) -> list[tuple]:
    """Colour, row and column of the square that is drawn in each patch, without the white rims."""
    squares = [square for square in axes.patches if square.get_edgecolor()[:3] != (1, 1, 1)]
    return [(square.get_edgecolor()[:3], int(square.get_y()), int(square.get_x())) for square in squares]


def test_patches_are_outlined_where_they_are(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(pooling_report, '_save', lambda figure, path: figures.append(figure))
    image = pooled(tmp_path, 'a', [0, 2, 3])
    pooling_report.draw_image(tmp_path / 'drawn.png', image, CLASSES, PALETTE)
    photo, dog, cow, background, truth = figures[0].axes
    green, blue = ((30 / 255, 200 / 255, 30 / 255), (30 / 255, 30 / 255, 200 / 255))
    expected = {2: [(green, 1, 1), (green, 1, 2)], 3: [(blue, 0, 0), (blue, 0, 1)]}
    assert outlined(dog) == expected[2]
    assert outlined(cow) == expected[3]
    assert outlined(photo) == outlined(truth) == expected[2] + expected[3]
    assert [place[1:] for place in outlined(background)] == [(row, column) for row in range(2) for column in range(3)]
    insets = {round(square.get_x() % 1, 6) for square in photo.patches}
    assert len(insets) == 2  # so that classes in one patch are both seen
    assert all(axes.get_xlim() == (0, 3) and axes.get_ylim() == (2, 0) for axes in figures[0].axes)


class Segmentor(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def extract_feat(self, inputs):
        return inputs


def test_which_heads_can_be_shown():
    pooling = dict(type='AdaptiveKPooling')
    check_pooling(Segmentor(PatchClassHead(4, 3, pooling=pooling)))
    check_pooling(Segmentor(CAMHead(4, 3, pool='maps', pooling=pooling)))
    with pytest.raises(ValueError, match="pools features, so that no patch is chosen for a class; set pool='maps'"):
        check_pooling(Segmentor(CAMHead(4, 3)))
    with pytest.raises(ValueError, match='Linear has no head that pools patch scores; use a weak segmentor'):
        check_pooling(nn.Linear(1, 1))
    head = PatchClassHead(4, 3)
    head.pooling = nn.Identity()
    with pytest.raises(ValueError, match='Identity does not tell which patches it takes'):
        check_pooling(Segmentor(head))
