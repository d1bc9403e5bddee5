"""Flips, records, crops and mosaics of ViT-PCM's two views."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmwsss.ops import (
    apply_flips,
    apply_record,
    crop_and_resize,
    patch_level_records,
    tile_views,
    undo_flips,
    untile_views,
)

FLAGS = list(itertools.product((0, 1), repeat=3))


def records_of(flags=((0, 0, 0),), box=(0, 0, 0, 0), size=(0, 0)) -> torch.Tensor:
    return torch.tensor([[*flag, *box, *size] for flag in flags], dtype=torch.float32)


def flipped(item: np.ndarray, flag: tuple[int, int, int]) -> np.ndarray:
    item = item[..., ::-1] if flag[0] else item
    item = item[..., ::-1, :] if flag[1] else item
    return np.swapaxes(item, -1, -2) if flag[2] else item


def test_flips_of_a_mixed_square_batch_match_numpy_and_are_undone() -> None:
    x = torch.rand(8, 2, 5, 5)
    records = records_of(FLAGS)
    out = apply_flips(x, records)
    expected = np.stack([flipped(item, flag) for item, flag in zip(x.numpy(), FLAGS)])
    np.testing.assert_array_equal(out.numpy(), expected)
    assert torch.equal(undo_flips(out, records), x)
    distinct = {tuple(apply_flips(x[:1], records_of([flag])).flatten().tolist()) for flag in FLAGS}
    assert len(distinct) == 8


@pytest.mark.parametrize('flag', FLAGS)
def test_flips_of_a_uniform_rectangular_batch_are_undone(flag: tuple[int, int, int]) -> None:
    x = torch.rand(3, 2, 4, 6)
    records = records_of([flag] * 3)
    out = apply_flips(x, records)
    assert out.shape[-2:] == ((6, 4) if flag[2] else (4, 6))
    np.testing.assert_array_equal(out.numpy(), flipped(x.numpy(), flag))
    assert torch.equal(undo_flips(out, records), x)


def test_rectangular_batches_cannot_disagree_about_the_transpose() -> None:
    with pytest.raises(ValueError, match=r'rectangular batch .*transpose_prob=0'):
        apply_flips(torch.rand(2, 1, 4, 6), records_of([(0, 0, 0), (0, 0, 1)]))


@pytest.mark.parametrize('size', [(4, 4), (3, 7), (9, 5), (1, 1)])
def test_crop_and_resize_is_interpolation_of_the_cropped_part(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, 8, 10, dtype=torch.float64)
    y1, x1, y2, x2 = 2, 3, 6, 9
    expected = F.interpolate(x[:, :, y1:y2, x1:x2], size=size, mode='bilinear', align_corners=True)
    out = crop_and_resize(x, torch.tensor([[y1, x1, y2, x2]] * 2), size)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    assert out.dtype == torch.float64


def test_nothing_outside_the_box_leaks_in() -> None:
    x = torch.full((1, 1, 8, 8), float('1e6'))
    x[:, :, 2:6, 3:7] = 1
    out = crop_and_resize(x, torch.tensor([[2, 3, 6, 7]]), (4, 4))
    assert torch.equal(out, torch.ones(1, 1, 4, 4))


def test_a_zero_box_is_the_whole_item_and_a_mixed_batch_equals_item_by_item() -> None:
    x = torch.rand(4, 2, 8, 12)
    boxes = torch.tensor([[0, 0, 0, 0], [1, 2, 5, 8], [0, 0, 8, 12], [4, 6, 8, 12]])
    together = crop_and_resize(x, boxes, (5, 6))
    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], crop_and_resize(x[i : i + 1], boxes[i : i + 1], (5, 6)))
    whole = F.interpolate(x[:1], size=(5, 6), mode='bilinear', align_corners=True)
    torch.testing.assert_close(together[:1], whole, atol=1e-5, rtol=0)


def test_apply_record_crops_resizes_then_flips() -> None:
    x = torch.rand(2, 1, 8, 8)
    records = torch.cat((records_of([(1, 0, 1)], (2, 0, 6, 4), (6, 6)), records_of([(0, 1, 0)], size=(6, 6))))
    out = apply_record(x, records)
    crop = F.interpolate(x[:1, :, 2:6, 0:4], size=(6, 6), mode='bilinear', align_corners=True)
    whole = F.interpolate(x[1:], size=(6, 6), mode='bilinear', align_corners=True)
    torch.testing.assert_close(out[:1], crop.flip(-1).transpose(-1, -2), atol=1e-6, rtol=0)
    torch.testing.assert_close(out[1:], whole.flip(-2), atol=1e-6, rtol=0)


def test_records_of_one_batch_lead_to_one_size() -> None:
    records = torch.cat((records_of(box=(0, 0, 4, 4)), records_of(size=(6, 6))))
    with pytest.raises(ValueError, match=r'share one size, got \[\(4, 4\), \(6, 6\)\]'):
        apply_record(torch.rand(2, 1, 8, 8), records)


def test_gradients_of_records() -> None:
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    records = torch.cat((records_of([(1, 1, 1)], (1, 0, 4, 3), (3, 3)), records_of([(0, 1, 0)], size=(3, 3))))
    assert gradcheck(lambda z: undo_flips(apply_record(z, records), records), x)


def test_crops_keep_float32_under_autocast() -> None:
    x = torch.rand(1, 2, 8, 8)
    boxes = torch.tensor([[1, 1, 6, 6]])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = crop_and_resize(x, boxes, (7, 7))
    assert torch.equal(out, crop_and_resize(x, boxes, (7, 7)))


def test_patch_level_records_divide_all_but_the_flags() -> None:
    records = records_of([(1, 0, 1)], (16, 32, 144, 160), (192, 200))
    out = patch_level_records(records, 16)
    assert out.tolist() == [[1, 0, 1, 1, 2, 9, 10, 12, 12]]
    assert records[0, 3] == 16


@pytest.mark.parametrize('grid', [2, 3])
def test_mosaic_is_row_major_and_untiled_exactly(grid: int) -> None:
    views = torch.rand(2 * grid**2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    mosaic = tile_views(views, grid)
    assert mosaic.shape == (2, 3, 4 * grid, 6 * grid)
    for i in range(2 * grid**2):
        row, col = divmod(i % grid**2, grid)
        assert torch.equal(mosaic[i // grid**2, :, 4 * row : 4 * row + 4, 6 * col : 6 * col + 6], views[i])
    assert torch.equal(untile_views(mosaic, grid), views)
    weight = torch.rand_like(views)
    (untile_views(mosaic, grid) * weight).sum().backward()
    assert torch.equal(views.grad, weight)


def test_mosaic_needs_whole_groups() -> None:
    with pytest.raises(ValueError, match='multiple of 4, got 6; set batch_size'):
        tile_views(torch.rand(6, 1, 2, 2))
