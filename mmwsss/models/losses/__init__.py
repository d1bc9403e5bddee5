"""Loss functions; each file holds one idea, as a pure function and a thin module."""

from .affinity import AffinityLoss, affinity_loss
from .balanced_ce import BalancedCELoss, balanced_cross_entropy, balanced_nll, balanced_nll_of_masks, soft_cross_entropy
from .classifier_l2 import ClassifierL2, classifier_l2
from .consistency import ConsistencyLoss, consistency_loss
from .dense_energy import DenseEnergyLoss, boxes_to_regions, dense_energy_loss
from .equivariance import EquivarianceLoss, equivariance_loss
from .multilabel import MultiLabelClsLoss, MultiLabelSoftMarginLoss, multilabel_cls_loss
from .patch_contrast import PatchContrastLoss, patch_contrast_loss, patch_pairs
from .perplexity import ReliabilityWeights, perplexity, reliability_weights
from .seam import EquivariantRegularization, MinPoolingLoss, hardest_mean, min_pooling_loss, rectified_min_max
from .seg_to_cam import SegToCAMLoss, cam_mask_loss, confident_argmax, normalized_cam_loss, raw_cam_loss
from .separation import SeparationLoss, separation_loss
from .under_fitting import UnderFittingCrossEntropyLoss, under_fitting_cross_entropy
from .view_pair import Seen, ViewPairConsistency

__all__ = [
    'AffinityLoss',
    'BalancedCELoss',
    'ClassifierL2',
    'ConsistencyLoss',
    'DenseEnergyLoss',
    'EquivarianceLoss',
    'EquivariantRegularization',
    'MinPoolingLoss',
    'MultiLabelClsLoss',
    'MultiLabelSoftMarginLoss',
    'PatchContrastLoss',
    'ReliabilityWeights',
    'Seen',
    'SegToCAMLoss',
    'SeparationLoss',
    'UnderFittingCrossEntropyLoss',
    'ViewPairConsistency',
    'affinity_loss',
    'balanced_cross_entropy',
    'balanced_nll',
    'balanced_nll_of_masks',
    'boxes_to_regions',
    'cam_mask_loss',
    'classifier_l2',
    'confident_argmax',
    'consistency_loss',
    'dense_energy_loss',
    'equivariance_loss',
    'hardest_mean',
    'min_pooling_loss',
    'multilabel_cls_loss',
    'normalized_cam_loss',
    'patch_contrast_loss',
    'patch_pairs',
    'perplexity',
    'raw_cam_loss',
    'rectified_min_max',
    'reliability_weights',
    'separation_loss',
    'soft_cross_entropy',
    'under_fitting_cross_entropy',
]
