"""Two processes with half of the batch each train like one with the whole batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmseg.structures import SegDataSample
from torch import nn

from mmwsss.models.data_preprocessor import WeakSegDataPreProcessor
from mmwsss.registry import MODELS, OPTIM_WRAPPERS

BATCH, SIZE = 8, 16
ARCH = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)


def build_model() -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='ViTPCM',
            data_preprocessor=WeakSegDataPreProcessor(mean=[127.5] * 3, std=[127.5] * 3),
            backbone=dict(type='TokenViT', arch=ARCH, img_size=SIZE, patch_size=4, num_trainable_blocks=2),
            neck=dict(type='HVBiLSTM', in_channels=8, hidden=4, dropout=0.0),
            head=dict(type='PatchClassHead', in_channels=16, num_classes=4, dropout=0.0),
            loss_mce=dict(type='MultiLabelClsLoss'),
            loss_reg=dict(type='ClassifierL2'),
            loss_et=dict(type='EquivarianceLoss'),
        )
    )
    model.train()
    return model


def make_batch(first: int, last: int) -> dict:
    """Items ``first`` to ``last`` of one fixed batch of two views."""
    generator = torch.Generator().manual_seed(1)
    views = {
        'view_1': torch.rand(BATCH, 3, SIZE, SIZE, generator=generator) * 255,
        'view_2': torch.rand(BATCH, 3, SIZE // 2, SIZE // 2, generator=generator) * 255,
    }
    samples = []
    for i in range(BATCH):
        sample = SegDataSample()
        sample.image_labels = torch.tensor([i & 1, i >> 1 & 1, i >> 2], dtype=torch.float32)
        flips, whole = [i & 1, i >> 1 & 1, i >> 2], [0, 0, 0, 0, SIZE // 2, SIZE // 2]
        records = [np.array([*row, *end], dtype=np.float32) for row, end in ((flips, [0] * 6), (flips[::-1], whole))]
        sample.set_metainfo(dict(record_1=records[0], record_2=records[1]))
        samples.append(sample)
    return dict(inputs={name: list(view[first:last]) for name, view in views.items()}, data_samples=samples[first:last])


def train_step(model: nn.Module, batch: dict) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients and weights after one step."""
    inner = model.module if isinstance(model, MMDistributedDataParallel) else model
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.5)
    wrapper = OPTIM_WRAPPERS.build(dict(type='OptimWrapper', optimizer=optimizer))
    gradients: dict[str, torch.Tensor] = {}
    optimizer.register_step_pre_hook(  # after the processes have exchanged them, before they are set to zero
        lambda *args: gradients.update(
            {name: p.grad.clone() for name, p in inner.named_parameters() if p.grad is not None}
        )
    )
    losses = model.train_step(batch, wrapper)
    return dict(gradients=gradients, weights=inner.state_dict(), losses=losses)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    model = MMDistributedDataParallel(build_model(), broadcast_buffers=False)
    half = BATCH // 2
    torch.save(train_step(model, make_batch(rank * half, (rank + 1) * half)), f'{folder}/rank_{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    start = build_model().state_dict()
    whole = train_step(build_model(), make_batch(0, BATCH))
    halves = [train_step(build_model(), make_batch(i * 4, i * 4 + 4)) for i in range(2)]
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f'rank_{rank}.pth', weights_only=True) for rank in range(2)]

    trained = {name for name, p in build_model().named_parameters() if p.requires_grad}
    assert whole['gradients'].keys() == trained
    assert all(value.any() for value in whole['gradients'].values())
    assert whole['losses'].keys() == {'loss', 'loss_mce', 'loss_reg', 'loss_et'}
    for rank in ranks:
        for kind in ('gradients', 'weights'):
            assert rank[kind].keys() == whole[kind].keys()
            for name, value in whole[kind].items():
                torch.testing.assert_close(rank[kind][name], value, atol=1e-6, rtol=1e-5, msg=f'{kind} of {name}')
    for name, value in ranks[0]['weights'].items():
        assert torch.equal(value, ranks[1]['weights'][name]), name
    # the halves alone lead elsewhere, so the agreement above comes from averaging
    for half in halves:
        assert max((half['gradients'][n] - g).abs().max() for n, g in whole['gradients'].items()) > 1e-3
        assert max((half['weights'][n] - whole['weights'][n]).abs().max() for n in start) > 1e-4
    moved = [name for name, value in whole['weights'].items() if not torch.equal(value, start[name])]
    assert {name.split('.')[0] for name in moved} == {'backbone', 'neck', 'head'}
