"""What an exported file says about itself: classes, and how images come in and masks out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mmwsss.models.segmentors.weak_segmentor import WeakSegmentor
from mmwsss.utils.files import jsonable

ALIGNED, HALF_PIXEL = 'bilinear, aligned corners', 'bilinear, half pixels'  # the latter is cv2.resize
_RULES = dict(align_corners=ALIGNED, half_pixel=HALF_PIXEL)


def file_metadata(
    model: nn.Module, classes: Sequence[str] = (), pipeline: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, str]:
    """Entries of an exported file by name; ``size`` and ``resize`` only where the test ``pipeline`` is given.

    - ``classes``: names as JSON, the background first.
    - ``images``, ``logits``: type, axes and values of input and output.
    - ``size``: height and width that the test pipeline gives to images, as JSON; null where they depend on the image.
    - ``resize``: the rule for that; what is no single resize stands there as JSON of the config.
    - ``enlarge``: the rule by which the logits become as large as the image.
    """
    entries = {
        'classes': json.dumps(list(classes)),
        'images': 'float32 (batch, 3, height, width), RGB in 0..255; normalised inside',
        'logits': 'float32 (batch, classes, height, width); the best class of a pixel is its label',
        'enlarge': _enlarging(model),
    }
    if pipeline is not None:
        size, entries['resize'] = pipeline_resize(pipeline)
        entries['size'] = json.dumps(size)
    return entries


def pipeline_resize(pipeline: Sequence[Mapping[str, Any]]) -> tuple[list[int] | None, str]:
    """Height and width that a test pipeline gives to every image, None where they depend on it, and the rule."""
    steps = [step for step in pipeline if not str(step['type']).startswith(('Load', 'Pack'))]
    if not steps:
        return None, 'none'
    if len(steps) == 1:
        step = steps[0]
        if step['type'] == 'ResizeAlignCorners':
            return _pair(step['size']), ALIGNED
        if step['type'] == 'Resize' and step.get('scale') is not None and not step.get('keep_ratio'):
            mode, backend = step.get('interpolation', 'bilinear'), step.get('backend', 'cv2')
            usual = (mode, backend) == ('bilinear', 'cv2')
            return _pair(step['scale'])[::-1], HALF_PIXEL if usual else f'{mode} of {backend}'
    return None, json.dumps(jsonable(steps))


def _enlarging(model: nn.Module) -> str:
    if isinstance(model, WeakSegmentor):
        rule = model.test_cfg['upsample']
        return _RULES.get(rule, rule)
    return ALIGNED if getattr(model, 'align_corners', False) else HALF_PIXEL


def _pair(size: int | Sequence[int]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)
