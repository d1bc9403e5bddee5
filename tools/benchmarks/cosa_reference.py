"""A training step of CoSA written plainly, as the released procedure does it, step by step.

It computes what that procedure computes, with the usual operations of torch and no detours: every output of every view
at full size and for all classes, a loop over images and thresholds for the pseudo masks, and in the warm-up all losses,
multiplied by 0. The filter of the energy loss is compiled code there too, so both sides share ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from cosa_reference_network import PlainNetwork
from step_clock import ASSIGNMENT, BACKWARD, ENERGY, FUSION, LABELS, LOSSES, ONLINE, UPDATE, Clock
from torch import Tensor, nn

from mmwsss.models.backbones import TokenViT
from mmwsss.models.decode_heads import LargeFOVHead
from mmwsss.models.heads import CAMHead
from mmwsss.models.segmentors import CoSA
from mmwsss.pseudo_labels import FixedThreshold
from mmwsss.refiners import PermutohedralLattice

IGNORE = 255
ABSENT = -1e5
SWAPPED = ('c2s', 's2c', 'energy')


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)


def normalize_maps(maps: Tensor) -> Tensor:
    maps = maps - maps.amin(dim=(2, 3), keepdim=True)
    return maps / (maps.amax(dim=(2, 3), keepdim=True) + 1e-5)


@torch.no_grad()
def multi_scale(
    network: PlainNetwork, images: Tensor, scales: tuple[float, ...], clock: Clock
) -> tuple[Tensor, Tensor, Tensor]:
    """Maps of both classifiers (B, K, H, W) in [0, 1] and summed logits (B, K + 1, H, W) of all scales and flips."""
    count, size = len(images), tuple(images.shape[-2:])
    cams, logits = [], []
    for scale in scales:
        scaled = images if scale == 1 else enlarge(images, tuple(int(scale * side) for side in size))
        with clock.section(ASSIGNMENT):
            outputs = network(torch.cat((scaled, scaled.flip(-1))))
        cam, aux_cam, both = (enlarge(maps, size) for maps in (outputs.cam, outputs.aux_cam, outputs.logits))
        cams.append(F.relu(torch.maximum(cam[:count], cam[count:].flip(-1))))
        # The released procedure makes this one for every scale as well, though only the last is read.
        aux_fused = F.relu(torch.maximum(aux_cam[:count], aux_cam[count:].flip(-1)))
        logits.append(both[:count] + both[count:].flip(-1))
    return normalize_maps(torch.stack(cams).sum(dim=0)), normalize_maps(aux_fused), torch.stack(logits).sum(dim=0)


@torch.no_grad()
def pseudo_masks(cam: Tensor, labels: Tensor, boxes: Tensor, high: float, low: float, down_scale: int) -> Tensor:
    """Mask (B, H, W) of maps (B, K, H, W), image by image and threshold by threshold, with present classes only."""
    size = cam.shape[-2:]
    masks = cam.new_full((len(cam), *size), IGNORE, dtype=torch.long)
    for index, (top, bottom, left, right) in enumerate(boxes.tolist()):
        present = labels[index].nonzero()[:, 0]
        classes = torch.cat((present.new_zeros(1), present + 1))
        decided = []
        for threshold in (high, low):
            maps = torch.cat((cam.new_full((1, *size), threshold), cam[index, present]))[None]
            if down_scale:
                maps = enlarge(maps, tuple(side // down_scale for side in size))
            decided.append(classes[enlarge(maps.softmax(dim=1), size).argmax(dim=1)[0]])
        strict, loose = decided
        mask = strict.clone()
        mask[strict == 0] = IGNORE
        mask[(strict == 0) & (loose == 0)] = 0
        masks[index, top:bottom, left:right] = mask[top:bottom, left:right]
    return masks


@torch.no_grad()
def label_probabilities(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    allowed = torch.cat((torch.ones_like(labels[:, :1]), labels), dim=1)[:, :, None, None]
    return (logits.masked_fill(allowed == 0, ABSENT) / temperature).softmax(dim=1)


def balanced_entropy(logits: Tensor, mask: Tensor, fg_weight: float) -> Tensor:
    entropy = F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction='none')
    background, foreground = (mask == 0).float(), ((mask > 0) & (mask < IGNORE)).float()
    parts = ((entropy * part).sum() / (part.sum() + 1e-6) for part in (background, foreground))
    return sum(share * part for share, part in zip((1 - fg_weight, fg_weight), parts))


class PlainEnergy(torch.autograd.Function):
    """Energy of probabilities (B, C, h, w) of one size with images (B, 3, h, w), gates and boxes (B, 1, h, w)."""

    @staticmethod
    def forward(
        ctx: Any, probabilities: Tensor, images: Tensor, region: Tensor, ignored: Tensor, rgb: float, xy: float
    ) -> Tensor:
        gate = (region - probabilities.amax(dim=1, keepdim=True)).clamp(min=0)
        gate[ignored] = 1
        inside = probabilities * region
        height, width = images.shape[-2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
        place = torch.stack((columns, rows)).to(images).flatten(1) / xy
        filtered = []
        for image, values in zip(images, inside):
            lattice = PermutohedralLattice(torch.cat((place, image.flatten(1) / rgb)).T)
            filtered.append(lattice.filter(values.flatten(1).T).T.reshape(values.shape))
        pull = gate * torch.stack(filtered)
        ctx.save_for_backward(pull, region)
        return -(inside * pull).sum() / len(images)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pull, region = ctx.saved_tensors
        return -2 * grad / len(pull) * pull * region, None, None, None, None, None


def energy_loss(probabilities: Tensor, images: Tensor, mask: Tensor, boxes: Tensor, settings: dict) -> Tensor:
    region = torch.zeros_like(images[:, :1])
    for index, (top, bottom, left, right) in enumerate(boxes.tolist()):
        region[index, :, top:bottom, left:right] = 1
    scale = settings['scale']
    images, region, mask = (
        F.interpolate(each, scale_factor=scale) for each in (images, region, mask[:, None].float())
    )  # fmt: skip
    small = F.interpolate(probabilities, scale_factor=scale, mode='bilinear', align_corners=False)
    return PlainEnergy.apply(
        small, images, region, mask == IGNORE, settings['sigma_rgb'], settings['sigma_xy'] * scale
    )  # fmt: skip


def check_released(model: CoSA) -> None:
    """Raise ValueError where ``model`` is not set up as the released procedure, the only one known here."""
    kinds = dict(backbone=TokenViT, head=CAMHead, aux_head=CAMHead, decode_head=LargeFOVHead)
    for name, kind in kinds.items():
        if not isinstance(part := getattr(model.online, name), kind):
            raise ValueError(
                f'{name} of the model is a {type(part).__name__}; the reference only knows {kind.__name__}'
            )
    known = dict(reliability=None, refiner=None, loss_csc=None, aux_scales='last', aux_seg2cam=0, mix_cams=False)
    known.update(mask_after_softmax=False)
    for name, value in known.items():
        if getattr(model, name) != value:
            raise ValueError(f'{name} of the model is not {value!r}; give the config of a released variant')
    if not all(isinstance(part, FixedThreshold) for part in (model.threshold, model.aux_threshold)):
        raise ValueError('the thresholds of the model are not of type FixedThreshold; give a released variant')
    for name in ('loss_c2s', 'loss_s2c', 'loss_energy'):
        if getattr(model, name) is None:
            raise ValueError(f'{name} of the model is None; give the config of a released variant')
    if model.loss_s2c.version != 'v1':
        raise ValueError(f'loss_s2c of the model is of version {model.loss_s2c.version}; only v1 is known here')


class PlainCoSA:
    """Training steps of the released procedure with the sizes, weights and settings of ``model``.

    Args:
        optimizer: arguments of AdamW.
        head_rate: factor on the rate of both classifiers and the decoder.

    Raises:
        ValueError: ``model`` is not a released variant.
    """

    def __init__(self, model: CoSA, optimizer: dict, head_rate: float, clock: Clock) -> None:
        check_released(model)
        self.settings, self.clock = model, clock
        device = next(model.parameters()).device
        self.online = PlainNetwork(model.online).to(device)
        self.assignment = PlainNetwork(model.assignment).to(device).requires_grad_(False)
        groups = [dict(params=list(part), lr=rate * optimizer['lr']) for part, rate in self._groups(head_rate)]
        self.optimizer = torch.optim.AdamW(groups, **optimizer)

    def _groups(self, head_rate: float) -> Iterator[tuple[list[nn.Parameter], float]]:
        vit = [(name, weight) for name, weight in self.online.backbone.named_parameters() if weight.requires_grad]
        yield [weight for name, weight in vit if '.ln' not in f'.{name}'], 1
        yield [weight for name, weight in vit if '.ln' in f'.{name}'], 1
        yield [*self.online.head.parameters(), *self.online.aux_head.parameters()], head_rate
        yield list(self.online.decode_head.parameters()), head_rate

    def losses(self, weak: Tensor, strong: Tensor, labels: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """Losses before their weights, of normalised views (B, 3, H, W), labels (B, K) and boxes (B, 4)."""
        ours, clock, size = self.settings, self.clock, strong.shape[-2:]
        with clock.section(FUSION):
            cam, aux_cam, logits = multi_scale(self.assignment, weak, ours.scales, clock)
        with clock.section(ONLINE):
            online = self.online(strong)
        losses = dict(
            cls=F.multilabel_soft_margin_loss(online.image_logits, labels),
            cls_aux=F.multilabel_soft_margin_loss(online.aux_image_logits, labels),
        )
        with clock.section(LABELS):
            masks = [
                pseudo_masks(maps * labels[:, :, None, None], labels, boxes, *thresholds, ours.down_scale)
                for maps, thresholds in ((cam, self._thresholds('')), (aux_cam, self._thresholds('aux_')))
            ]
        enlarged = enlarge(online.logits, size)
        parts = [balanced_entropy(enlarged, mask, ours.loss_c2s.fg_weight) for mask in masks]
        losses['c2s'] = (1 - ours.aux_cam2seg) * parts[0] + ours.aux_cam2seg * parts[1]
        with clock.section(ENERGY):
            mean, std = ours.data_preprocessor.mean, ours.data_preprocessor.std
            energy = ours.loss_energy
            losses['energy'] = energy.factor * energy_loss(
                enlarged.softmax(dim=1), strong * std + mean, masks[0], boxes, energy.settings
            )
        with clock.section(LABELS):
            target = label_probabilities(logits, labels, ours.temperature)[:, 1:]
            target = enlarge(target, online.cam.shape[-2:])
        losses['s2c'] = F.binary_cross_entropy_with_logits(F.relu(online.cam), target)
        return losses

    def _thresholds(self, prefix: str) -> tuple[float, float]:
        threshold = getattr(self.settings, f'{prefix}threshold')
        return float(threshold.high), float(threshold.low)

    def step(self, weak: Tensor, strong: Tensor, labels: Tensor, boxes: Tensor, idle: bool) -> dict[str, Tensor]:
        """One iteration, in the warm-up if ``idle``; returns the losses."""
        self.optimizer.zero_grad()
        with self.clock.section(LOSSES):
            losses = self.losses(weak, strong, labels, boxes)
            swapped = sum(getattr(self.settings, f'loss_{name}').loss_weight * losses[name] for name in SWAPPED)
            # The warm-up multiplies by 0 what it does not want.
            total = losses['cls'] + losses['cls_aux'] + (0.0 * swapped if idle else swapped)
        with self.clock.section(BACKWARD):
            total.backward()
        with self.clock.section(UPDATE):
            self.optimizer.step()
            self.move_average()
        return losses

    @torch.no_grad()
    def move_average(self) -> None:
        momentum = self.settings.momentum
        for average, weight in zip(self.assignment.parameters(), self.online.parameters()):
            average.data.mul_(momentum).add_(weight.data, alpha=1 - momentum)
