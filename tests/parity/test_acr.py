"""ACR's parts against the official code: losses of both views, optimizer, forward, gradient maps, training step."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from acr_cases import assert_forward, build, consistency, samples_of
from mmcv.transforms import Resize
from mmengine.optim import build_optim_wrapper
from official import assert_relative, official_weights, relative
from torch import Tensor, nn
from vectors import close, load, tensor, vectors

from mmwsss.models.losses import Seen
from mmwsss.models.segmentors import ACR
from mmwsss.models.utils.acr_weights import acr_name
from mmwsss.models.utils.gradient_maps import attention_affinity, block_map, class_token_maps, spread_by_affinity
from mmwsss.ops import move, realign_attention
from mmwsss.registry import MODELS, PARAM_SCHEDULERS

MIRROR = 'hflip'
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
EXACT_FORWARD = ('forward_vit_small',)  # the others have a convolutional stem


def getam_cases(data: dict[str, np.ndarray]) -> dict[tuple[str, int], dict[int, np.ndarray]]:
    """Vectors (1, N) of the class token's gradient by (form, first block) and class."""
    found = defaultdict(dict)
    for key, value in data.items():
        if key.startswith('getam/'):
            _, form, start, index = key.split('/')
            found[form, int(start)][int(index)] = value
    assert found
    return found


def one_image_attention(data: dict[str, np.ndarray], name: str) -> list[Tensor]:
    """Attention (B, L, N, N), averaged over heads, as one (B, 1, N, N) for each layer that takes a gradient."""
    return [layer[:, None].requires_grad_() for layer in tensor(data[name]).unbind(dim=1)]


@vectors('acr', 'align_loss_*.npz')
def test_realigned_attention(path: Path) -> None:
    data = load(path)
    grid = (data['patch_grid'].item(),) * 2
    moved = realign_attention(tensor(data['attn2']), grid, MIRROR)
    assert torch.equal(moved[:, :, :1, 1:], tensor(data['attn2_cls_realigned']))
    assert torch.equal(moved[:, :, 1:, 1:], tensor(data['attn2_aff_realigned']))


@vectors('acr', 'align_loss_*.npz')
def test_losses_of_a_view_pair(path: Path) -> None:
    data = load(path)
    grid, alpha = (data['patch_grid'].item(),) * 2, data['alpha'].item()
    attention = [one_image_attention(data, name) for name in ('attn1', 'attn2')]
    logits = [tensor(data[name]).requires_grad_() for name in ('x1', 'x2')]
    labels = tensor(data['label'])
    losses = MODELS.build(consistency(alpha))(*(Seen(view, grid) for view in attention))
    close(losses['loss_act'] / alpha, data['cls_align_loss'], atol=1e-6)
    close(losses['loss_aff'] / alpha, data['aff_align_loss'], atol=1e-6)
    margin = MODELS.build(dict(type='MultiLabelSoftMarginLoss'))
    for view, score in enumerate(logits, start=1):
        losses[view] = margin(score, labels)
        close(losses[view], data[f'cls_loss_{view}'], atol=1e-6)
    total = sum(losses.values())
    close(total, data['total_loss'], rtol=1e-5)
    total.backward()
    for view, (layers, score) in enumerate(zip(attention, logits), start=1):
        close(torch.cat([layer.grad for layer in layers], dim=1), data[f'grad_attn{view}'], atol=1e-7)
        close(score.grad, data[f'grad_x{view}'], atol=1e-7)


@vectors('acr', 'view_pair*.npz')
def test_second_view(path: Path) -> None:
    data = load(path)
    first, second = tensor(data['view1']), tensor(data['view2'])
    assert torch.equal(move(first, MIRROR), second)
    assert torch.equal(MODELS.build(consistency(1.0)).move(first), second)


