"""A CoSA of three small blocks, batches of two views and training steps as the runner makes them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmseg.structures import SegDataSample
from torch import Tensor

from mmwsss.engine.hooks import AssignmentHook
from mmwsss.models.segmentors import CoSA
from mmwsss.registry import DATASETS, MODELS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
SIZE, PATCH, WIDTH, CLASSES = 32, 8, 8, 4  # classes include the background
GRID = SIZE // PATCH
LABELS = ((1, 0, 0), (0, 1, 1))
SEARCHED = dict(type='SearchedThreshold', high=0.7, low=0.25, rows=6, size=SIZE, cell=PATCH)
OPTIMIZER = dict(
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
)


def cosa_config(classes: int = CLASSES, **changes: Any) -> dict:
    """Config of the model; all losses of the released code act from the first iteration on."""
    head = dict(type='CAMHead', in_channels=WIDTH, num_classes=classes, init_std=None)
    head['pooling'] = dict(type='GlobalMaxPooling')
    config = dict(
        type='CoSA',
        data_preprocessor=dict(type='WeakSegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3),
        backbone=dict(
            type='TokenViT',
            arch=dict(embed_dims=WIDTH, num_layers=3, num_heads=2, feedforward_channels=16),
            img_size=SIZE,
            patch_size=PATCH,
            pos_interp='torch',
            freeze_pos_embed=True,
            out_indices=[1, 2],
        ),
        head=head,
        aux_head=dict(head),
        decode_head=dict(type='LargeFOVHead', in_channels=WIDTH, channels=6, num_classes=classes, dilation=2),
        threshold=dict(type='FixedThreshold', high=0.7, low=0.25),
        aux_threshold=dict(type='FixedThreshold', high=0.6, low=0.3),
        loss_cls=dict(type='MultiLabelSoftMarginLoss'),
        loss_c2s=dict(type='BalancedCELoss', loss_weight=0.1),
        loss_s2c=dict(type='SegToCAMLoss', loss_weight=0.05),
        loss_energy=dict(type='DenseEnergyLoss', factor=1e-3, loss_weight=0.05),
        warmup_iters=-1,
        momentum=0.9,
        independent_init=True,
    )
    return deepcopy({**config, **changes})


def build_cosa(seed: int = 0, **changes: Any) -> CoSA:
    """The model in training mode, its weights wide enough for maps and masks with several classes."""
    torch.manual_seed(seed)
    model = MODELS.build(cosa_config(**changes))
    torch.manual_seed(seed + 1)
    streams = [model.online, model.assignment] if model.independent_init else [model.online]
    for stream in streams:
        for name, weight in stream.named_parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=1.0 if 'head' in name else 0.4)
    if not model.independent_init:
        model.assignment.load_state_dict(model.online.state_dict())
    model.iteration = 0
    return model.train()


def make_samples(labels: Sequence[Sequence[int]] | None = LABELS, count: int = 0, **metainfo: Any) -> list:
    """Samples with image labels, one row each; a list in ``metainfo`` has one entry for each sample."""
    samples = []
    for i in range(count or len(labels)):
        own = {key: value[i] if isinstance(value, list) else value for key, value in metainfo.items()}
        sample = SegDataSample(metainfo=dict(img_path=f'image_{i}.jpg', ori_shape=(SIZE, SIZE)) | own)
        if labels is not None:
            sample.image_labels = torch.tensor(labels[i], dtype=torch.float32)
        samples.append(sample)
    return samples


def make_views(batch: int = len(LABELS), seed: int = 0) -> dict[str, Tensor]:
    """Normalised views; the strong one is the weak one with noise. Blocks give the energy something to find."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randn(batch, 3, GRID, GRID, generator=generator)
    weak = blocks.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    weak = weak + 0.2 * torch.randn(batch, 3, SIZE, SIZE, generator=generator)
    return dict(view_1=weak, view_2=weak + 0.3 * torch.randn(batch, 3, SIZE, SIZE, generator=generator))


def total_loss(losses: dict[str, Tensor]) -> Tensor:
    """What mmengine sums up."""
    return sum(value for name, value in losses.items() if 'loss' in name)


def train_steps(model: CoSA, steps: int, optim: OptimWrapper | None = None, first: int = 0, **samples: Any) -> list:
    """Losses of ``steps`` iterations with the hook that a runner would call, each on images of its own."""
    optim = optim or build_optim_wrapper(model, dict(OPTIMIZER))
    hook, history = AssignmentHook(), []
    for index in range(first, first + steps):
        runner = SimpleNamespace(model=model, iter=index, optim_wrapper=optim, hooks=[])
        hook.before_train_iter(runner, index)
        losses = model.loss(make_views(seed=index), make_samples(**samples))
        optim.update_params(model.parse_losses(losses)[0])
        hook.after_train_iter(runner, index)
        history.append({name: float(value) for name, value in losses.items()})
    return history


def runner_config(data_root: Path, work_dir: Path, **changes: Any) -> Config:
    """Training of the tiny model on generated shapes by the shipped data, schedule and runtime configs."""
    cfg = Config()
    for name in ('datasets/shapes_144_twoviews', 'schedules/cosa_32k', 'default_runtime'):
        cfg.merge_from_dict(Config.fromfile(CONFIGS / '_base_' / f'{name}.py').to_dict())
    classes = len(DATASETS.get(cfg.train_dataloader.dataset.type).METAINFO['classes'])
    mean = dict(data_preprocessor=dict(type='WeakSegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3))
    cfg.model = ConfigDict(cosa_config(classes, **mean, **changes))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(data_root)
        loader.update(num_workers=0, persistent_workers=False)
        for step in loader.dataset.pipeline:
            if 'size' in step:
                step.size = SIZE
            if 'scale' in step:
                step.scale = (SIZE, SIZE)
    cfg.optim_wrapper.optimizer.lr = 1e-2
    cfg.param_scheduler[0].update(max_iters=20, warmup_iters=2)
    cfg.custom_hooks = [dict(type='AssignmentHook')]
    cfg.default_hooks.checkpoint.update(interval=3, max_keep_ckpts=-1)
    cfg.train_cfg.update(max_iters=6, val_interval=3)
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'ERROR'
    cfg.experiment_name = cfg.visualizer.name = f'cosa_{work_dir.parent.name}_{work_dir.name}'
    return cfg
