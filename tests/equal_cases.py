"""Tiny trainings of three optimizer steps that see the same samples in one process and in several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import islice
from operator import getitem
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from pmm_cases import labels_step, write_exports
from tiny_configs import CONFIGS, load_config, tiny_config, write_data
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from mmwsss.apis import launch
from mmwsss.datasets.samplers import ResumableInfiniteSampler
from mmwsss.engine.hooks.iteration_hook import unwrap
from mmwsss.registry import DATA_SAMPLERS, HOOKS, MODELS
from mmwsss.utils.seeding import SampleDraw

STEPS, BATCH, IMAGES = 3, 8, 12  # a batch are the images of a step in all processes together
HOOKS_KEPT = ('IterationHook', 'AssignmentHook', 'TwoPhaseTrainHook')
SHAPES = '144x144.py'
PATHS = dict(
    cam=f'cam/cam_vit-xt8_1xb16-600_shapes-{SHAPES}',
    vitpcm=f'vitpcm/vitpcm_vit-xt8_1xb16-600_shapes-{SHAPES}',
    apc=f'apc/apc_vit-xt8_1xb16-600_shapes-{SHAPES}',
    cosa=f'cosa/cosa_vit-xt8_1xb8-600_shapes-{SHAPES}',
    cosa_released='cosa/cosa_deit-t16_1xb4-1300_voc12mini-224x224_released.py',
    acr=f'acr/acr_vit-xt8_1xb16-600_shapes-{SHAPES}',
    seam=f'pmm/seam_vit-xt8_1xb8-600_shapes-{SHAPES}',
    affinity=f'pmm/affinity_vit-xt8_1xb16-744_shapes-{SHAPES}',
    pmm=f'pmm/fcn_vit-xt8_1xb16-600_shapes-pseudo_{SHAPES}',
)
# Losses that divide by what they find in the batch of one process, by the keys below the model.
PER_PROCESS = dict(
    apc=('loss_seg',),
    cosa=('loss_c2s', 'loss_csc'),
    cosa_released=('loss_c2s',),
    affinity=('loss_affinity',),
    pmm=('decode_head.loss_decode',),
)


@MODELS.register_module()
class PerProcess(nn.Module):
    """Mean of a loss over ``parts`` of the batch: what as many processes compute, each with a part, written down."""

    def __init__(self, loss: dict, parts: int = 2) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)
        self.parts = parts
        self.loss_weight = self.loss.loss_weight
        self.loss_name = getattr(self.loss, 'loss_name', None)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return torch.stack([self.loss(*part, **kwargs) for part in zip(*map(self._split, args))]).mean()

    def of_masks(
        self, logits: Tensor, masks: Sequence[Tensor], weights: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        masks, weights = (
            [None] * self.parts if each is None else self._split(torch.stack(tuple(each), dim=1))
            for each in (masks, weights)
        )
        found = [
            self.loss.of_masks(own, mask.unbind(1), None if weight is None else weight.unbind(1))
            for own, mask, weight in zip(self._split(logits), masks, weights)
        ]
        return torch.stack([losses for losses, _ in found]).mean(dim=0), torch.cat([each for _, each in found])

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        assert len(values) == BATCH
        return values.chunk(self.parts)


@DATA_SAMPLERS.register_module()
class RankOrderSampler(ResumableInfiniteSampler):
    """The images of every step in the order of the processes that would read them."""

    def __init__(self, *args: Any, ranks: int = 2, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ranks = ranks

    def __iter__(self) -> Iterator[SampleDraw]:
        draws = super().__iter__()
        while True:
            step = list(islice(draws, BATCH))
            for rank in range(self.ranks):
                yield from step[rank :: self.ranks]


@HOOKS.register_module()
class RecordHook(Hook):
    """Switches dropout off, whose draws are those of a process, and keeps the losses of all iterations."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def before_train(self, runner: Runner) -> None:
        for module in runner.model.modules():
            if isinstance(module, _DropoutNd):
                module.p = 0.0
            elif isinstance(module, DropPath):
                module.drop_prob = 0.0
            elif isinstance(module, nn.RNNBase):
                module.dropout = 0.0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        self.losses.append({name: float(torch.as_tensor(value).detach()) for name, value in outputs.items()})