@vectors('acr', 'poly_optimizer*.npz')
@pytest.mark.parametrize('schedule', ['PolyLR', 'WarmupPolyLR'])
def test_optimizer(path: Path, schedule: str) -> None:
    data = load(path)
    steps, power = data['max_step'].item(), data['poly_power'].item()
    model = nn.Module()
    model.weight = nn.Parameter(tensor(data['param0']))
    optim = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(
                type='SGD',
                lr=data['lr'].item(),
                momentum=data['sgd_momentum'].item(),
                weight_decay=data['sgd_weight_decay'].item(),
            )
        ),
    )
    assert data['wt_dec_argument'] == data['sgd_momentum']
    settings = dict(
        PolyLR=dict(eta_min=0.0, begin=0, end=steps + 1),  # it reaches eta_min one step before its end
        WarmupPolyLR=dict(max_iters=steps, warmup_iters=0),
    )[schedule]
    scheduler = PARAM_SCHEDULERS.build(
        dict(type=schedule, power=power, by_epoch=False, **settings), default_args=dict(optimizer=optim)
    )
    for gradient, rate, expected in zip(data['grads'], data['lr_used'], data['params_after_each_step']):
        assert optim.get_lr()['lr'] == [pytest.approx(rate, rel=1e-6)]
        optim.update_params((model.weight * tensor(gradient)).sum())
        scheduler.step()
        close(model.weight, expected, atol=1e-6)


def small(data: dict[str, np.ndarray], **settings) -> ACR:
    model = build(official_weights(data), data['heads'].item(), **settings)
    assert model.backbone.embed_dims == data['dim']
    side = model.backbone.patch_resolution[0]
    assert data.get('pos_grid', side) == side
    return model


@vectors('acr', 'forward_*_small.npz')
def test_forward(path: Path) -> None:
    data = load(path)
    assert_forward(small(data), data, 1e-5 if path.stem in EXACT_FORWARD else 1e-4)


@vectors('acr', 'forward_*_small.npz')
def test_gradient_maps(path: Path) -> None:
    data = load(path)
    model = small(data, test_cfg=dict(affinity=False, label_threshold=2.0))  # no class but those asked for
    image = tensor(data['x'])[:1]
    for (form, start), maps in getam_cases(data).items():
        model.test_cfg.update(form=form, start_layer=start)
        wanted = torch.zeros(model.num_classes - 1)
        wanted[list(maps)] = 1
        found = model.network_outputs(image, wanted)['maps'].flatten(2)
        for index, expected in maps.items():
            assert_relative(found[:, index], expected, 1e-4)
        assert not found[:, wanted == 0].any()


@vectors('acr', 'forward_*_small.npz')
def test_gradient_of_the_last_attention(path: Path) -> None:
    data = load(path)
    model = small(data)
    last = model.backbone.num_layers - 1
    tokens, grid = model.backbone.embed(tensor(data['x'])[:1])
    entering, _ = model.backbone.run_blocks(tokens, 0, last)
    leaving, (weights,) = model.backbone.run_blocks(entering, last, last + 1, [last], probe=True)
    index = data['target_classes'][0].item()
    (gradient,) = torch.autograd.grad(model.head(leaving)[0, index], weights)
    assert_relative(weights[0], data['attn_last_layer_heads'], 1e-4)
    assert_relative(gradient[0], data['attn_grad_last_layer'], 1e-4)
    # The released forms read the row of the class token of one block; here it is the only one.
    relevance = block_map(gradient, weights, 'cam_grad_s')[:, 0, 1:]
    found = class_token_maps(
        model.backbone, model.head, entering, grid, torch.tensor([[index]]), last, form='cam_grad_s'
    )
    assert_relative(found.flatten(1), relevance.detach().numpy(), 1e-5)


