"""Decision for foreground or background at a background setting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmwsss.pseudo_labels import maps_to_mask


@pytest.mark.parametrize('setting', [0.0, 0.4, 1.0])
def test_threshold_without_background_channel(setting: float) -> None:
    maps = torch.rand(2, 3, 4, 5)
    mask = maps_to_mask(maps, setting, has_background=False)
    assert mask.dtype == torch.int64
    for b, y, x in np.ndindex(2, 4, 5):
        scores = maps[b, :, y, x]
        assert mask[b, y, x] == (scores.argmax() + 1 if scores.max() > setting else 0)


@pytest.mark.parametrize('setting', [0.5, 1.0, 2.0])
def test_factor_on_the_background_channel(setting: float) -> None:
    maps = torch.rand(4, 6, 5)
    mask = maps_to_mask(maps, setting, has_background=True)
    assert mask.shape == (6, 5)
    scaled = torch.cat((setting * maps[:1], maps[1:]))
    assert torch.equal(mask, scaled.argmax(dim=0))


def test_score_at_the_limit_and_empty_maps_are_background() -> None:
    maps = torch.tensor([0.25, 0.5, 0.75]).reshape(1, 1, 3)
    assert maps_to_mask(maps, 0.5, has_background=False).tolist() == [[0, 0, 1]]
    tied = torch.full((3, 1, 1), 0.3)
    assert maps_to_mask(tied, 1.0, has_background=True).item() == 0
    assert maps_to_mask(torch.zeros(3, 2, 2), 0.0, has_background=False).sum() == 0
    assert maps_to_mask(torch.zeros(3, 2, 2), 1.0, has_background=True).sum() == 0
