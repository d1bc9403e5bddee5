"""Loss functions; each file holds one idea, as a pure function and a thin module."""

from .affinity import AffinityLoss, affinity_loss
from .classifier_l2 import ClassifierL2, classifier_l2
from .equivariance import EquivarianceLoss, equivariance_loss
from .multilabel import MultiLabelClsLoss, multilabel_cls_loss

__all__ = [
    'AffinityLoss',
    'ClassifierL2',
    'EquivarianceLoss',
    'MultiLabelClsLoss',
    'affinity_loss',
    'classifier_l2',
    'equivariance_loss',
    'multilabel_cls_loss',
]
