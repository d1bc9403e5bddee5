"""Our side of the benchmark of CoSA, and the batches of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from cosa_reference import SWAPPED
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.structures import SegDataSample
from refiner_cases import draw_scene
from step_clock import ASSIGNMENT, BACKWARD, ENERGY, FUSION, LABELS, LOSSES, ONLINE, UPDATE, Clock
from torch import Tensor

from mmwsss.models.segmentors import CoSA
from mmwsss.registry import MODELS

MOST_PRESENT = 3


class Batch(NamedTuple):
    """Normalised views (B, 3, H, W), labels (B, K) float32 and boxes (B, 4)."""

    weak: Tensor
    strong: Tensor
    labels: Tensor
    boxes: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(part.to(device) for part in self))


def draw_batch(model: CoSA, size: int, crop: int, seed: int) -> Batch:
    """Generated scenes with 1 to 3 classes each; every second one is padded on the right."""
    rng = np.random.default_rng(seed)
    scenes = np.stack([draw_scene(crop, crop, seed * size + index) for index in range(size)])
    weak = torch.from_numpy(scenes.transpose(0, 3, 1, 2).copy()).float()
    boxes = torch.tensor([(0, crop, 0, crop - (index % 2) * (crop // 8)) for index in range(size)])
    for image, box in zip(weak, boxes.tolist()):
        image[:, :, box[3] :] = 0
    strong = (2 * (weak - 128) + 128).clamp(0, 255)
    labels = torch.zeros(size, model.num_classes - 1)
    for row in labels:
        row[rng.choice(len(row), rng.integers(1, min(MOST_PRESENT, len(row)) + 1), replace=False)] = 1
    mean, std = (part.cpu() for part in (model.data_preprocessor.mean, model.data_preprocessor.std))
    return Batch((weak - mean) / std, (strong - mean) / std, labels, boxes)


class OurCoSA:
    """Training steps of our segmentor with the optimizer of ``config``."""

    def __init__(self, model: CoSA, config: Config, clock: Clock) -> None:
        self.model, self.clock = model, clock
        self.online, self.assignment = model.online, model.assignment
        self.wrapper = build_optim_wrapper(model, config.optim_wrapper)
        clock.watch(model, '_assigned_view', ASSIGNMENT)
        clock.watch(model, 'assign', FUSION)
        clock.watch(model, 'pseudo_mask', LABELS)
        clock.watch(model, 'segmentation_to_cam', LABELS)
        clock.watch(model.loss_s2c, 'forward', LOSSES)
        clock.watch(model.online, 'forward', ONLINE)
        clock.watch(model, 'energy', ENERGY)

    def step(self, weak: Tensor, strong: Tensor, labels: Tensor, boxes: Tensor, idle: bool) -> dict[str, Tensor]:
        """One iteration, in the warm-up if ``idle``; returns the losses before their weights."""
        self.model.iteration = self.model.warmup_iters + (not idle)
        samples = [_sample(*pair) for pair in zip(labels, boxes.tolist())]
        self.wrapper.zero_grad()
        with self.clock.section(LOSSES):
            losses = self.model.loss(dict(view_1=weak, view_2=strong), samples)
            total, _ = self.model.parse_losses(losses)
        with self.clock.section(BACKWARD):
            self.wrapper.backward(total)
        with self.clock.section(UPDATE):
            self.wrapper.step()
            self.model.update_assignment()
        found = dict(cls=losses['loss_cls'], cls_aux=losses['loss_cls_aux'])
        return found | {name: losses[name] for name in SWAPPED if name in losses}


def _sample(labels: Tensor, box: list[int]) -> SegDataSample:
    sample = SegDataSample(metainfo=dict(img_box=tuple(box), num_present=int(labels.sum())))
    sample.image_labels = labels
    return sample


def load_model(config: Config, pretrained: bool, device: torch.device) -> CoSA:
    """Model of ``config`` in training mode, with random weights unless ``pretrained``."""
    init_default_scope('mmwsss')
    torch.manual_seed(0)
    if not pretrained:
        config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    if not isinstance(model, CoSA):
        raise ValueError(f'the model of the config is {type(model).__name__}, not CoSA')
    model.init_weights()
    return model.to(device).train()
