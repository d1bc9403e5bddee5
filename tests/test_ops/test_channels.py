"""Which channels the image labels allow, and the same computed in a few slots."""

from __future__ import annotations

import pytest
import torch

from mmwsss.ops import PresentClasses, present_channels

LABELS = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).float()
FEW = LABELS[:3]


@pytest.fixture
def maps() -> torch.Tensor:
    return torch.randn(4, 5, 3, 2, generator=torch.Generator().manual_seed(0))


def with_background(maps: torch.Tensor) -> torch.Tensor:
    return torch.cat((maps.sum(dim=-3, keepdim=True), maps), dim=-3)


def test_present_channels() -> None:
    assert present_channels(LABELS, 5).tolist() == (LABELS > 0).tolist()
    assert present_channels(LABELS, 6)[:, 0].all()
    assert torch.equal(present_channels(LABELS, 6)[:, 1:], LABELS > 0)
    with pytest.raises(ValueError, match='5 image labels do not fit maps of 4 channels'):
        present_channels(LABELS, 4)


@pytest.mark.parametrize(('labels', 'slots'), [(FEW, 3), (FEW, 4), (FEW, 5), (FEW, 99), (FEW, None), (LABELS, 5)])
def test_select_and_spread_return_the_present_classes(labels, slots, maps) -> None:
    present = PresentClasses(labels, slots)
    maps = maps[: len(labels)]
    assert present.index.shape == present.valid.shape == (len(labels), min(slots or 5, 5))
    assert (present.index.diff(dim=1) > 0).all()
    assert torch.equal(present.valid.sum(dim=1), labels.sum(dim=1))
    for i, row in enumerate(labels):
        taken = present.index[i][present.valid[i] > 0]
        assert taken.tolist() == row.nonzero()[:, 0].tolist()
        assert torch.equal(present.select(maps)[i][present.valid[i] > 0], maps[i][row > 0])
    full = with_background(maps)
    selected = present.select_with_background(full)
    expected = full * present_channels(labels, 6)[:, :, None, None]
    assert torch.equal(present.spread(selected, 6), expected)
    # left-over slots never reach a class, whatever stands in them
    dirty = selected + 7 * torch.nn.functional.pad(1 - present.valid, (1, 0))[:, :, None, None]
    assert torch.equal(present.spread(dirty, 6), expected)


def test_no_image_has_labels(maps) -> None:
    present = PresentClasses(torch.zeros(4, 5), 0)
    assert present.index.shape == (4, 1)
    assert not present.select(maps).any()
    spread = present.spread(torch.ones(4, 2, 3, 2), 6)
    assert spread[:, 0].all()
    assert not spread[:, 1:].any()
    assert not present.to_classes(torch.zeros(4, 3, 2, dtype=torch.long)).any()


def test_leading_axis_of_views(maps) -> None:
    present = PresentClasses(FEW, 3)
    views = torch.stack((maps[:3], -maps[:3]))
    for i, view in enumerate(views):
        assert torch.equal(present.select(views)[i], present.select(view))
        both = present.select_with_background(torch.stack([with_background(v) for v in views]))
        assert torch.equal(both[i], present.select_with_background(with_background(view)))


def test_masks_name_classes_again(maps) -> None:
    """Argmax over slots equals argmax over present classes."""
    present = PresentClasses(FEW, 4)
    full = with_background(maps[:3]).softmax(dim=1)
    allowed = present_channels(FEW, 6)[:, :, None, None]
    expected = full.masked_fill(~allowed, -1).argmax(dim=1)
    slots = present.select_with_background(full).argmax(dim=1)
    found = present.to_classes(slots)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)
    slots[0, 0], slots[1, 2, 1] = 255, 255
    expected[0, 0], expected[1, 2, 1] = 255, 255
    assert torch.equal(present.to_classes(slots), expected)
    slots[slots == 255] = 200
    expected[expected == 255] = 200
    assert torch.equal(present.to_classes(slots, ignore_index=200), expected)


def test_more_classes_than_the_ignore_index() -> None:
    """A class above 255 comes out whole."""
    labels = torch.zeros(1, 300)
    labels[0, [2, 290]] = 1
    mask = torch.tensor([[[0, 1, 2, 255]]])
    assert PresentClasses(labels, 2).to_classes(mask).tolist() == [[[0, 3, 291, 255]]]


def test_half_precision_and_gradients_pass(maps) -> None:
    present = PresentClasses(FEW, 3)
    assert present.select(maps[:3].bfloat16()).dtype == torch.bfloat16
    assert present.spread(present.select_with_background(with_background(maps[:3]).half()), 6).dtype == torch.float16
    leaf = maps[:3].clone().requires_grad_()
    present.select(leaf).sum().backward()
    assert torch.equal(leaf.grad, FEW[:, :, None, None].expand_as(leaf))
