"""Inputs of every kind for losses and blocks, and the calls of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.models import heads as all_heads
from mmwsss.models import losses as all_losses
from mmwsss.models.heads.seam_head import exclusive_foreground, pixel_correlation
from mmwsss.models.losses.balanced_ce import soft_cross_entropy
from mmwsss.models.losses.seam import hardest_mean, rectified_min_max
from mmwsss.models.losses.view_pair import Seen
from mmwsss.pseudo_labels import normalize
from mmwsss.refiners.affinity import pair_affinity, pair_labels
from mmwsss.registry import MODELS, POOLINGS

IGNORED = 255
VALUES = ('normal', 'zeros', 'constant', 'peak', 'huge', 'half_max', 'half_min', 'tiny', 'mixed')
LABELS = ('random', 'none', 'one', 'all', 'same')
MASKS = ('random', 'ignored', 'background', 'foreground', 'one_pixel', 'half_ignored')


class Setting(NamedTuple):
    """Shapes and kinds of one input."""

    batch: int = 2
    classes: int = 3
    height: int = 3
    width: int = 4
    values: str = 'normal'
    labels: str = 'random'
    mask: str = 'random'
    dtype: torch.dtype = torch.float32
    seed: int = 0


NAMED = {
    'no confident patch': Setting(values='constant'),
    'single-class batch': Setting(labels='same', mask='foreground'),
    'empty label': Setting(labels='none', mask='background'),
    'all-ignore crop': Setting(mask='ignored'),
    'all-ignore crop of huge logits': Setting(mask='ignored', values='mixed'),
    'constant map': Setting(values='constant', labels='all'),
    'zeros': Setting(values='zeros'),
    'one-pixel object': Setting(mask='one_pixel', values='peak'),
    'one patch': Setting(batch=1, classes=2, height=1, width=1),
    'largest number of float16': Setting(values='half_max', dtype=torch.float16),
    'most negative number of float16': Setting(values='half_min', dtype=torch.float16),
    'smallest number of float16': Setting(values='tiny', dtype=torch.float16),
    'mixed float16': Setting(values='mixed', dtype=torch.float16),
    'mixed bfloat16': Setting(values='mixed', dtype=torch.bfloat16),
    'logits of 10000': Setting(values='huge'),
}


class Inputs:
    """Tensors of a :class:`Setting`; those in ``leaves`` take gradients."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.leaves: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(setting.seed)

    def values(self, *shape: int, single: bool = False) -> Tensor:
        """A leaf of values of the kind, in the dtype, of the setting.

        ``single`` rounds to the dtype but keeps float32, for blocks with gradients above 65504, as 1 / eps is.
        """
        plain = torch.randn(shape, generator=self.generator)
        signs = plain.sign()
        made = {
            'normal': plain,
            'zeros': plain * 0,
            'constant': plain * 0 + 0.5,
            'peak': torch.where(plain == plain.max(), 20.0, -20.0),
            'huge': signs * 1e4,
            'half_max': plain * 0 + 65504,
            'half_min': plain * 0 - 65504,
            'tiny': signs * 6e-8,
            'mixed': torch.where(plain.abs() > 1, 65504 * signs, torch.where(plain > 0, 6e-8, 0)),
        }[self.setting.values]
        leaf = made.to(self.setting.dtype)
        leaf = (leaf.float() if single else leaf).requires_grad_()
        self.leaves.append(leaf)
        return leaf

    @property
    def size(self) -> tuple[int, int]:
        return self.setting.height, self.setting.width

    def maps(self, classes: int | None = None, single: bool = False) -> Tensor:
        """Leaf (B, C, h, w)."""
        return self.values(self.setting.batch, classes or self.setting.classes, *self.size, single=single)

    def softmax(self) -> Tensor:
        return self.maps().softmax(dim=1)

    @cached_property
    def labels(self) -> Tensor:
        """Multi-hot (B, C), the background included."""
        shape = self.setting.batch, self.setting.classes
        made = {
            'random': (torch.rand(shape, generator=self.generator) > 0.5).float(),
            'none': torch.zeros(shape),
            'one': torch.eye(shape[1])[torch.randint(shape[1], shape[:1], generator=self.generator)],
            'all': torch.ones(shape),
            'same': torch.eye(shape[1])[1].expand(shape).clone(),
        }[self.setting.labels]
        made[:, 0] = 1
        return made

    @cached_property
    def mask(self) -> Tensor:
        """(B, h, w) int64."""
        shape = self.setting.batch, *self.size
        made = torch.randint(self.setting.classes, shape, generator=self.generator)
        if self.setting.mask in ('ignored', 'background', 'foreground'):
            made[:] = dict(ignored=IGNORED, background=0, foreground=1)[self.setting.mask]
        elif self.setting.mask == 'one_pixel':
            made[:] = 0
            made[:, 0, 0] = 1
        elif self.setting.mask == 'half_ignored':
            made.flatten(1)[:, ::2] = IGNORED
        return made

    @property
    def weights(self) -> Tensor:
        return torch.rand(self.mask.shape, generator=self.generator)

    @property
    def images(self) -> Tensor:
        return torch.randint(0, 256, (self.setting.batch, 3, *self.size), generator=self.generator).float()