def configured(
    case: str,
    root: Path,
    name: str,
    processes: int = 1,
    accumulate: int = 1,
    per_process: bool = True,
    sharded: bool = False,
    **model: Any,
) -> Config:
    """The config of ``case`` for one of ``processes``, whose batches make ``STEPS`` steps of ``BATCH`` images.

    SGD takes the place of Adam, which would blow up differences of vanishing gradients to whole steps.

    Args:
        root: folder of the data and of the run ``name``.
        accumulate: iterations that make a step.
        per_process: in one process, average the losses of ``PER_PROCESS`` over the parts of two.
        sharded: share out the state of the optimizer.
        model: changes of the model.
    """
    path = CONFIGS / PATHS[case]
    data_root = write_data(root, load_config(path).train_dataloader.dataset.type, train=IMAGES)
    cfg = tiny_config(path, data_root, root / name)
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.01)
    cfg.optim_wrapper.accumulative_counts = accumulate
    if sharded:
        cfg.optim_wrapper.constructor = 'ShardedOptimWrapperConstructor'
    cfg.param_scheduler = []
    cfg.train_dataloader.batch_size = BATCH // processes // accumulate
    if processes == 1:
        cfg.train_dataloader.sampler = dict(type='RankOrderSampler')
    cfg.train_cfg.update(max_iters=STEPS * accumulate, val_begin=100)
    cfg.default_hooks.update(checkpoint=None, logger=None, timer=None)
    _set_warm_up(cfg, accumulate)
    _finish_case(case, cfg, root)
    cfg.merge_from_dict(dict(model=model))
    if per_process and processes == accumulate == 1:
        for key in PER_PROCESS.get(case, ()):
            *path, name = key.split('.')
            owner = reduce(getitem, path, cfg.model)
            owner[name] = dict(type='PerProcess', loss=owner[name])
    return cfg


def _set_warm_up(cfg: Config, length: int) -> None:
    """Let every warm-up last for so many iterations, the first step."""
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks', []) if hook.type in HOOKS_KEPT]
    for hook in cfg.custom_hooks:
        if hook.type == 'TwoPhaseTrainHook':
            hook.pop('warmup_epochs', None)
            hook.update(warmup_iters=length, warmup_lr=0.01, lr=0.01)
    cfg.custom_hooks.append(dict(type='RecordHook'))
    if 'warmup_iters' in cfg.model:
        cfg.model.warmup_iters = length - 1 if cfg.model.type == 'CoSA' else length


def _finish_case(case: str, cfg: Config, root: Path) -> None:
    if case == 'pmm':
        cfg.model.decode_head.norm_cfg = None  # batch norm is that of a process
        cfg.model.decode_head.loss_decode.update(beta=1.85, k=2.0)  # one half of a batch is below, the other above
    if case == 'apc':
        cfg.model.loss_pce.update(high=0.25, low=0.2)  # some patches are confident
    if case == 'affinity':
        labels_step(cfg).crop_size = 48  # pairs need a grid of five cells a side
        write_exports(cfg, root / 'exports')


def train(cfg: Config) -> dict[str, Any]:
    """Losses of all iterations, the state after them and how far the furthest trained weight has moved, trained as
    ``tools/train.py`` does it."""
    init_default_scope('mmwsss')
    distributed = torch.distributed.is_initialized()
    if distributed:
        cfg.launcher = 'pytorch'
        launch._distribute_on_cpu(cfg)
    launch.check_training(cfg)
    runner = launch.build_runner(cfg)
    model = unwrap(runner.model)
    widen(model)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    runner.train()
    assert is_model_wrapper(runner.model) == distributed
    assert not getattr(runner.model, 'find_unused_parameters', False)
    (record,) = [hook for hook in runner.hooks if isinstance(hook, RecordHook)]
    moved = max(float((weight.detach() - start[name]).abs().max()) for name, weight in model.named_parameters())
    return dict(losses=record.losses, state=model.state_dict(), moved=moved)


def widen(model: nn.Module) -> None:
    """Draw the weights anew, wide enough for maps and masks of several classes, so that no loss is idle."""
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.ndim > 1 and weight.requires_grad:
            nn.init.normal_(weight, std=0.3)
    if hasattr(model, 'assignment'):
        model.assignment.load_state_dict(model.online.state_dict())
