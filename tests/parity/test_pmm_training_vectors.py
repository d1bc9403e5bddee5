"""Training samples and optimizer of PMM's network of maps, against arrays written by the official code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn
from vectors import close, load, tensor, vectors

from mmwsss.datasets.transforms.multi_crop import MultiCropSample, crop_labels, part_of_crops
from mmwsss.pseudo_labels.multi_crop import multi_crop_boxes
from mmwsss.registry import PARAM_SCHEDULERS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SCHEDULE = CONFIGS / '_base_' / 'schedules' / 'pmm_sgd.py'
TO_ROWS = [1, 3, 0, 2]  # x1, y1, x2, y2 as top, bottom, left, right


@vectors('pmm', 'multi_crop_sampler*.npz')
def test_labels_of_crops(path: Path) -> None:
    data = load(path)
    width, height = data['image_size_wh'].tolist()
    boxes, counts = multi_crop_boxes(
        (height, width), data['scales'].tolist(), int(data['crop_size']), int(data['stride'])
    )
    boxes = boxes.numpy()
    assert counts == data['boxes_per_scale'].tolist()
    assert boxes.tolist() == data['boxes_x1y1x2y2'][:, TO_ROWS].tolist()
    threshold = MultiCropSample('maps', scales=(1,)).threshold
    masks = np.unpackbits(data['heat_masks'], axis=-1)[..., :width]
    heat = masks * data['heat_values'][:, None, None]
    present = np.flatnonzero(data['label'])
    order = [data['heat_keys'].tolist().index(k + 1) for k in present]
    hot = heat[order] > threshold

    def spread(shown: np.ndarray) -> np.ndarray:
        labels = np.zeros((len(shown), len(data['label'])), dtype=np.float32)
        labels[:, present] = shown
        return labels

    share = float(data['thresh'])
    np.testing.assert_array_equal(spread(crop_labels(hot, boxes, share)), data['updated_labels'])
    some = boxes[: len(data['cut_boxes'])]
    erased = part_of_crops(some, data['cut_param'][TO_ROWS], (height, width))
    np.testing.assert_array_equal(erased, data['cut_boxes'][:, TO_ROWS])
    np.testing.assert_array_equal(spread(crop_labels(hot, some, share, erased)), data['cut_labels'])


class FourGroups(nn.Module):
    """A backbone and a head with a weight and a bias each, the four groups of the official optimizer."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.backbone, self.head = nn.Module(), nn.Module()
        self.backbone.conv, self.head.fc8 = nn.Module(), nn.Module()
        places = [(part, name) for part in (self.backbone.conv, self.head.fc8) for name in ('weight', 'bias')]
        for (part, name), value in zip(places, values):
            part.register_parameter(name, nn.Parameter(value.clone()))


@vectors('pmm', 'poly_optimizer*.npz')
def test_steps_of_the_optimizer(path: Path) -> None:
    data = load(path)
    cfg = Config.fromfile(SCHEDULE)
    cfg.optim_wrapper.optimizer.update(
        lr=data['lr'].item(), momentum=data['sgd_momentum'][0].item(), weight_decay=data['wt_dec'].item()
    )
    cfg.param_scheduler[0].update(max_iters=data['max_step'].item())
    assert cfg.param_scheduler[0].power == data['poly_power']
    model = FourGroups(tensor(data['param0']))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    scheduler = PARAM_SCHEDULERS.build({**cfg.param_scheduler[0], 'optimizer': wrapper})
    groups = wrapper.optimizer.param_groups
    assert [group['initial_lr'] / data['lr'] for group in groups] == data['group_lr_mult'].tolist()
    assert [group['weight_decay'] for group in groups] == data['sgd_weight_decay'].tolist()
    assert [group['momentum'] for group in groups] == data['sgd_momentum'].tolist()
    for grads, expected in zip(data['grads'], data['params_after_each_step']):
        for group, grad in zip(groups, tensor(grads)):
            group['params'][0].grad = grad.clone()
        wrapper.step()
        scheduler.step()
        close(torch.stack([group['params'][0] for group in groups]), expected, atol=1e-6)