def _pair_affinity(x: Inputs) -> Tensor:
    height, width = (side + 4 for side in x.size)  # smaller grids have no pairs, which is an error
    return pair_affinity(x.values(x.setting.batch, 4, height, width).float(), 2)


def _affinity(x: Inputs) -> Tensor:
    mask = F.pad(x.mask, (2, 2, 2, 2), value=IGNORED)
    return all_losses.AffinityLoss()(_pair_affinity(x), *pair_labels(mask, 2, IGNORED))


def _dense_energy(x: Inputs, filter: str) -> Tensor:
    regions = torch.ones(x.mask.shape)
    loss = all_losses.DenseEnergyLoss(factor=1.0, filter=filter, scale=1.0)
    return loss(x.softmax().float(), x.images, x.mask, regions)


def _view_pair(x: Inputs) -> list[Tensor]:
    size = 1 + x.size[0] * x.size[1]
    consistency = all_losses.ViewPairConsistency(
        loss_activation=dict(type='ConsistencyLoss'), loss_affinity=dict(type='ConsistencyLoss', norm='l2')
    )
    seen = [Seen([x.values(x.setting.batch, 2, size, size).softmax(-1)], x.size) for _ in range(2)]
    return list(consistency(*seen).values())


def _equivariant(x: Inputs) -> list[Tensor]:
    maps = [x.maps() for _ in range(4)]
    return list(all_losses.EquivariantRegularization()((maps[0], maps[1]), (maps[2], maps[3]), x.labels).values())


def _perplexity(x: Inputs) -> list[Tensor]:
    confidence = x.softmax().amax(dim=1)
    weights = all_losses.ReliabilityWeights()
    found = [weights.perplexity(confidence, threshold) for threshold in (0.0, 0.5, 1.0)]
    return found + [weights(confidence, x.mask, threshold) for threshold in (0.0, 0.5, 1.0)]


def _records(x: Inputs) -> Tensor:
    height, width = x.size
    record = [0, 0, 0, 0, 0, height * 4, width * 4, height * 4, width * 4]
    return torch.tensor([record] * x.setting.batch, dtype=torch.float32)


def _separation(x: Inputs) -> Tensor:
    return all_losses.SeparationLoss()(x.maps(4), x.mask, x.weights * 2)


