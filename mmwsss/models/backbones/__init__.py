"""Backbones."""

from .attention_tap import AttentionTap
from .conv_stem import ConvStem
from .hybrid_stem import HybridStem
from .resnet38d import ResNet38d
from .scalenet import ScaleNet
from .token_vit import Encoding, TokenViT

__all__ = ['AttentionTap', 'ConvStem', 'Encoding', 'HybridStem', 'ResNet38d', 'ScaleNet', 'TokenViT']
