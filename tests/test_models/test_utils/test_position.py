"""Interpolation of position embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmwsss.models.utils import resize_position_embedding
from mmwsss.ops import tf_bicubic_matrix


def test_tf_rule_on_a_rectangular_grid() -> None:
    pos = torch.randn(1, 1 + 3 * 4, 5)
    out = resize_position_embedding(pos, (3, 4), (6, 7))
    rows, cols = tf_bicubic_matrix(3, 6).double().numpy(), tf_bicubic_matrix(4, 7).double().numpy()
    grid = pos[0, 1:].double().numpy().reshape(3, 4, 5)
    expected = np.einsum('ih,jw,hwd->ijd', rows, cols, grid).reshape(-1, 5)
    assert out.shape == (1, 43, 5)
    assert torch.equal(out[:, :1], pos[:, :1])
    np.testing.assert_allclose(out[0, 1:].numpy(), expected, atol=1e-5)


def test_torch_rule() -> None:
    pos = torch.randn(1, 17, 3)
    out = resize_position_embedding(pos, (4, 4), (5, 8), mode='torch')
    grid = F.interpolate(pos[:, 1:].reshape(1, 4, 4, 3).permute(0, 3, 1, 2), size=(5, 8), mode='bicubic')
    torch.testing.assert_close(out[:, 1:], grid.permute(0, 2, 3, 1).reshape(1, 40, 3))


def test_same_grid_is_the_same_tensor() -> None:
    pos = torch.randn(1, 10, 3)
    assert resize_position_embedding(pos, (3, 3), (3, 3)) is pos


@pytest.mark.parametrize('extra', [0, 2])
def test_extra_tokens_stay(extra: int) -> None:
    pos = torch.randn(1, extra + 6, 3)
    out = resize_position_embedding(pos, (2, 3), (4, 3), num_extra_tokens=extra)
    assert out.shape == (1, extra + 12, 3)
    assert torch.equal(out[:, :extra], pos[:, :extra])


@pytest.mark.parametrize('mode', ['tf', 'torch'])
def test_gradient_and_precision(mode: str) -> None:
    pos = torch.randn(1, 10, 3, requires_grad=True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = resize_position_embedding(pos, (3, 3), (5, 4), mode)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, resize_position_embedding(pos, (3, 3), (5, 4), mode))
    out.sum().backward()
    assert (pos.grad.abs().sum(dim=-1) > 0).all()
    assert resize_position_embedding(pos.half(), (3, 3), (5, 4), mode).dtype == torch.float16
