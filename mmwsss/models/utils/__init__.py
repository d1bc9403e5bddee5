"""What several models share."""

from .position import resize_position_embedding
from .vit_weights import convert_flax_vit, convert_timm_vit, load_vit_weights

__all__ = ['convert_flax_vit', 'convert_timm_vit', 'load_vit_weights', 'resize_position_embedding']
