"""Segmentors of one network with one head."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from mmwsss.registry import MODELS

from .weak_segmentor import WeakSegmentor, first_view, refuse_pretrained


class SingleNetworkSegmentor(WeakSegmentor):
    """Backbone, neck and head; a method implements ``loss``, :meth:`localize` and ``pseudo_maps``.

    Args:
        backbone, head, neck: configs; ``head`` knows the number of classes.
        kwargs: arguments of :class:`WeakSegmentor`.
    """

    def __init__(self, backbone: dict, head: dict, neck: dict | None = None, **kwargs) -> None:
        refuse_pretrained(kwargs.get('pretrained'))
        backbone, neck, head = (None if part is None else MODELS.build(part) for part in (backbone, neck, head))
        super().__init__(head.num_classes, **kwargs)
        self.backbone, self.neck, self.head = backbone, neck, head

    @abstractmethod
    def localize(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Raw localization maps (B, C, h, w) and image scores (B, K) in [0, 1] from conditioned features."""

    def network_outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """Raw localization maps (B, C, h, w) and image scores (B, K) of images (B, 3, H, W)."""
        maps, scores = self.localize(self.extract_feat(inputs))
        return dict(maps=maps, scores=scores)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Conditioned features (B, D, h, w) of images (B, 3, H, W)."""
        return self.condition(self.backbone(inputs)[-1])

    def condition(self, features: Tensor) -> Tensor:
        """Pass backbone features through the neck, where there is one."""
        return features if self.neck is None else self.neck(features)

    def _forward(self, inputs: Tensor | dict, data_samples: list | None = None) -> Tensor:
        return self.head(self.extract_feat(first_view(inputs)))
