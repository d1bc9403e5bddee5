"""Contrast between the features of pixels with different pseudo labels.

As described in the paper of CoSA; not part of the released code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmwsss.registry import MODELS

from .directions import unit_directions

SMALLEST_NORM = 1e-6  # keeps the gradient of features that are all zero moderate


def separation_loss(
    features: Tensor, mask: Tensor, reliable: Tensor, temperature: float = 0.1, ignore_index: int = 255
) -> Tensor:
    """InfoNCE between the pixels of each image that pulls equal labels together and different ones apart (CoSA, L_csc).

    With the cosine similarity s over ``temperature``, an anchor i costs the mean over its positives p of
    -log(exp(s_ip) / sum of exp(s_ij) over its positives and negatives j): the logarithm is inside the mean, as in
    supervised contrastive learning (Khosla et al., NeurIPS 2020, L_out). Anchors are reliable pixels, their positives
    the other reliable pixels of the same label, their negatives all pixels of another label. The loss is averaged over
    the anchors of the batch that have both. As described in the paper; not part of the released code. The paper's exact
    form was not available, so this one is our choice.

    Args:
        features: (B, D, h, w); the memory grows with (h * w)^2.
        mask: (B, h, w) int64 pseudo mask at the size of the features.
        reliable: (B, h, w) bool or 0/1.
        temperature: divides the similarities.
        ignore_index: value in ``mask`` of pixels that are neither anchors nor positives nor negatives.

    Returns:
        scalar; 0, with a graph, where no pixel is such an anchor.
    """
    labels, known = mask.flatten(1), (mask != ignore_index).flatten(1)
    anchors = known & (reliable.flatten(1) > 0)
    equal = labels[:, :, None] == labels[:, None]
    itself = torch.eye(labels.shape[1], dtype=torch.bool, device=labels.device)
    positive = anchors[:, :, None] & anchors[:, None] & equal & ~itself
    negative = anchors[:, :, None] & known[:, None] & ~equal

    with torch.autocast(features.device.type, enabled=False):  # the product would be rounded to half precision
        directions = unit_directions(features, SMALLEST_NORM)
        similarity = directions.transpose(1, 2) @ directions / temperature
    # Not -inf: a row without any pair would have a gradient of nan.
    others = similarity.masked_fill(~(positive | negative), torch.finfo(similarity.dtype).min)
    count = positive.sum(dim=2)
    pull = (similarity * positive).sum(dim=2) / count.clamp(min=1)
    cost = torch.logsumexp(others, dim=2) - pull
    chosen = (count > 0) & negative.any(dim=2)
    return torch.where(chosen, cost, 0).sum() / chosen.sum().clamp(min=1)


@MODELS.register_module()
class SeparationLoss(nn.Module):
    """Contrast between pixels with reliable pseudo labels; see :func:`separation_loss`.

    As described in the paper; not part of the released code.

    Args:
        temperature: divides the similarities.
        epsilon: pixels whose perplexity is below are reliable. The default means confidences at least 0.41 of the way
            from the threshold to 0 or 1 when the perplexity has its defaults.
        ignore_index: value of ignored pixels.
        loss_weight: weight of the loss.
    """

    def __init__(
        self, temperature: float = 0.1, epsilon: float = 1.0, ignore_index: int = 255, loss_weight: float = 0.1
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.epsilon = epsilon
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight

    def forward(self, features: Tensor, mask: Tensor, perplexity: Tensor) -> Tensor:
        """Loss of ``features`` (B, D, h, w) with ``mask`` and ``perplexity`` (B, h, w), all at one size."""
        reliable = perplexity < self.epsilon
        return self.loss_weight * separation_loss(features, mask, reliable, self.temperature, self.ignore_index)
