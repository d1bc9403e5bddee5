"""One stream of CoSA: a ViT with a classifier on intermediate and on final tokens and a segmentation head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mmengine.model import BaseModule
from torch import Tensor

from mmwsss.registry import MODELS


class StreamOutputs(NamedTuple):
    """What one network makes of images (B, 3, H, W); h, w count its patches.

    Args:
        image_logits, aux_image_logits: (B, K) of the final and of the intermediate tokens.
        cam, aux_cam: (B, K, h, w) activations of the same classifiers, before ReLU.
        features: (B, D, h, w) final patch features.
        logits: (B, K + 1, h, w) of the segmentation head; None where it was not asked for.
        attention: of the layers that were asked for, see :class:`~mmwsss.models.backbones.token_vit.Encoding`.
    """

    image_logits: Tensor
    aux_image_logits: Tensor
    cam: Tensor
    aux_cam: Tensor
    features: Tensor
    logits: Tensor | None
    attention: Sequence[Tensor] = ()


class CoSANetwork(BaseModule):
    """ViT with a classifier on intermediate and on final tokens and a segmentation head; one stream of CoSA.

    Args:
        backbone: its first output feeds ``aux_head``, its last one ``head`` and ``decode_head``.
    """

    def __init__(self, backbone: dict, head: dict, aux_head: dict, decode_head: dict) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build(head)
        self.aux_head = MODELS.build(aux_head)
        self.decode_head = MODELS.build(decode_head)

    def forward(self, images: Tensor, decode: bool = True, attention_layers: Sequence[int] | str = ()) -> StreamOutputs:
        """Outputs for ``images`` (B, 3, H, W); ``decode=False`` leaves out the segmentation."""
        attention = ()
        if attention_layers:
            encoded = self.backbone.encode(images, attention_layers)
            features, attention = encoded.features, encoded.attention
        else:
            features = self.backbone(images)
        intermediate, final = features[0], features[-1]
        return StreamOutputs(
            image_logits=self.head.image_logits(final),
            aux_image_logits=self.aux_head.image_logits(intermediate),
            cam=self.head(final),
            aux_cam=self.aux_head(intermediate),
            features=final,
            logits=self.decode_head(features) if decode else None,
            attention=attention,
        )
