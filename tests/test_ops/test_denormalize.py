"""Undoing the normalisation of network inputs."""

from __future__ import annotations

import pytest
import torch

from mmwsss.ops import denormalize, denormalize_to_uint8

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture
def levels() -> torch.Tensor:
    """Every grey level in every channel, float32 (2, 3, 8, 32)."""
    return torch.arange(256.0).reshape(1, 1, 8, 32).repeat(2, 3, 1, 1)


def normalize(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def test_round_trip(levels: torch.Tensor) -> None:
    images = normalize(levels)
    back = denormalize(images, MEAN, STD)
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, levels, atol=1e-3, rtol=0)
    buffers = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(denormalize(images, *buffers), back, atol=1e-4, rtol=0)


def test_truncation_is_at_most_one_level_low(levels: torch.Tensor) -> None:
    images = normalize(levels)
    back = denormalize_to_uint8(images, MEAN, STD)
    assert back.dtype == torch.uint8
    lost = levels - back
    assert set(lost.unique().tolist()) == {0, 1}
    assert (lost == 1).float().mean() < 0.2
    assert torch.equal(back, denormalize(images, MEAN, STD).to(torch.uint8))


def test_values_out_of_range_are_clipped() -> None:
    images = normalize(torch.tensor([-40.0, 300.0]).reshape(1, 1, 1, 2).repeat(1, 3, 1, 1))
    assert denormalize_to_uint8(images, MEAN, STD)[0, 0, 0].tolist() == [0, 255]


def test_half_precision_is_computed_in_float32(levels: torch.Tensor) -> None:
    images = normalize(levels).bfloat16()
    assert torch.equal(denormalize(images, MEAN, STD), denormalize(images.float(), MEAN, STD))
