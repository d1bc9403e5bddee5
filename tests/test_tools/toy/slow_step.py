"""A step that takes its time, so that a process can be killed in the middle of an export."""

import time
from dataclasses import replace

import torch.nn.functional as F

from mmwsss.pseudo_labels.background import maps_to_mask
from mmwsss.pseudo_labels.labeler import LabelStep
from mmwsss.registry import PSEUDO_LABEL_STEPS


@PSEUDO_LABEL_STEPS.register_module()
class SlowDecide(LabelStep):
    decides = True
    needs_images = True

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def __call__(self, state):
        time.sleep(self.seconds)
        maps = F.interpolate(state.maps, state.size, mode='bilinear')
        maps = maps + state.images.float().mean(1, keepdim=True) / 2550
        present = state.present
        if present is not None:
            maps = maps * present[:, :, None, None]
        return replace(state, maps=maps, mask=maps_to_mask(maps, state.bg_setting, state.has_background))
