"""Backbones."""

from .token_vit import TokenViT

__all__ = ['TokenViT']