LOSSES: dict[str, Callable[[Inputs], Tensor | list[Tensor]]] = {
    'AffinityLoss': _affinity,
    'BalancedCELoss': lambda x: all_losses.BalancedCELoss()(x.maps().float().log_softmax(1), x.mask, x.weights),
    'BalancedCELoss one mean': lambda x: all_losses.BalancedCELoss(None)(x.maps().float().log_softmax(1), x.mask),
    'BalancedCELoss of masks': lambda x: list(
        all_losses.BalancedCELoss().of_masks(x.maps(), [x.mask, x.mask.flip(0)], [x.weights, None])
    ),
    'soft_cross_entropy': lambda x: soft_cross_entropy(x.maps().float(), x.softmax().float()),
    'ClassifierL2': lambda x: all_losses.ClassifierL2()(x.values(4, 3)),
    'ConsistencyLoss l1': lambda x: all_losses.ConsistencyLoss()(x.maps(), x.maps()),
    'ConsistencyLoss l2': lambda x: all_losses.ConsistencyLoss('l2')(x.maps(), x.maps()),
    'DenseEnergyLoss exact': lambda x: _dense_energy(x, 'exact'),
    'DenseEnergyLoss lattice': lambda x: _dense_energy(x, 'lattice'),
    'EquivarianceLoss': lambda x: all_losses.EquivarianceLoss()(
        x.softmax(), x.softmax().detach(), _records(x), _records(x), 4, x.labels
    ),
    'EquivarianceLoss of zeros': lambda x: all_losses.EquivarianceLoss(use_labels=False)(
        x.maps(single=True).relu(), x.softmax().detach(), _records(x), _records(x), 4, x.labels
    ),
    'MultiLabelClsLoss': lambda x: all_losses.MultiLabelClsLoss()(x.softmax().amax((2, 3)), x.labels),
    'MultiLabelClsLoss plain': lambda x: all_losses.MultiLabelClsLoss(eps_in_log=False)(
        x.softmax().amax((2, 3)), x.labels
    ),
    'MultiLabelSoftMarginLoss': lambda x: all_losses.MultiLabelSoftMarginLoss()(x.maps().amax((2, 3)), x.labels),
    'PatchContrastLoss': lambda x: all_losses.PatchContrastLoss()(x.maps(5), x.softmax(), x.labels),
    'PatchContrastLoss of objects': lambda x: all_losses.PatchContrastLoss(0.4, 0.4, include_bg=False)(
        x.maps(5), x.softmax(), x.labels
    ),
    'ReliabilityWeights': _perplexity,
    'EquivariantRegularization': _equivariant,
    'MinPoolingLoss': lambda x: all_losses.MinPoolingLoss()(x.maps(), x.labels),
    'rectified_min_max': lambda x: rectified_min_max(x.maps()),
    'hardest_mean': lambda x: hardest_mean(x.maps().float().abs()),
    'SegToCAMLoss v1': lambda x: all_losses.SegToCAMLoss()(x.maps(x.setting.classes - 1), x.softmax()),
    'SegToCAMLoss v1 not rectified': lambda x: all_losses.SegToCAMLoss(rectify=False)(
        x.maps(x.setting.classes - 1), x.softmax()
    ),
    'SegToCAMLoss v2': lambda x: all_losses.SegToCAMLoss('v2')(x.maps(x.setting.classes - 1), x.softmax()),
    'SegToCAMLoss v2 detached': lambda x: all_losses.SegToCAMLoss('v2', detach_range=True)(
        x.maps(x.setting.classes - 1), x.softmax()
    ),
    'SegToCAMLoss v3': lambda x: all_losses.SegToCAMLoss('v3')(x.maps(x.setting.classes - 1), x.softmax()),
    'SegToCAMLoss v3 mean': lambda x: all_losses.SegToCAMLoss('v3', confidence=1.0, background='mean')(
        x.maps(x.setting.classes - 1), x.softmax()
    ),
    'SeparationLoss': _separation,
    **{
        f'UnderFittingCrossEntropyLoss {form}': lambda x, form=form: all_losses.UnderFittingCrossEntropyLoss(
            form, beta=1e9
        )(x.maps(), x.mask)
        for form in ('none', 'clamp', 'pow', 'ignore')
    },
    'ViewPairConsistency': _view_pair,
}  # fmt: skip

