"""A training step of ViT-PCM written plainly: three forward passes, the geometry image by image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from step_batches import Batch
from step_clock import LOSSES, REFINE, STUDENT, TEACHER
from torch import Tensor, nn

from mmwsss.models.heads import PatchClassHead
from mmwsss.models.losses import ClassifierL2, EquivarianceLoss, MultiLabelClsLoss
from mmwsss.models.necks import HVBiLSTM
from mmwsss.models.poolings import GlobalMaxPooling
from mmwsss.models.segmentors import ViTPCM

from .base import Reference, reads, stretch
from .vit import PlainViT, copy_weights

EPS = 1e-7
TILES = 2


class PlainPatchClassifier(nn.Module):
    """ViT, LSTMs along rows and columns, a linear classifier of patches; parts are named as in :class:`ViTPCM`.

    Raises:
        ValueError: a part of ``like`` is another one.
    """

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        if not isinstance(like.neck, HVBiLSTM) or not isinstance(like.head, PatchClassHead):
            raise ValueError('neck and head are no HVBiLSTM and PatchClassHead; the reference only knows these')
        self.patch = like.backbone.patch_size
        self.backbone = PlainViT(like.backbone)
        self.neck = nn.Module()
        for name in like.neck.names:
            theirs = getattr(like.neck, name)
            self.neck.add_module(name, nn.LSTM(theirs.input_size, theirs.hidden_size, batch_first=True))
        copy_weights(self.neck, like.neck)
        self.drop_neck, self.drop_head = nn.Dropout(like.neck.dropout.p), nn.Dropout(like.head.dropout.p)
        self.head = nn.Module()
        self.head.classifier = nn.Linear(like.head.in_channels, like.num_classes, bias=False)
        copy_weights(self.head, like.head)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Softmax maps (B, C, h, w) and tokens (B, D, h, w) of images (B, 3, H, W)."""
        tokens = self.backbone(images)[-1]
        return self.maps(self.condition(tokens)), tokens

    def maps(self, features: Tensor) -> Tensor:
        logits = self.head.classifier(self.drop_head(features).permute(0, 2, 3, 1))
        return logits.softmax(dim=-1).permute(0, 3, 1, 2)

    def condition(self, tokens: Tensor) -> Tensor:
        """Features (B, 4 h, h, w): what four LSTMs make of the rows and of the columns."""
        x = self.drop_neck(tokens)
        across = self._scan(x.permute(0, 2, 3, 1), self.neck.row_fwd, self.neck.row_bwd)
        down = self._scan(x.permute(0, 3, 2, 1), self.neck.col_fwd, self.neck.col_bwd)
        return torch.cat((across.permute(0, 3, 1, 2), down.permute(0, 3, 2, 1)), dim=1)

    def _scan(self, x: Tensor, forth: nn.LSTM, back: nn.LSTM) -> Tensor:
        batch, lines = x.shape[:2]
        x = x.flatten(0, 1)
        forth_out = forth(self.drop_neck(x))[0]
        back_out = back(self.drop_neck(x).flip(1))[0].flip(1)
        return torch.cat((forth_out, back_out), dim=-1).unflatten(0, (batch, lines))


class PlainViTPCM(Reference):
    """The official step: a training pass and an inference pass of view 1, a training pass of the mosaics of view 2."""

    def build(self, model: ViTPCM) -> nn.Module:
        if type(model) is not ViTPCM:
            raise ValueError(f'the model is {type(model).__name__}, not ViTPCM')
        reads(model, teacher='eval', consistency=None, mosaic=TILES)
        kinds = dict(loss_mce=MultiLabelClsLoss, loss_reg=ClassifierL2, loss_et=EquivarianceLoss)
        for name, kind in kinds.items():
            if not isinstance(getattr(model, name), kind):
                raise ValueError(f'{name} of the model is no {kind.__name__}; the reference only knows that one')
        if not isinstance(model.head.pooling, GlobalMaxPooling):
            raise ValueError('the pooling is no GlobalMaxPooling; the reference only knows that one')
        return PlainPatchClassifier(model)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of both views."""
        net, first, second = self.network, batch.views['view_1'], batch.views['view_2']
        labels = F.pad(batch.labels, (1, 0), value=1.0)
        with self.clock.section(STUDENT):
            maps, _ = net(first)
        with self.clock.section(TEACHER), torch.no_grad():
            net.eval()
            taught, _ = net(first)
            net.train()
        with self.clock.section(STUDENT):
            tiles = cut(net(mosaic(second))[0])
        with self.clock.section(REFINE), torch.no_grad():
            target = torch.stack([self._target(*each, net.patch) for each in zip(taught, *batch.records, labels)])
        with self.clock.section(LOSSES):
            scores = maps.amax(dim=(2, 3)).clamp(EPS, 1 - EPS)
            entropy = labels * torch.log(scores + EPS) + (1 - labels) * torch.log(1 - scores + EPS)
            student = (tiles / tiles.sum(dim=1, keepdim=True)).clamp(EPS, 1 - EPS)
            weight = net.head.classifier.weight
            return dict(
                loss_mce=-entropy.mean(),
                loss_reg=self.settings.loss_reg.factor * (weight**2).sum(),
                loss_et=-(target * torch.log(student)).sum(dim=1).mean(),
            )

    @staticmethod
    def _target(maps: Tensor, first: Tensor, second: Tensor, labels: Tensor, patch: int) -> Tensor:
        """Soft target (C, h, w) of one image: its maps of view 1 turned back, then moved as view 2 was."""
        maps = flip(maps, reversed(first[:3].tolist()), reverse=True)
        top, left, bottom, right, height, width = (int(number) // patch for number in second[3:].tolist())
        if bottom > top:
            maps = maps[:, top:bottom, left:right]
        if height:
            maps = stretch(maps[None], (height, width))[0]
        maps = flip(maps, second[:3].tolist()) * labels[:, None, None]
        maps = torch.nan_to_num(maps / maps.amax(dim=(1, 2), keepdim=True))
        return torch.nan_to_num(maps / maps.sum(dim=0, keepdim=True))


def flip(maps: Tensor, steps: object, reverse: bool = False) -> Tensor:
    """Mirror and transpose ``maps`` (C, h, w) where ``steps`` say so: left-right, up-down, transpose, or back."""
    moves = [lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2)]
    for wanted, move in zip(steps, reversed(moves) if reverse else moves):
        if wanted:
            maps = move(maps)
    return maps


def mosaic(views: Tensor) -> Tensor:
    """Four views (B, 3, h, w) at a time side by side, (B / 4, 3, 2 h, 2 w)."""
    images = []
    for start in range(0, len(views), TILES**2):
        rows = [torch.cat(list(views[start + TILES * row :][:TILES]), dim=-1) for row in range(TILES)]
        images.append(torch.cat(rows, dim=-2))
    return torch.stack(images)


def cut(maps: Tensor) -> Tensor:
    """The maps (B, C, h, w) of the views in mosaics (B / 4, C, 2 h, 2 w)."""
    tiles = [
        part for image in maps for row in image.chunk(TILES, dim=-2) for part in row.chunk(TILES, dim=-1)
    ]  # fmt: skip
    return torch.stack(tiles)
