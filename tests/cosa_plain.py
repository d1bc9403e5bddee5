"""The losses of CoSA computed plainly: one image after the other, all classes, everything at full size."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from cosa_cases import GRID, SIZE
from torch import Tensor

from mmwsss.models.losses.dense_energy import boxes_to_regions, dense_energy_loss

half_pixel = partial(F.interpolate, mode='bilinear', align_corners=False)


def unit(maps: Tensor) -> Tensor:
    maps = maps - maps.amin((2, 3), keepdim=True)
    return maps / (maps.amax((2, 3), keepdim=True) + 1e-5)


def plain_mask(maps: Tensor, labels: Tensor, threshold, down_scale: int, box) -> Tensor:
    """One image after the other: maps (B, K, H, W), thresholds of config ``threshold``."""
    masks = []
    for own, row, (top, bottom, left, right) in zip(maps, labels, box):
        classes = [0, *(row.nonzero()[:, 0] + 1).tolist()]
        found = []
        for level in (float(threshold.high), float(threshold.low)):
            scores = torch.cat((torch.full_like(own[:1], level), own[row > 0]))[None]
            if down_scale:
                scores = half_pixel(scores, (SIZE // down_scale, SIZE // down_scale))
            best = half_pixel(scores.softmax(1), (SIZE, SIZE)).argmax(1)[0]
            found.append(torch.tensor(classes)[best])
        high, low = found
        mask = torch.where(high > 0, high, torch.where(low > 0, 255, 0))
        outside = torch.ones_like(mask, dtype=torch.bool)
        outside[top:bottom, left:right] = False
        masks.append(mask.masked_fill(outside, 255))
    return torch.stack(masks)


def plain_balanced(logits: Tensor, mask: Tensor) -> Tensor:
    entropy = F.cross_entropy(logits, mask, ignore_index=255, reduction='none')
    parts = (mask == 0), (mask > 0) & (mask < 255)
    return sum(0.5 * entropy[part].sum() / (part.sum() + 1e-6) for part in parts)


def plain_losses(model, views, labels, boxes=None) -> dict[str, Tensor]:
    """All three losses without their weights as the released code states them, over all classes at full size."""
    weak, strong = views['view_1'], views['view_2']
    labels = torch.tensor(labels).float()
    boxes = boxes or [(0, SIZE, 0, SIZE)] * len(labels)
    cams, aux_cams, logits = [], [], 0
    for scale in model.scales:
        image = half_pixel(weak, (int(scale * SIZE), int(scale * SIZE)))
        one, other = model.assignment(image), model.assignment(image.flip(-1))  # without gradients
        for maps, name in ((cams, 'cam'), (aux_cams, 'aux_cam')):
            both = [half_pixel(m, (SIZE, SIZE)) for m in (getattr(one, name), getattr(other, name).flip(-1))]
            maps.append(torch.maximum(*both).relu())
        logits = logits + half_pixel(one.logits, (SIZE, SIZE)) + half_pixel(other.logits.flip(-1), (SIZE, SIZE))
    cam, aux_cam = unit(sum(cams)), unit(aux_cams[-1] if model.aux_scales == 'last' else sum(aux_cams))
    if model.mix_cams:
        cam = (cam + aux_cam) / 2
    masks = [
        plain_mask(maps * labels[:, :, None, None], labels, threshold, model.down_scale, boxes)
        for maps, threshold in ((cam, model.threshold), (aux_cam, model.aux_threshold))
    ]
    online = model.online(strong)
    up = half_pixel(online.logits, (SIZE, SIZE))
    share = model.aux_cam2seg
    c2s = (1 - share) * plain_balanced(up, masks[0]) + share * plain_balanced(up, masks[1])
    allowed = torch.cat((torch.ones(len(labels), 1), labels), 1)[:, :, None, None]
    if model.mask_after_softmax:
        target = (logits / model.temperature).softmax(1) * allowed
    else:
        target = (torch.where(allowed > 0, logits, -1e5) / model.temperature).softmax(1)
    target = half_pixel(target[:, 1:], (GRID, GRID))
    s2c, aux_s2c = (
        F.binary_cross_entropy_with_logits(m.relu(), target) for m in (online.cam, online.aux_cam)
    )  # fmt: skip
    pixels = strong * 60 + 120
    regions = boxes_to_regions(torch.tensor(boxes), (SIZE, SIZE))
    energy = 1e-3 * dense_energy_loss(up.softmax(1), pixels, masks[0], regions)
    share = model.aux_seg2cam
    return dict(c2s=c2s, energy=energy, s2c=(1 - share) * s2c + share * aux_s2c)
