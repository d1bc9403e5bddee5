"""A training step of CoSA written plainly, as the released procedure does it, step by step.

It computes what that procedure computes, with the usual operations of torch and no detours: every output of every view
at full size and for all classes, a loop over images and thresholds for the pseudo masks, and in the warm-up all losses,
multiplied by 0. The filter of the energy loss is compiled code there too, so both sides share ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from step_batches import Batch
from step_clock import REFINE, STUDENT, TEACHER
from torch import Tensor, nn

from mmwsss.models.decode_heads import LargeFOVHead
from mmwsss.models.heads import CAMHead
from mmwsss.models.segmentors import CoSA
from mmwsss.pseudo_labels import FixedThreshold
from mmwsss.refiners import PermutohedralLattice

from .base import Reference, enlarge, reads
from .decoder import PlainLargeFOV
from .vit import PlainViT, copy_weights

IGNORE = 255
ABSENT = -1e5


class PlainOutputs(NamedTuple):
    """Image logits (B, K), maps (B, K, h, w) and segmentation logits (B, K + 1, h, w) of one network."""

    image_logits: Tensor
    aux_image_logits: Tensor
    cam: Tensor
    aux_cam: Tensor
    logits: Tensor


class PlainNetwork(nn.Module):
    """ViT, two classifiers and LargeFOV; parts are named as in :class:`CoSANetwork`, so that its weights load.

    Raises:
        ValueError: a part of ``like`` is another one.
    """

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        for name, kind in dict(head=CAMHead, aux_head=CAMHead, decode_head=LargeFOVHead).items():
            if not isinstance(part := getattr(like, name), kind):
                raise ValueError(f'{name} is a {type(part).__name__}; the reference only knows {kind.__name__}')
        self.backbone = PlainViT(like.backbone)
        for name in ('head', 'aux_head'):
            head = nn.Module()
            head.classifier = nn.Conv2d(like.head.in_channels, like.head.num_classes - 1, 1, bias=False)
            copy_weights(head, getattr(like, name))
            self.add_module(name, head)
        self.decode_head = PlainLargeFOV(like.decode_head)

    def forward(self, images: Tensor) -> PlainOutputs:
        aux, final = self.backbone(images)
        return PlainOutputs(
            self.head.classifier(F.adaptive_max_pool2d(final, 1)).flatten(1),
            self.aux_head.classifier(F.adaptive_max_pool2d(aux, 1)).flatten(1),
            F.conv2d(final, self.head.classifier.weight),
            F.conv2d(aux, self.aux_head.classifier.weight),
            self.decode_head(final),
        )


def normalize_maps(maps: Tensor) -> Tensor:
    maps = maps - maps.amin(dim=(2, 3), keepdim=True)
    return maps / (maps.amax(dim=(2, 3), keepdim=True) + 1e-5)


@torch.no_grad()
def multi_scale(network: PlainNetwork, images: Tensor, scales: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Maps of both classifiers (B, K, H, W) in [0, 1] and summed logits (B, K + 1, H, W) of all scales and flips."""
    count, size = len(images), tuple(images.shape[-2:])
    cams, logits = [], []
    for scale in scales:
        scaled = images if scale == 1 else enlarge(images, tuple(int(scale * side) for side in size))
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


KNOWN = dict(
    reliability=None, refiner=None, loss_csc=None, loss_pce=None, consistency=None, aux_scales='last', aux_seg2cam=0,
    mix_cams=False, mask_after_softmax=False,
)  # fmt: skip


def check_released(model: CoSA) -> None:
    """Raise ValueError where ``model`` is not set up as the released procedure, the only one known here."""
    if not isinstance(model, CoSA):
        raise ValueError(f'the model of the config is {type(model).__name__}, not CoSA')
    reads(model, **KNOWN)
    if not all(isinstance(part, FixedThreshold) for part in (model.threshold, model.aux_threshold)):
        raise ValueError('the thresholds of the model are not of type FixedThreshold; give a released variant')
    for name in ('loss_c2s', 'loss_s2c', 'loss_energy'):
        if getattr(model, name) is None:
            raise ValueError(f'{name} of the model is None; give the config of a released variant')
    reads(model.loss_s2c, version='v1')


class PlainCoSA(Reference):
    """Training steps of the released procedure.

    Its parts are named ``online`` and ``assignment`` as in :class:`CoSA`.
    """

    def build(self, model: CoSA) -> nn.Module:
        check_released(model)
        network = nn.Module()
        network.online = PlainNetwork(model.online)
        network.assignment = PlainNetwork(model.assignment).requires_grad_(False)
        return network

    @property
    def idle(self) -> bool:
        """Whether this is a step of the warm-up."""
        return self.settings.iteration <= self.settings.warmup_iters

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted losses; the warm-up computes all of them and multiplies by 0 what it does not want."""
        found = self.unweighted(batch.views['view_1'], batch.views['view_2'], batch.labels, batch.boxes)
        losses = dict(loss_cls=found.pop('cls'), loss_cls_aux=found.pop('cls_aux'))
        for name, value in found.items():
            weighted = getattr(self.settings, f'loss_{name}').loss_weight * value
            losses[f'loss_{name}'] = 0.0 * weighted if self.idle else weighted
        return losses

    def unweighted(self, weak: Tensor, strong: Tensor, labels: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """Losses of normalised views (B, 3, H, W), labels (B, K) and boxes (B, 4)."""
        ours, clock, size = self.settings, self.clock, strong.shape[-2:]
        with clock.section(TEACHER):
            cam, aux_cam, logits = multi_scale(self.network.assignment, weak, ours.scales)
        with clock.section(STUDENT):
            online = self.network.online(strong)
        losses = dict(
            cls=F.multilabel_soft_margin_loss(online.image_logits, labels),
            cls_aux=F.multilabel_soft_margin_loss(online.aux_image_logits, labels),
        )
        with clock.section(REFINE):
            masks = [
                pseudo_masks(maps * labels[:, :, None, None], labels, boxes, *thresholds, ours.down_scale)
                for maps, thresholds in ((cam, self._thresholds('')), (aux_cam, self._thresholds('aux_')))
            ]
        enlarged = enlarge(online.logits, size)
        parts = [balanced_entropy(enlarged, mask, ours.loss_c2s.fg_weight) for mask in masks]
        losses['c2s'] = (1 - ours.aux_cam2seg) * parts[0] + ours.aux_cam2seg * parts[1]
        mean, std = ours.data_preprocessor.mean, ours.data_preprocessor.std
        energy = ours.loss_energy
        losses['energy'] = energy.factor * energy_loss(
            enlarged.softmax(dim=1), strong * std + mean, masks[0], boxes, energy.settings
        )
        with clock.section(REFINE):
            target = label_probabilities(logits, labels, ours.temperature)[:, 1:]
            target = enlarge(target, online.cam.shape[-2:])
        losses['s2c'] = F.binary_cross_entropy_with_logits(F.relu(online.cam), target)
        return losses

    def _thresholds(self, prefix: str) -> tuple[float, float]:
        threshold = getattr(self.settings, f'{prefix}threshold')
        return float(threshold.high), float(threshold.low)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the assignment network."""
        momentum = self.settings.momentum
        for average, weight in zip(self.network.assignment.parameters(), self.network.online.parameters()):
            average.data.mul_(momentum).add_(weight.data, alpha=1 - momentum)
