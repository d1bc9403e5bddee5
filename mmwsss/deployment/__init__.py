"""Trained networks as files for other programs."""

from .export import OPSET, export_onnx, export_program, save_program
from .segmentation import SegmentationPath

__all__ = ['OPSET', 'SegmentationPath', 'export_onnx', 'export_program', 'save_program']
