"""Segmentors: one file a method, whose ``loss`` reads like the paper."""

from .acr import ACR
from .affinity_network import AffinityNetwork
from .apc import APC
from .cam import CAMClassifier
from .cosa import CoSA
from .cosa_network import CoSANetwork
from .multi_view_encoder_decoder import MultiViewEncoderDecoder
from .protocol_segmentor import ProtocolSegmentor
from .seam import SEAM
from .single_network import SingleNetworkSegmentor
from .vitpcm import ViTPCM
from .weak_segmentor import WeakSegmentor

__all__ = [
    'ACR',
    'APC',
    'SEAM',
    'AffinityNetwork',
    'CAMClassifier',
    'CoSA',
    'CoSANetwork',
    'MultiViewEncoderDecoder',
    'ProtocolSegmentor',
    'SingleNetworkSegmentor',
    'ViTPCM',
    'WeakSegmentor',
]
