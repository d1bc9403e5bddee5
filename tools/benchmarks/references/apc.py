"""A training step of APC written plainly.

There is no official code; this is what our reading of the paper says, term by term: sorting and counting class by
class, matrices of all pairs of patches, pseudo masks image by image, a refinement that copies the maps for every
neighbour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from refiner_references import reference_par
from step_batches import Batch
from step_clock import LOSSES, REFINE, STUDENT, TEACHER
from torch import Tensor, nn

from mmwsss.models.decode_heads import LargeFOVHead
from mmwsss.models.poolings import AdaptiveKPooling
from mmwsss.models.segmentors import APC
from mmwsss.refiners import PAR

from .base import Reference, enlarge, reads
from .decoder import PlainLargeFOV
from .vitpcm import EPS, PlainPatchClassifier

IGNORE = 255


class PlainAPCNetwork(PlainPatchClassifier):
    """The patch classifier with a decoder on its tokens."""

    def __init__(self, like: APC) -> None:
        super().__init__(like)
        self.decode_head = PlainLargeFOV(like.decode_head)


class PlainAPC(Reference):
    """Adaptive pooling, patch contrast and a decoder that learns from refined maps."""

    def build(self, model: APC) -> nn.Module:
        if not isinstance(model, APC) or not isinstance(model.decode_head, LargeFOVHead) or model.loss_pce is None:
            raise ValueError('the model is no APC with contrast and LargeFOVHead; the reference only knows that one')
        reads(model, embedding='neck', loss_et=None, loss_reg=None, consistency=None, teacher='eval')
        if not isinstance(model.head.pooling, AdaptiveKPooling) or model.head.pooling.settings['rule'] != 'ratio':
            raise ValueError("the pooling is no AdaptiveKPooling of rule 'ratio'; the reference only knows that one")
        self.par = next(step.refiner for step in model.online_labeler.steps if hasattr(step, 'refiner'))
        if type(self.par) is not PAR:
            raise ValueError('the refiner of the online masks is no PAR; the reference only knows that one')
        return PlainAPCNetwork(model)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses after the warm-up."""
        net, ours, images = self.network, self.settings, batch.views['view_1']
        labels = F.pad(batch.labels, (1, 0), value=1.0)
        with self.clock.section(STUDENT):
            tokens = net.backbone(images)[-1]
            features = net.condition(tokens)
            maps = net.maps(features)
            logits = net.decode_head(tokens)
        with self.clock.section(TEACHER), torch.no_grad():
            taught = self.taught_maps(images, tokens)
        with self.clock.section(REFINE), torch.no_grad():
            masks = torch.stack([self.mask(*each) for each in zip(taught, images, labels, batch.boxes.tolist())])
        with self.clock.section(LOSSES):
            scores = self.pooled(maps).clamp(EPS, 1 - EPS)
            entropy = labels * torch.log(scores) + (1 - labels) * torch.log(1 - scores)
            contrast = torch.stack([self.contrast(*each) for each in zip(features, maps, labels)]).mean()
            return dict(
                loss_mce=-entropy.mean(),
                loss_pce=ours.loss_pce.loss_weight * contrast,
                loss_seg=ours.loss_seg.loss_weight * self.segmentation(enlarge(logits, images.shape[-2:]), masks),
            )

    def taught_maps(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Maps without dropout; a backbone without any is not run again, as that is ours to choose."""
        net = self.network
        net.eval()
        plain = self.settings.backbone.is_deterministic
        maps = net.maps(net.condition(tokens.detach())) if plain else net(images)[0]
        net.train()
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """Image scores (B, C): for every image and class the mean of its K best patches."""
        settings = self.settings.head.pooling.settings
        scores = []
        for image in maps.flatten(2):
            means = []
            for patches in image:
                ranked = patches.sort(descending=True).values
                enough = int((ranked >= settings['tau'] * ranked[0]).sum())
                count = min(max(enough, settings['kmin']), settings['kmax'])
                means.append(ranked[:count].mean())
            scores.append(torch.stack(means))
        return torch.stack(scores)

    def contrast(self, features: Tensor, maps: Tensor, labels: Tensor) -> Tensor:
        """Patch contrast of one image from the similarity of all pairs of its patches, present class by class."""
        high, low = self.settings.loss_pce.high, self.settings.loss_pce.low
        directions = F.normalize(features.flatten(1), dim=0, eps=1e-8)
        similarity = (1 + directions.T @ directions) / 2
        scores, errors = maps.detach().flatten(1), []
        for index in labels.nonzero()[:, 0].tolist():
            confident = (scores[index] > high).nonzero()[:, 0]
            other = (scores[index] < low).nonzero()[:, 0]
            alike, unlike = similarity[confident][:, confident], similarity[confident][:, other]
            pairs = torch.triu(torch.ones_like(alike), diagonal=1) > 0
            error = 0.0 * similarity[0, 0]
            if pairs.any():
                error = error + (1 - alike[pairs]).mean()
            if unlike.numel():
                error = error + unlike.mean()
            errors.append(error)
        return torch.stack(errors).mean()

    def mask(self, maps: Tensor, image: Tensor, labels: Tensor, box: list[int]) -> Tensor:
        """Pseudo mask (H, W) of one image: maps of its classes, enlarged, refined by its colours."""
        size = tuple(image.shape[-2:])
        classes = labels.nonzero()[:, 0]
        own = maps[classes]
        own = enlarge((own / own.sum(dim=0, keepdim=True))[None], size)
        settings = self.settings.data_preprocessor
        colours = (image * settings.std + settings.mean).to(torch.uint8).float()
        refined = reference_par(colours[None], own, self.par.settings['dilations'], self.par.iterations)[0]
        mask = torch.full(size, IGNORE, device=maps.device)
        top, bottom, left, right = box
        mask[top:bottom, left:right] = classes[refined.argmax(dim=0)][top:bottom, left:right]
        return mask

    def segmentation(self, logits: Tensor, masks: Tensor) -> Tensor:
        entropy = F.cross_entropy(logits, masks, ignore_index=IGNORE, reduction='none')
        background, foreground = (masks == 0).float(), ((masks > 0) & (masks < IGNORE)).float()
        parts = ((entropy * part).sum() / (part.sum() + 1e-6) for part in (background, foreground))
        return 0.5 * sum(parts)
