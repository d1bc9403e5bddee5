"""Backbones."""

from .attention_tap import AttentionTap
from .conv_stem import ConvStem
from .hybrid_stem import HybridStem
from .token_vit import Encoding, TokenViT

__all__ = ['AttentionTap', 'ConvStem', 'Encoding', 'HybridStem', 'TokenViT']
