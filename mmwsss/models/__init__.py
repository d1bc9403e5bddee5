"""Backbones, necks, heads, losses and segmentors, registered on import."""

from . import backbones, data_preprocessor, decode_heads, heads, losses, necks, poolings, segmentors

__all__ = ['backbones', 'data_preprocessor', 'decode_heads', 'heads', 'losses', 'necks', 'poolings', 'segmentors']
