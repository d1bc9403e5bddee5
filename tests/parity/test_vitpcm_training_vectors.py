"""Training of ViT-PCM against the official implementation; settings are read from the vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from vectors import close, load, planes, vectors
from vitpcm_cases import batch_of, model_of, tiny_model, weights_of

from mmwsss.engine.hooks.two_phase_hook import split_param_groups
from mmwsss.models.poolings import global_max_pool
from mmwsss.models.utils.keras_vitpcm import convert_vitpcm_keras
from mmwsss.ops import tile_views

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@vectors('vitpcm', '21_*.npz')
def test_train_step(path: Path) -> None:
    data = load(path)
    blocks = [str(name) for name in data['trainable_layers_full'] if 'encoderblock' in str(name)]
    model = model_of(data, data['in/image'], num_trainable_blocks=len(blocks)).train()
    inputs, samples = batch_of(data)

    losses = model.loss(inputs, samples)
    for ours, theirs in (('loss_mce', 'bce_loss'), ('loss_reg', 'reg_loss'), ('loss_et', 'cce_loss')):
        close(losses[ours], data[theirs], rtol=1e-4)
    total = sum(losses.values())
    close(total, data['loss'], rtol=1e-4)
    close(total, data['warm_loss'], rtol=1e-4)
    mosaic = model.maps(tile_views(inputs['view_2']))
    close(mosaic, planes(data['mosaic_preds']), atol=2e-5)
    close(global_max_pool(mosaic), data['mosaic_pooled'], atol=2e-5)

    total.backward()
    weights = weights_of(data)
    gradients = {name: data.get(f'grad/{name}', np.zeros_like(value)) for name, value in weights.items()}
    expected = convert_vitpcm_keras(gradients)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained.keys() == names_with(data['trainable_full'], weights)
    for name, parameter in trained.items():
        close(parameter.grad, expected[name], atol=1e-5, rtol=1e-3)
    frozen = expected.keys() - trained.keys()
    assert all(model.get_parameter(name).grad is None for name in frozen)

    settings = adam_settings(path)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), **settings)
    split_param_groups(optimizer, model, 'backbone.')
    warm = {id(p) for group in optimizer.param_groups if not group['waiting'] for p in group['params']}
    assert {name for name, p in trained.items() if id(p) in warm} == names_with(data['trainable_warmup'], weights)
    for expected_loss in data['adam_losses']:
        optimizer.zero_grad()
        loss = sum(model.loss(inputs, samples).values())
        close(loss, np.float32(expected_loss), rtol=1e-3)
        loss.backward()
        optimizer.step()
    close(model.head.classifier.weight.T, data['adam_kernel'], rtol=1e-3, atol=1e-6)


@vectors('vitpcm', '22_*.npz')
def test_schedule(path: Path) -> None:
    data = load(path)
    adam = json.loads(str(data['adam_config']))
    for name, key in (('vitpcm_voc', 'config_voc'), ('vitpcm_coco', 'config_coco')):
        config, official = Config.fromfile(CONFIGS / f'{name}.py'), json.loads(str(data[key]))
        solver, image = official['SOLVER'], official['IMAGE']['SIZE']
        optimizer = config.optim_wrapper.optimizer
        assert optimizer.type == 'Adam'
        assert optimizer.eps == adam['epsilon']
        assert tuple(optimizer.betas) == (adam['beta_1'], adam['beta_2'])
        hook = next(hook for hook in config.custom_hooks if hook.type == 'TwoPhaseTrainHook')
        rates = [hook.warmup_lr if epoch < hook.warmup_epochs else hook.lr for epoch in range(solver['EPOCHS'])]
        np.testing.assert_array_equal(rates, data['lr_per_epoch'])
        assert config.param_scheduler == []

        backbone, neck, head = config.model.backbone, config.model.neck, config.model.head
        assert backbone.num_trainable_blocks == official['MODEL']['NUM_BLOCK_UNFREEZE']
        assert (backbone.patch_size, neck.hidden) == (official['MODEL']['PATCH_SIZE'], official['MODEL']['HIDDEN_SIZE'])
        assert (neck.dropout, head.dropout) == (solver['DROPOUT'], solver['DROPOUT'])
        assert head.num_classes == official['DATASET']['NUM_CLASSES']
        steps = {step['type']: step for step in config.train_pipeline}
        views = steps['TwoViews']
        assert steps['ResizeAlignCorners']['size'] == image['TRAIN']
        assert (views['crop_size'], views['view_2_size']) == (image['CROP'], image['SCALE'])
        assert views['crop_prob'] == official['DATASET']['AUGMENTATIONS']['PROB_CROP']
        assert config.train_dataloader.batch_size == solver['BATCH_SIZE']['TRAIN']
        test_steps = {step['type']: step for step in config.test_pipeline}
        assert test_steps['ResizeAlignCorners']['size'] == image['TEST']

    trained = [str(name) for name in data['trainable_layers_full']]
    blocks = sorted(int(name.rsplit('_', 1)[1]) for name in trained if 'encoderblock' in name)
    assert blocks == list(range(blocks[-1] + 1 - len(blocks), blocks[-1] + 1))
    assert 'Transformer/encoder_norm' in trained
    model = tiny_model(depth=blocks[-1] + 1, num_trainable_blocks=len(blocks))
    ours = {'.'.join(name.split('.')[:3]) for name, p in model.named_parameters() if p.requires_grad}
    expected = {f'backbone.layers.{i}' for i in blocks} | {'backbone.ln1.weight', 'backbone.ln1.bias'}
    assert {name for name in ours if name.startswith('backbone')} == expected
    for gpus, steps_per_epoch in json.loads(str(data['voc_trainaug_steps_per_epoch'])).items():
        assert 10582 // (16 * int(gpus)) == steps_per_epoch


def names_with(keras_names: np.ndarray, weights: dict[str, np.ndarray]) -> set[str]:
    """Our names of the tensors into which the Keras tensors ``keras_names`` are converted."""
    chosen = {str(name) for name in keras_names}
    marked = {name: np.full_like(value, float(name in chosen)) for name, value in weights.items()}
    return {name for name, value in convert_vitpcm_keras(marked).items() if value.any()}


def adam_settings(path: Path) -> dict[str, float]:
    """Keras' Adam settings from the schedule file beside ``path``, or the ones its README states."""
    schedule = sorted(path.parent.glob('22_*.npz'))
    adam = json.loads(str(load(schedule[0])['adam_config'])) if schedule else {}
    return dict(lr=adam.get('learning_rate', 1e-4), eps=adam.get('epsilon', 1e-7))
