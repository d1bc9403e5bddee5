"""Tiny networks and samples for the tests of models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from mmseg.structures import SegDataSample

ARCH = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def backbone_cfg() -> dict:
    """A vision transformer of three blocks on 16 x 16 pixels, four patches a side."""
    return dict(type='TokenViT', arch=ARCH, img_size=16, patch_size=4)


@pytest.fixture
def make_samples() -> Callable[..., list[SegDataSample]]:
    """Data samples with image labels, one row each, and records of both views."""

    def make(labels: list[list[int]] | None, count: int = 0, **metainfo) -> list[SegDataSample]:
        samples = []
        for i in range(count or len(labels)):
            sample = SegDataSample(metainfo=dict(img_path=f'image_{i}.jpg', ori_shape=(16, 16), **metainfo))
            if labels is not None:
                sample.image_labels = torch.tensor(labels[i], dtype=torch.float32)
            samples.append(sample)
        return samples

    return make