@vectors('acr', 'forward_*_small.npz')
def test_affinity(path: Path) -> None:
    data = load(path)
    model, image = small(data), tensor(data['x'])[:1]
    encoded = model.backbone.encode(image, 'all')
    affinity = attention_affinity(encoded.attention)
    assert_relative(affinity[0], data['aff_sum'], 1e-4)
    ((key, refined),) = [(key, value) for key, value in data.items() if key.startswith('getam_refined_class')]
    index = int(key.removeprefix('getam_refined_class'))
    # The file does not say which of its vectors was refined.
    cases = []
    for case, maps in getam_cases(data).items():
        found = spread_by_affinity(tensor(maps[index]).view(1, 1, *encoded.grid), affinity)[0, 0].flatten()
        if relative(found, refined) < 1e-4:
            cases.append(case)
    ((form, start),) = cases
    model.test_cfg.update(form=form, start_layer=start, affinity=True)
    wanted = torch.eye(model.num_classes - 1)[index]
    assert_relative(model.network_outputs(image, wanted)['maps'][0, index].flatten(), refined, 1e-4)


@vectors('acr', 'train_step_hybrid_small.npz')
def test_training_step(path: Path) -> None:
    data = load(path)
    alpha = data['alpha'].item()
    model = small(data, consistency=consistency(alpha)).train()
    losses = model.loss(tensor(data['x']), samples_of(data['label']))
    expected = dict(
        loss_cls=data['cls_loss_1'],
        loss_cls_moved=data['cls_loss_2'],
        loss_act=alpha * data['cls_align_loss'],
        loss_aff=alpha * data['aff_align_loss'],
    )
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        close(losses[name], value, rtol=1e-5)
    total, _ = model.parse_losses(losses)
    total.backward()
    weights = dict(model.named_parameters())
    checked = [key.removeprefix('grad/') for key in data if key.startswith('grad/')]
    assert checked
    for name in checked:
        assert_relative(weights[acr_name(name)].grad, data[f'grad/{name}'], 1e-4)
    idle = {acr_name(name) for name in data['params_without_gradient'].tolist()}
    assert idle == {None}, 'what gets no gradient there is no weight here'
    assert all(weight.grad is not None for weight in weights.values())
    assert {acr_name(name) for name in official_weights(data)} == weights.keys() | idle


def infer_cases(data: dict[str, np.ndarray]) -> dict[tuple[str, int, bool], dict[int, np.ndarray]]:
    """Maps (H, W) by (form, first block, affinity) and class."""
    found = defaultdict(dict)
    for key, value in data.items():
        if key.startswith('cam/'):
            _, form, start, affinity, index = key.split('/')
            found[form, int(start), dict(aff=True, raw=False)[affinity]][int(index)] = value
    assert found
    return found


@vectors('acr', 'infer_cam_hybrid_small.npz')
def test_network_input(path: Path) -> None:
    data = load(path)
    size = (data['crop_size'].item(),) * 2
    # Resized as float numbers: rounding to bytes in between is visible.
    image = Resize(scale=size, keep_ratio=False)(dict(img=data['image_rgb'].astype(np.float32)))['img']
    preprocessor = MODELS.build(dict(type='WeakSegDataPreProcessor', mean=MEAN, std=STD))
    found = preprocessor(dict(inputs=[tensor(image.transpose(2, 0, 1))]))['inputs']
    close(found, data['network_input'], atol=1e-6)


@vectors('acr', 'infer_cam_hybrid_small.npz')
def test_predicted_maps(path: Path) -> None:
    data = load(path)
    shape = data['image_rgb'].shape[:2]
    test_cfg = dict(views=dict(scales=(1,), flip=True), upsample='align_corners')
    model = small(data, test_cfg=test_cfg)
    for (form, start, affinity), maps in infer_cases(data).items():
        model.test_cfg.update(form=form, start_layer=start, affinity=affinity)
        (sample,) = model.predict(tensor(data['network_input']), samples_of(data['label'][None], ori_shape=shape))
        assert sorted(maps) == data['label'].nonzero()[0].tolist()
        for index, expected in maps.items():
            close(sample.localization_maps.data[index], expected, atol=1e-4)
        absent = [index for index in range(model.num_classes - 1) if index not in maps]
        assert not sample.localization_maps.data[absent].any()
