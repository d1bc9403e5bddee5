"""Training steps of PMM's first stage written plainly: SEAM, and the affinity network of its release."""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from step_batches import Batch
from step_clock import LOSSES, STUDENT
from torch import Tensor, nn

from mmwsss.models.backbones import TokenViT
from mmwsss.models.heads import SEAMHead
from mmwsss.models.losses import EquivariantRegularization, MinPoolingLoss
from mmwsss.models.segmentors import SEAM, AffinityNetwork
from mmwsss.refiners.affinity import fitted_radius, pair_indices

from .base import Reference, enlarge, stretch
from .vit import PlainViT, copy_weights

EPS = 1e-5


def plain_backbone(like: nn.Module) -> nn.Module:
    """The ViT written plainly; convolutional networks are the same on both sides."""
    return PlainViT(like) if isinstance(like, TokenViT) else deepcopy(like)


def plain_convolutions(like: nn.Module) -> nn.Module:
    """The 1x1 convolutions of a head, by their names."""
    head = nn.Module()
    for name, part in like.named_children():
        if isinstance(part, nn.Conv2d):
            head.add_module(name, nn.Conv2d(part.in_channels, part.out_channels, 1, bias=False))
    copy_weights(head, like)
    return head


class PlainSEAMNetwork(nn.Module):
    """Backbone, maps and their refinement; parts are named as in :class:`SEAM`."""

    def __init__(self, like: SEAM) -> None:
        super().__init__()
        self.backbone = plain_backbone(like.backbone)
        self.head = plain_convolutions(like.head)
        self.drop = nn.Dropout2d(like.head.dropout.p)
        self.in_index = like.in_index

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and refined maps (B, C, H, W) of images (B, 3, H, W)."""
        features = self.backbone(images)
        first, second, last = (features[i] for i in self.in_index)
        cam = self.head.fc8(self.drop(last))
        refined = self.correlate(images, first.detach(), second.detach(), normalize(cam))
        return tuple(stretch(maps, tuple(images.shape[-2:])) for maps in (cam, refined))

    def correlate(self, images: Tensor, first: Tensor, second: Tensor, maps: Tensor) -> Tensor:
        """Maps (B, C, h, w) spread by the similarity of all pairs of pixels."""
        size = tuple(second.shape[-2:])
        taps = F.relu(self.head.f8_3(first)), F.relu(self.head.f8_4(second))
        features = self.head.f9(torch.cat([stretch(part, size) for part in (images, *taps)], dim=1)).flatten(2)
        features = features / (torch.norm(features, dim=1, keepdim=True) + EPS)
        similarity = F.relu(torch.matmul(features.transpose(1, 2), features))
        similarity = similarity / (similarity.sum(dim=1, keepdim=True) + EPS)
        return torch.matmul(maps.flatten(2), similarity).view_as(maps)


@torch.no_grad()
def normalize(cam: Tensor) -> Tensor:
    """Maps (B, C, h, w) by their peaks, the background from the best of them, only the best left in each pixel."""
    maps = F.relu(cam)
    peaks = maps.flatten(2).max(dim=-1).values[:, :, None, None] + EPS
    maps = F.relu(maps - EPS) / peaks
    maps[:, 0] = 1 - maps[:, 1:].max(dim=1).values
    return only_best(maps)


def only_best(maps: Tensor) -> Tensor:
    """``maps`` (B, C, h, w) with 0 for every foreground class that is not the best of its pixel."""
    maps = maps.detach().clone()
    best = maps[:, 1:].max(dim=1, keepdim=True).values
    maps[:, 1:][maps[:, 1:] != best] = 0
    return maps


def min_max(maps: Tensor) -> Tensor:
    """Maps (B, C, h, w) rectified and brought to [0, 1], channel by channel."""
    maps = F.relu(maps)
    flat = maps.flatten(2)
    low, high = flat.min(dim=-1).values[:, :, None, None], flat.max(dim=-1).values[:, :, None, None]
    return F.relu(maps - low - EPS) / (high - low + EPS)


class PlainSEAM(Reference):
    """Both views one after the other, then all losses on maps of all classes."""

    def build(self, model: SEAM) -> nn.Module:
        kinds = dict(head=SEAMHead, loss_equivariance=EquivariantRegularization, loss_min_pool=MinPoolingLoss)
        fits = isinstance(model, SEAM) and all(isinstance(getattr(model, name), kind) for name, kind in kinds.items())
        if not fits or model.second_scale is None:
            raise ValueError('the model is no SEAM with its head and all losses; the reference only knows that one')
        return PlainSEAMNetwork(model)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of an image and of the same image at another scale."""
        images, ours = batch.views['view_1'], self.settings
        labels = F.pad(batch.labels, (1, 0), value=1.0)[:, :, None, None]
        with self.clock.section(STUDENT):
            cam_1, refined_1 = self.network(images)
            small = F.interpolate(images, scale_factor=ours.second_scale, mode='bilinear', align_corners=True)
            cam_2, refined_2 = self.network(small)
        with self.clock.section(LOSSES):
            scores = [F.adaptive_avg_pool2d(cam, 1).flatten(1)[:, 1:] for cam in (cam_1, cam_2)]
            cls = sum(F.multilabel_soft_margin_loss(score, batch.labels) for score in scores) / 2
            low = sum(self.min_pool((maps * labels)[:, 1:]) for maps in (refined_1, refined_2)) / 2
            size = tuple(small.shape[-2:])
            cam_1, refined_1 = (stretch(min_max(maps), size) * labels for maps in (cam_1, refined_1))
            cam_2, refined_2 = (min_max(maps) * labels for maps in (cam_2, refined_2))
            equal = (cam_1[:, 1:] - cam_2[:, 1:]).abs().mean()
            cross = self.cross(cam_2, refined_1) + self.cross(cam_1, refined_2)
            weights = ours.loss_equivariance
            losses = dict(
                loss_cls=ours.loss_cls.loss_weight * cls,
                loss_min=ours.loss_min_pool.loss_weight * low,
                loss_er=weights.er_weight * equal,
                loss_ecr=weights.ecr_weight * cross,
            )
            if torch.isnan(sum(losses.values())):
                raise RuntimeError('the loss of the reference is not a number')
            return losses

    def min_pool(self, maps: Tensor) -> Tensor:
        flat = maps.max(dim=1).values.flatten(1)
        count = flat.shape[1] // self.settings.loss_min_pool.share
        lowest = torch.topk(flat, count, dim=-1, largest=False).values
        return F.relu(lowest).sum() / (count * len(flat))

    def cross(self, cam: Tensor, refined: Tensor) -> Tensor:
        """Mean of the largest differences of the exclusive maps of one view and the refined maps of the other."""
        target = cam.detach().clone()
        target[:, 0] = 1 - target[:, 1:].max(dim=1).values
        errors = (only_best(target) - refined).abs().flatten(1)
        count = int(errors.shape[1] * self.settings.loss_equivariance.hard_share)
        return torch.topk(errors, count, dim=-1).values.mean()


