"""What several models share."""

from .ema import ema_update_
from .position import resize_position_embedding
from .vit_weights import convert_flax_vit, convert_timm_vit, load_vit_weights

__all__ = ['convert_flax_vit', 'convert_timm_vit', 'ema_update_', 'load_vit_weights', 'resize_position_embedding']
