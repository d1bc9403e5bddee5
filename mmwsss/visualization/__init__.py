from .panels import make_panel, montage, save_png

__all__ = ['make_panel', 'montage', 'save_png']
