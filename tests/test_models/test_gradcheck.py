"""Gradients of all differentiable blocks against finite differences, in float64.

The energy of the dense CRF is left out, whose gradient is that of the official code and no derivative.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mmwsss import ops
from mmwsss.models import losses
from mmwsss.models.heads.seam_head import exclusive_foreground, pixel_correlation
from mmwsss.models.losses.balanced_ce import soft_cross_entropy
from mmwsss.models.losses.seam import hardest_mean, rectified_min_max
from mmwsss.models.losses.seg_to_cam import unit_range
from mmwsss.models.losses.view_pair import Seen
from mmwsss.pseudo_labels import normalize
from mmwsss.refiners.affinity import pair_affinity, pair_labels
from mmwsss.registry import MODELS, POOLINGS

B, C, H, W = 2, 3, 2, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MAPS, OTHER = draw(B, C, H, W), draw(B, C, H, W, seed=1)
SOFTMAX = OTHER.softmax(dim=1)
FEATURES = draw(B, 4, H, W, seed=2)
MASK = torch.tensor([[[0, 1, 2], [255, 1, 0]], [[1, 1, 1], [255, 255, 2]]])
LABELS = torch.tensor([[1.0, 1, 0], [1, 0, 1]], dtype=torch.float64)
WEIGHTS = draw(B, H, W, seed=3).abs()
WIDE = draw(B, 4, 5, 6, seed=4)
PAIRS = pair_labels(torch.randint(3, (B, 5, 6), generator=torch.Generator().manual_seed(0)), 2)
ATTENTION = [draw(B, 2, 1 + H * W, 1 + H * W, seed=seed).softmax(-1) for seed in (5, 6)]


def _views(first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    # L_act and L_aff are of the module, which leaves the precision to its losses; these are float32.
    found = [losses.consistency_loss(first, second, norm) for norm in ('l1', 'l2')]
    return *found, ops.realign_attention(second[:, 0], (H, W), 'hflip')


FUNCTIONS: dict[str, tuple[Callable, tuple[Tensor, ...]]] = {
    'affinity_loss': (lambda x: losses.affinity_loss(pair_affinity(x, 2), *(p.double() for p in PAIRS)), (WIDE,)),
    'balanced_cross_entropy': (lambda x: losses.balanced_cross_entropy(x, MASK, weights=WEIGHTS), (MAPS,)),
    'balanced_cross_entropy, one mean': (lambda x: losses.balanced_cross_entropy(x, MASK, None), (MAPS,)),
    'balanced_nll_of_masks': (
        lambda x: losses.balanced_nll_of_masks(x, [MASK, MASK.flip(0)], weights=[WEIGHTS, None]), (MAPS,)
    ),
    'soft_cross_entropy': (lambda x: soft_cross_entropy(x, SOFTMAX), (MAPS,)),
    'consistency and attention': (_views, tuple(ATTENTION)),
    'equivariance_loss': (lambda x: losses.equivariance_loss(x.softmax(1), SOFTMAX), (MAPS,)),
    'multilabel_cls_loss': (lambda x: losses.multilabel_cls_loss(x.softmax(1).mean((2, 3)), LABELS), (MAPS,)),
    'patch_contrast_loss': (lambda x: losses.patch_contrast_loss(x, SOFTMAX, LABELS, 0.4, 0.3), (FEATURES,)),
    'perplexity': (lambda x: losses.perplexity(x.sigmoid(), 0.4, power=1.5), (MAPS,)),
    'min_pooling_loss': (lambda x: losses.min_pooling_loss(x, LABELS, 2), (MAPS + 3,)),
    'rectified_min_max': (rectified_min_max, (MAPS,)),
    'hardest_mean': (lambda x: hardest_mean(x.abs(), 0.5), (MAPS,)),
    'equivariant regularization': (
        # The targets of the other one take no gradient.
        lambda *x: losses.EquivariantRegularization()(x[:2], x[2:], LABELS)['loss_er'],
        (MAPS + 1, draw(B, C, 2, 2, seed=7) + 1, OTHER + 1, OTHER[..., :2] + 1),
    ),
    'raw_cam_loss': (lambda x: losses.raw_cam_loss(x[:, 1:], SOFTMAX), (MAPS,)),
    'raw_cam_loss, not rectified': (lambda x: losses.raw_cam_loss(x[:, 1:], SOFTMAX, False), (MAPS,)),
    'normalized_cam_loss': (lambda x: losses.normalized_cam_loss(x[:, 1:], SOFTMAX), (MAPS,)),
    'cam_mask_loss': (lambda x: losses.cam_mask_loss(x[:, 1:], MASK), (MAPS,)),
    'cam_mask_loss, mean': (lambda x: losses.cam_mask_loss(x[:, 1:], MASK, background='mean'), (MAPS,)),
    'unit_range': (unit_range, (MAPS,)),
    'separation_loss': (lambda x: losses.separation_loss(x, MASK, torch.ones(B, H, W), 0.5), (FEATURES,)),
    **{
        f'under_fitting_cross_entropy, {form}': (
            lambda x, form=form: losses.under_fitting_cross_entropy(x, MASK, form, beta=9, weights=WEIGHTS), (MAPS,)
        )
        for form in ('none', 'clamp', 'pow', 'ignore')
    },
    'pixel_correlation': (pixel_correlation, (FEATURES, MAPS)),
    'exclusive_foreground': (exclusive_foreground, (MAPS,)),
    'peak_normalize': (lambda x: normalize.peak_normalize(x.abs()), (MAPS,)),
    'min_max_normalize': (normalize.min_max_normalize, (MAPS,)),
    'mask_maps_with_labels': (lambda x: normalize.mask_maps_with_labels(x.softmax(1), LABELS), (MAPS,)),
    **{f'resize {rule}': (lambda x, rule=rule: ops.RESIZERS[rule](x, (3, 5)), (MAPS,)) for rule in ops.RESIZERS},
    'realign_maps': (lambda x: ops.realign_maps(x, 'rot90'), (MAPS,)),
}  # fmt: skip
POOLED = [
    dict(type='GlobalMaxPooling'),
    dict(type='GlobalAveragePooling'),
    dict(type='TopKPooling', k=3),
    *(dict(type='AdaptiveKPooling', rule=rule, kmax=4) for rule in ('ratio', 'rel_gap', 'gap', 'fixed', 'max')),
]
HEAD = dict(in_channels=4, num_classes=C)


def _image_logits(head: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    return head(x), head.image_logits(x)


def _image_scores(head: nn.Module, x: Tensor) -> Tensor:
    return head.image_scores(head(x).softmax(dim=1))


def _two_depths(head: nn.Module, x: Tensor) -> Tensor:
    return head([x, 2 * x])


def _tokens(head: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    return head(x.flatten(2).mT), head.patch_logits(x)


def _seam(head: nn.Module, x: Tensor) -> Tensor:
    # The normalised maps that are spread are float32, and the taps take no gradient.
    return head.fc8(x)


OF_MAPS = dict(pool='maps', pooling=dict(type='TopKPooling', k=2))
MODULES: dict[str, tuple[dict, Callable[[nn.Module, Tensor], Tensor | tuple[Tensor, ...]]]] = {
    'CAMHead': (dict(type='CAMHead', **HEAD), _image_logits),
    'CAMHead of maps': (dict(type='CAMHead', **OF_MAPS, **HEAD), _image_logits),
    'ClassTokenHead': (dict(type='ClassTokenHead', **HEAD), _tokens),
    'PatchClassHead': (dict(type='PatchClassHead', dropout=0.0, **HEAD), _image_scores),
    'SEAMHead': (dict(type='SEAMHead', tap_channels=(1, 1), channels=1, **HEAD), _seam),
    'AffinityHead': (dict(type='AffinityHead', in_channels=(4, 4), tap_channels=(3, 2)), _two_depths),
    'HVBiLSTM': (dict(type='HVBiLSTM', in_channels=4, hidden=1, dropout=0.0), lambda neck, x: neck(x)),
    'ASPPSumHead': (dict(type='ASPPSumHead', dilations=(1, 2), **HEAD), lambda head, x: head([x])),
    'LargeFOVHead': (dict(type='LargeFOVHead', channels=3, dilation=1, **HEAD), lambda head, x: head([x])),
}  # fmt: skip


def check(function: Callable, inputs: tuple[Tensor, ...]) -> None:
    leaves = [value.clone().requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_functions(name: str) -> None:
    check(*FUNCTIONS[name])


@pytest.mark.parametrize('config', POOLED, ids=lambda config: '-'.join(map(str, config.values())))
def test_poolings(config: dict) -> None:
    check(POOLINGS.build(config), (MAPS,))


@pytest.mark.parametrize('name', MODULES)
def test_modules(name: str) -> None:
    config, call = MODULES[name]
    torch.manual_seed(0)
    module = MODELS.build(config).double().eval()
    weights = tuple(weight.detach() for weight in module.parameters())

    def run(x: Tensor, *values: Tensor) -> Tensor | tuple[Tensor, ...]:
        state = dict(zip((key for key, _ in module.named_parameters()), values))
        with torch.nn.utils.stateless._reparametrize_module(module, state):
            return call(module, x)

    check(run, (FEATURES, *weights))


def test_seen_splits_without_a_copy() -> None:
    seen = Seen([torch.cat(ATTENTION)], (H, W))
    assert torch.equal(seen.split()[1].attention[0], ATTENTION[1])
