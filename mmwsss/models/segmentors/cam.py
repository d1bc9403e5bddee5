"""Class activation maps of a plain image classifier, the baseline of weakly supervised segmentation."""

from __future__ import annotations

import torch.nn.functional as F
from mmseg.structures import SegDataSample
from torch import Tensor

from mmwsss.pseudo_labels import peak_normalize
from mmwsss.registry import MODELS

from .single_network import SingleNetworkSegmentor
from .weak_segmentor import first_view, stack_image_labels


@MODELS.register_module()
class CAMClassifier(SingleNetworkSegmentor):
    """Backbone and linear classifier on averaged patches, trained with binary cross entropy (Zhou et al., CVPR 2016).

    The maps have no background channel; ``test_cfg.bg_setting`` is the threshold on peak-normalised maps and
    ``test_cfg.label_threshold`` the image score above which a class is taken as present without image labels.
    """

    default_bg_setting = 0.3

    def loss(self, inputs: Tensor | dict[str, Tensor], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Binary cross entropy of the classifier on images (B, 3, H, W)."""
        labels = stack_image_labels(data_samples, self.num_classes - 1)
        logits = self.head.image_logits(self.extract_feat(first_view(inputs)))
        return dict(loss_cls=F.binary_cross_entropy_with_logits(logits.float(), labels))

    def localize(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Rectified activation maps (B, K, h, w) with peak 1 and sigmoid image scores (B, K)."""
        return peak_normalize(self.head(features).float().relu()), self.head.image_logits(features).float().sigmoid()

    def pseudo_maps(self, maps: Tensor, labels: Tensor | None, scores: Tensor) -> Tensor:
        """Maps of the present classes, or of those with a score above ``label_threshold`` without labels."""
        present = self.presumed_labels(scores) if labels is None else labels
        return peak_normalize(maps) * present[:, :, None, None]  # maps fused over views have lost their peaks of 1