POOLED = {
    'max': dict(type='GlobalMaxPooling'),
    'average': dict(type='GlobalAveragePooling'),
    'topk': dict(type='TopKPooling', k=3),
    **{f'adaptive {rule}': dict(type='AdaptiveKPooling', rule=rule) for rule in ('ratio', 'rel_gap', 'gap', 'fixed')},
}


def _pool(config: dict) -> Callable[[Inputs], Tensor]:
    return lambda x: POOLINGS.build(config)(x.maps())


def _head(config: dict, call: Callable[[nn.Module, Inputs], Tensor | list[Tensor]]) -> Callable[[Inputs], list[Tensor]]:
    def run(x: Inputs) -> list[Tensor]:
        torch.manual_seed(0)
        # Half precision comes from autocast, under which weights stay as they are.
        head = MODELS.build(config)
        x.leaves += list(head.parameters())
        found = call(head, x)
        return list(found) if isinstance(found, list | tuple) else [found]

    return run


def _seam(head: nn.Module, x: Inputs) -> list[Tensor]:
    batch, (height, width) = x.setting.batch, x.size
    taps = [x.values(batch, channels, height, width, single=True) for channels in (4, 5, 6)]
    return list(head(x.values(batch, 3, 2 * height, 2 * width, single=True), taps))


HEADS: dict[str, Callable[[Inputs], list[Tensor]]] = {
    'CAMHead': _head(
        dict(type='CAMHead', in_channels=4, num_classes=3),
        lambda head, x: [head(features := x.maps(4).float()), head.image_logits(features)],
    ),
    'CAMHead of maps': _head(
        dict(type='CAMHead', in_channels=4, num_classes=3, pool='maps', pooling=dict(type='AdaptiveKPooling')),
        lambda head, x: head.image_logits(x.maps(4).float()),
    ),
    'ClassTokenHead': _head(
        dict(type='ClassTokenHead', in_channels=4, num_classes=3),
        lambda head, x: [head(x.values(2, 5, 4).float()), head.patch_logits(x.maps(4).float())],
    ),
    'PatchClassHead': _head(
        dict(type='PatchClassHead', in_channels=4, num_classes=3),
        lambda head, x: [maps := head.maps(x.maps(4).float()), head.image_scores(maps)],
    ),
    'SEAMHead': _head(
        dict(type='SEAMHead', in_channels=(4, 5, 6), num_classes=3, tap_channels=(3, 4), channels=5), _seam
    ),
    'AffinityHead': _head(
        dict(type='AffinityHead', in_channels=(4, 5), tap_channels=(3, 2)),
        lambda head, x: head([x.maps(4).float(), x.maps(5).float()]),
    ),
}  # fmt: skip

BLOCKS: dict[str, Callable[[Inputs], Tensor | list[Tensor]]] = {
    'pixel_correlation': lambda x: pixel_correlation(x.maps(4, single=True), x.maps(single=True)),
    'exclusive_foreground': lambda x: exclusive_foreground(x.maps()),
    'pair_affinity': _pair_affinity,
    'peak_normalize': lambda x: normalize.peak_normalize(x.maps(single=True).relu()),
    'min_max_normalize': lambda x: normalize.min_max_normalize(x.maps(single=True)),
    'to_distribution': lambda x: normalize.to_distribution(x.maps(single=True).relu()),
    'mask_maps_with_labels': lambda x: normalize.mask_maps_with_labels(x.softmax().float(), x.labels),
}

CALLS = {
    **LOSSES,
    **{f'pooling {name}': _pool(config) for name, config in POOLED.items()},
    **HEADS,
    **BLOCKS,
}


def registered() -> Iterator[str]:
    """Names of all losses and heads of the package."""
    for module in (all_losses, all_heads):
        yield from (
            name for name in module.__all__ if isinstance(getattr(module, name), type) and name not in ('Seen',)
        )
