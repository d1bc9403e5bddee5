"""Segmentors: one file a method, whose ``loss`` reads like the paper."""

from .acr import ACR
from .apc import APC
from .cam import CAMClassifier
from .cosa import CoSA
from .cosa_network import CoSANetwork
from .protocol_segmentor import ProtocolSegmentor
from .seam import SEAM
from .single_network import SingleNetworkSegmentor
from .vitpcm import ViTPCM
from .weak_segmentor import WeakSegmentor

__all__ = [
    'ACR',
    'APC',
    'SEAM',
    'CAMClassifier',
    'CoSA',
    'CoSANetwork',
    'ProtocolSegmentor',
    'SingleNetworkSegmentor',
    'ViTPCM',
    'WeakSegmentor',
]
