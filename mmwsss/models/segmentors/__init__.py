"""Segmentors: one file a method, whose ``loss`` reads like the paper."""

from .cam import CAMClassifier
from .protocol_segmentor import ProtocolSegmentor
from .vitpcm import ViTPCM
from .weak_segmentor import WeakSegmentor

__all__ = ['CAMClassifier', 'ProtocolSegmentor', 'ViTPCM', 'WeakSegmentor']
