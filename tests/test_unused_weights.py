"""Every trainable weight of every shipped model gets a gradient in every step, as distributed training needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from pmm_cases import AFFINITY_TRAINED, MULTI_CROP_TRAINED
from tiny_configs import CANONICAL, load_config, short_id, tiny_config, write_data

from mmwsss.registry import DATASETS, MODELS

PREDICTION = ('test_cfg', 'pseudo_labeler', 'init_cfg')  # settings that do not take part in training
NEED_MAPS = {path for path in CANONICAL if 'affinity' in path.stem or 'mc-train' in path.stem}
OTHERS = [path for path in CANONICAL if path not in NEED_MAPS and '_own-' not in path.stem]


def distinct() -> Iterator[Path]:
    """One config of each model, as it is trained."""
    seen = set()
    for path in OTHERS:
        model = load_config(path).model
        settings = json.dumps({key: model[key] for key in model if key not in PREDICTION}, sort_keys=True)
        if settings not in seen:
            seen.add(settings)
            yield path


def unused_weights(cfg: Config) -> list[str]:
    """Names of trainable weights without a gradient in an iteration of the warm-up or in a later one."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([dataset[i] for i in range(4)]), training=True)
    found = []
    for iteration in (0, cfg.model.get('warmup_iters', 0) + 1):
        model.iteration = iteration
        model.zero_grad()
        model.parse_losses(model(**batch, mode='loss'))[0].backward()
        found += [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    return found


def test_configs_that_need_maps_are_trained_elsewhere() -> None:
    assert {*AFFINITY_TRAINED, *MULTI_CROP_TRAINED} <= NEED_MAPS
    assert len(OTHERS) > 100


@pytest.mark.slow
def test_every_weight_gets_a_gradient(tmp_path: Path) -> None:
    found, number = {}, 0
    for path in distinct():
        data_root = write_data(tmp_path, load_config(path).train_dataloader.dataset.type)
        if unused := unused_weights(tiny_config(path, data_root, tmp_path)):
            found[short_id(path)] = unused
        number += 1
    assert number > 50
    assert found == {}