class PlainAffinityNetwork(nn.Module):
    """Backbone and joined features; parts are named as in :class:`AffinityNetwork`."""

    def __init__(self, like: AffinityNetwork) -> None:
        super().__init__()
        self.backbone = plain_backbone(like.backbone)
        self.head = plain_convolutions(like.head)
        self.in_index, self.scale = like.in_index, like.scale

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D, h, w)."""
        if self.scale != 1:
            images = F.interpolate(images, scale_factor=self.scale, mode='bilinear', align_corners=False)
        features = self.backbone(images)
        taken = [features[i] for i in self.in_index]
        size = tuple(taken[-1].shape[-2:])
        taps = [F.elu(getattr(self.head, f'f8_{3 + i}')(feature)) for i, feature in enumerate(taken)]
        return F.elu(self.head.f9(torch.cat([enlarge(tap, size) for tap in taps], dim=1)))


class PlainAffinity(Reference):
    """The affinity step of PSA: features of both cells of all pairs, gathered by index."""

    def build(self, model: AffinityNetwork) -> nn.Module:
        if not isinstance(model, AffinityNetwork):
            raise ValueError(f'the model is {type(model).__name__}, not AffinityNetwork')
        return PlainAffinityNetwork(model)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of all pairs of cells."""
        with self.clock.section(STUDENT):
            features = self.network(batch.views['view_1'])
        with self.clock.section(LOSSES):
            size = tuple(features.shape[-2:])
            first, partners = pair_indices(fitted_radius(self.settings.radius, size), size)
            first, partners = first.to(features.device), partners.to(features.device)
            flat = features.flatten(2)
            here = torch.index_select(flat, 2, first)[:, :, None]
            there = torch.index_select(flat, 2, partners.flatten()).view(*flat.shape[:2], *partners.shape)
            affinity = torch.exp(-(there - here).abs().mean(dim=1))
            loss = self.settings.loss_affinity
            return dict(loss_affinity=loss.loss_weight * self.pairs(affinity, batch.cells, first, partners, loss.eps))

    @staticmethod
    def pairs(affinity: Tensor, cells: Tensor, first: Tensor, partners: Tensor, eps: float) -> Tensor:
        """Balanced entropy of the affinities (B, P, M) of labelled pairs."""
        flat = cells.flatten(1)
        one, other = flat[:, first][:, None], flat[:, partners.flatten()].view(len(flat), *partners.shape)
        known = (one != 255) & (other != 255)
        background = (known & (one == other) & (one == 0)).float()
        foreground = (known & (one == other) & (one != 0)).float()
        different = (known & (one != other)).float()
        alike, unlike = -torch.log(affinity + eps), -torch.log(1 + eps - affinity)
        return (
            (background * alike).sum() / (background.sum() + eps) / 4
            + (foreground * alike).sum() / (foreground.sum() + eps) / 4
            + (different * unlike).sum() / (different.sum() + eps) / 2
        )
