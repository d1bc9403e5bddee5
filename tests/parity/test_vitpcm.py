"""ViT-PCM against the official implementation; every size and setting is read from the vectors themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample
from torch import nn
from vectors import close, load, planes, tensor, vectors

from mmwsss.datasets.transforms.color import adjust_contrast, adjust_hue, adjust_saturation, to_gray
from mmwsss.datasets.transforms.labels import ImageLabelsFromMask, labels_in_mask
from mmwsss.datasets.transforms.resize import ResizeAlignCorners
from mmwsss.datasets.transforms.views import replay_record, replay_record_on_mask, sample_crop_box
from mmwsss.engine.hooks.two_phase_hook import split_param_groups
from mmwsss.evaluation.confusion import confusion_matrix, f1_scores, iou_from_confusion, summary_from_confusion
from mmwsss.models.data_preprocessor import WeakSegDataPreProcessor
from mmwsss.models.heads import PatchClassHead
from mmwsss.models.losses import classifier_l2, equivariance_loss, multilabel_cls_loss
from mmwsss.models.losses.equivariance import equivariance_target
from mmwsss.models.necks import HVBiLSTM
from mmwsss.models.poolings import global_max_pool
from mmwsss.models.segmentors import ViTPCM
from mmwsss.models.utils import resize_position_embedding
from mmwsss.models.utils.keras_vitpcm import convert_vitpcm_keras, read_keras_h5
from mmwsss.ops import (
    apply_record,
    patch_level_records,
    resize_align_corners,
    resize_mirror,
    resize_nearest_align_corners,
    tile_views,
    undo_flips,
    untile_views,
)
from mmwsss.pseudo_labels import maps_to_mask, mask_maps_with_labels
from mmwsss.refiners import DenseCRF

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / 'configs'


@vectors('vitpcm', '01_*.npz')
def test_hv_bilstm(path: Path) -> None:
    data = load(path)
    hidden = data['rows_fwd/bias'].shape[0] // 4
    neck = HVBiLSTM(data['x'].shape[-1], hidden=hidden).eval()
    keras = {
        f'patch_conditioning/{way}_lstm_{axis}/lstm_cell/{leaf}': data[f'{axis}_{short}/{leaf}']
        for axis in ('rows', 'cols')
        for way, short in (('forward', 'fwd'), ('backward', 'bwd'))
        for leaf in ('kernel', 'recurrent_kernel', 'bias')
    }
    load_part(neck, keras, 'neck.')
    with torch.no_grad():
        close(neck(planes(data['x'])), planes(data['y']), atol=1e-5)


@vectors('vitpcm', '02_*.npz')
def test_patch_classifier(path: Path) -> None:
    data = load(path)
    features = planes(data['x']).requires_grad_()
    head = PatchClassHead(data['kernel'].shape[0], data['kernel'].shape[1]).eval()
    head.classifier.weight.data = tensor(data['kernel'].T)
    maps = head.maps(features)
    scores = head.image_scores(maps)
    (scores * tensor(data['pooled_upstream'])).sum().backward()
    close(head(features), planes(data['logits']), atol=1e-5)
    close(maps, planes(data['preds']), atol=1e-5)
    close(scores, data['pooled_preds'], atol=1e-5)
    close(features.grad, planes(data['grad_x']), atol=1e-5)
    close(classifier_l2(head.classifier.weight), data['reg_loss'], rtol=1e-5)


@vectors('vitpcm', '03_*.npz')
def test_classification_loss(path: Path) -> None:
    data = load(path)
    scores = tensor(data['pooled_preds']).requires_grad_()
    loss = multilabel_cls_loss(scores, tensor(data['labels']))
    loss.backward()
    close(loss, data['loss'], rtol=1e-5)
    close(scores.grad, data['grad_pooled'], rtol=1e-5)


@vectors('vitpcm', '04_*.npz')
def test_label_masking(path: Path) -> None:
    data = load(path)
    close(mask_maps_with_labels(planes(data['preds']), tensor(data['labels'])), planes(data['merged']), atol=1e-6)


@vectors('vitpcm', '05_*.npz')
def test_records(path: Path) -> None:
    data = load(path)
    # The records stand in groups: no crop and no resize, crop and resize, resize only; and rectangles replay the first.
    groups = np.split(data['affine'], np.cumsum([len(data[f'{name}_out']) for name in ('none', 'crop', 'resize')])[:-1])
    for name, records in zip(('none', 'crop', 'resize'), groups):
        images = planes(data['image']).expand(len(records), -1, -1, -1)
        out = apply_record(images, tensor(records))
        close(out, planes(data[f'{name}_out']), atol=1e-3)
        close(undo_flips(out, tensor(records)), planes(data[f'{name}_rev']), atol=1e-3)
    flat = groups[0]
    for name, chosen in (('notranspose', flat[flat[:, 2] == 0]), ('transpose', flat[flat[:, 2] == 1])):
        images = planes(data['rect_image']).expand(len(chosen), -1, -1, -1)
        close(apply_record(images, tensor(chosen)), planes(data[f'rect_out_{name}']), atol=1e-3)


@vectors('vitpcm', '06_*.npz')
def test_records_at_patch_level(path: Path) -> None:
    data = load(path)
    patch_1, patch_2 = (patch_level_records(tensor(data[f'affine{i}']), int(data['patch'])) for i in (1, 2))
    close(patch_1, data['affine1_patch'])
    close(patch_2, data['affine2_patch'])
    reverted = undo_flips(planes(data['z']), patch_1)
    close(reverted, planes(data['reverted']), atol=1e-5)
    close(apply_record(reverted, patch_2), planes(data['out']), atol=1e-5)


@vectors('vitpcm', '07_*.npz')
def test_mosaic(path: Path) -> None:
    data = load(path)
    grid = data['mosaic'].shape[1] // data['tiles'].shape[1]
    mosaic = tile_views(planes(data['tiles']), grid)
    close(mosaic, planes(data['mosaic']))
    close(untile_views(mosaic, grid), planes(data['tiles_back']))


@vectors('vitpcm', '08_*.npz')
def test_equivariance_loss(path: Path) -> None:
    data = load(path)
    logits = planes(data['logits_t']).requires_grad_()
    tile = int(data['scale']) // int(data['patch'])
    student = untile_views(logits.softmax(dim=1), logits.shape[-1] // tile)
    records = (tensor(data['affine']), tensor(data['affine_t']))
    target = equivariance_target(planes(data['preds']), *records, int(data['patch']), tensor(data['labels']))
    loss = equivariance_loss(student, target)
    loss.backward()
    close(loss, data['loss'], rtol=1e-5)
    close(logits.grad, planes(data['grad_logits_t']), atol=1e-6)


@vectors('vitpcm', '09_*.npz')
def test_crop_origins(path: Path) -> None:
    data = load(path)
    starts, first = data['start_values'], data['first_50'].reshape(-1, 4)
    crop, grid = int((first[:, 2] - first[:, 0]).max()), int(starts[1] - starts[0])
    # The image side follows from how often the last origin occurs: every later draw is clamped to it.
    draws = round(1 / data['expected_freq'][0])
    size = (draws - 1) * grid
    assert size - crop == starts[-1]
    np.random.seed(0)
    boxes = np.stack([sample_crop_box((size, size), crop, grid) for _ in range(6000)])
    assert (boxes[:, 2:] - boxes[:, :2] == crop).all()
    frequency = np.array([(boxes[:, :2] == start).mean() for start in starts])
    assert np.abs(frequency - data['expected_freq']).max() < 0.02
    assert np.abs(frequency - data['start_freq']).max() < 0.03


@vectors('vitpcm', '10_*.npz')
def test_color(path: Path) -> None:
    data = load(path)
    image = data.pop('image')
    assert data
    for key, expected in data.items():
        if match := re.fullmatch(r'cont([\d.]+)_sat([\d.]+)_gray([01])', key):
            contrast, saturation, gray = map(float, match.groups())
            out = adjust_saturation(adjust_contrast(image, np.float32(contrast)), np.float32(saturation))
            out = to_gray(out) if gray else out
        else:
            kind, amount = re.fullmatch(r'tf_(hue|brightness)([+-][\d.]+)', key).groups()
            out = adjust_hue(image, np.float32(amount)) if kind == 'hue' else image + np.float32(amount)
        close(tensor(out), expected, atol=5e-2)


@vectors('vitpcm', '11_*.npz')
def test_resize(path: Path) -> None:
    data = load(path)
    image, mask = planes(data['f'])[None], tensor(data['i'][..., 0])
    close(image[0] / 255, planes(data['f_div255']), atol=1e-6)
    seen = set()
    for key, expected in data.items():
        if not (match := re.fullmatch(r'(tf_float|tf_int|np_float)_(\d+)x(\d+)', key)):
            continue
        kind, size = match.group(1), (int(match.group(2)), int(match.group(3)))
        seen.add(kind)
        if kind == 'tf_float':
            close(resize_align_corners(image, size)[0], planes(expected), atol=1e-3)
        elif kind == 'tf_int':
            close(resize_nearest_align_corners(mask, size), expected[..., 0])
        else:
            close(resize_mirror(planes(data['f_div255']), size), planes(expected), atol=1e-5)
    assert seen == {'tf_float', 'tf_int', 'np_float'}


@vectors('vitpcm', '12_*.npz')
def test_labels(path: Path) -> None:
    data = load(path)
    num_classes = data['multihot'].shape[1]
    for mask, expected in zip(data['seg'][..., 0], data['multihot']):
        np.testing.assert_array_equal(labels_in_mask(mask, num_classes), expected)
    preprocess = WeakSegDataPreProcessor(mean=[127.5] * 3, std=[127.5] * 3)
    close(preprocess(dict(inputs=[planes(data['image'])]))['inputs'][0], planes(data['vit_image']), atol=1e-6)
    classes = int(max(data['ign_label_out'].max(), data['ign_pred'].max())) + 1
    counted = confusion_matrix(tensor(data['ign_pred']).long(), tensor(data['ign_label']).long(), classes, 255)
    expected = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(expected, (data['ign_label_out'], data['ign_pred_out']), 1)
    close(counted, expected)


@vectors('vitpcm', '13_*.npz')
def test_preprocessing(path: Path) -> None:
    data = load(path)
    size, num_classes = data['image'].shape[:2], len(data['class_label'])
    results = dict(img=data['image_u8'], gt_seg_map=data['seg_u8'][..., 0], seg_fields=['gt_seg_map'])
    results = ImageLabelsFromMask(num_classes).transform(ResizeAlignCorners(size).transform(results))
    preprocess = WeakSegDataPreProcessor(mean=[127.5] * 3, std=[127.5] * 3)
    close(preprocess(dict(inputs=[planes(results['img'])]))['inputs'][0], planes(data['image']), atol=1e-5)
    np.testing.assert_array_equal(results['gt_seg_map'], data['seg'][..., 0])
    labels = np.concatenate(([results['background_label']], results['image_labels']))
    np.testing.assert_array_equal(labels, data['class_label'])
    np.testing.assert_array_equal(labels, data['train_class_label'])

    np.testing.assert_array_equal(
        replay_record_on_mask(results['gt_seg_map'], data['train_affine']), data['train_seg'][..., 0]
    )
    assert replay_record(results['img'], data['train_affine']).shape == tuple(data['train_image_shape'])
    assert replay_record(results['img'], data['train_affine_et']).shape == tuple(data['train_image_et_shape'])


@vectors('vitpcm', '14_*.npz')
def test_view_geometry(path: Path) -> None:
    data = load(path)
    cases = [(r, i, m) for r, i, m in zip(data['affine'], data['image_out'], data['label_out'])]
    cases.append((data['branch1_affine'], data['branch1_image'], data['branch1_label']))
    for record, image, label in cases:
        close(tensor(replay_record(data['image'], record)), image, atol=1e-3)
        np.testing.assert_array_equal(replay_record_on_mask(data['label'][..., 0], record), label[..., 0])


@vectors('vitpcm', '15_*.npz')
def test_mean_iou(path: Path) -> None:
    data = load(path)
    num_classes = len(data['confusion'])
    conf = confusion_matrix(tensor(data['pred']), tensor(data['label']), num_classes, 255)
    close(conf, data['confusion'])
    iou, miou = iou_from_confusion(conf)
    close(miou, data['result'], atol=1e-6)
    close(iou.nan_to_num(0), np.nan_to_num(data['summary_classiou']), atol=1e-6)
    summary = summary_from_confusion(conf)
    for ours, theirs in (
        ('miou_present', 'miou'), ('pixel_accuracy', 'pixacc'), ('mean_accuracy', 'meanacc'), ('fw_iou', 'fwiou'),
    ):  # fmt: skip
        close(summary[ours], data[f'summary_{theirs}'], atol=1e-6)


@vectors('vitpcm', '16_*.npz')
def test_validation_scores(path: Path) -> None:
    data = load(path)
    labels, mask = tensor(data['labels']), tensor(data['seg'][..., 0]).long()
    macro, micro = f1_scores(tensor(data['pooled_preds'])[:, 1:], labels[:, 1:])
    close(macro, data['f1_macro'], atol=1e-6)
    close(micro, data['f1_micro'], atol=1e-6)
    maps = resize_align_corners(mask_maps_with_labels(planes(data['preds']), labels), mask.shape[-2:])
    conf = confusion_matrix(maps_to_mask(maps, 1.0, has_background=True), mask, labels.shape[1], 255)
    close(conf, data['confusion'])
    close(iou_from_confusion(conf)[1], data['mean_iou'], atol=1e-6)


@vectors('vitpcm', '18_*.npz')
def test_position_embedding(path: Path) -> None:
    data = load(path)
    stored = tensor(data['pos_embed'])
    side = round((stored.shape[1] - 1) ** 0.5)
    grids = [int(key[4:]) for key in data if key.startswith('grid')]
    assert grids
    for grid in grids:
        resized = resize_position_embedding(stored, (side, side), (grid, grid), mode='tf')
        close(resized, data[f'grid{grid}'], atol=1e-5)


@vectors('vitpcm', '19_*.npz')
def test_model(path: Path) -> None:
    data = load(path)
    model = model_of(data, data['x'], tokens=data['tokens'])
    with torch.no_grad():
        close(block_outputs(model, planes(data['x']))[0], data['block0'], atol=2e-5)
        tokens = model.backbone.forward_tokens(planes(data['x']))[0][-1]
        features = model.extract_feat(planes(data['x']))
        maps, scores = model.localize(features)
        close(tokens, data['tokens'], atol=2e-5)
        close(features, planes(data['features']), atol=2e-5)
        close(model.head(features), planes(data['logits']), atol=2e-5)
        close(maps, planes(data['preds']), atol=2e-5)
        close(scores, data['pooled_preds'][:, 1:], atol=2e-5)
        labels = tensor(data['labels'])
        assert (labels[:, 0] == 1).all(), 'pseudo_maps takes foreground labels and adds a present background'
        close(model.pseudo_maps(maps, labels[:, 1:], scores), planes(data['infer']), atol=2e-5)
        close(model.backbone.forward_tokens(planes(data['x_big']))[0][-1], data['tokens_big'], atol=2e-5)
        close(model.maps(planes(data['x_big'])), planes(data['preds_big']), atol=2e-5)
        close(model.head(model.extract_feat(planes(data['x_big']))), planes(data['logits_big']), atol=2e-5)


@vectors('vitpcm', '19_*.h5')
def test_keras_checkpoint(path: Path, tmp_path: Path, load_tool, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = convert_vitpcm_keras(weights_of(load(path.with_suffix('.npz'))))
    state = convert_vitpcm_keras(read_keras_h5(path))
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        close(state[name], value)
    target = tmp_path / 'converted.pth'
    monkeypatch.setattr('sys.argv', ['converter', str(path), str(target)])
    assert load_tool('model_converters/vitpcm_keras_to_mmwsss').main() == 0
    written = torch.load(target, weights_only=True)['state_dict']
    assert all(torch.equal(written[name], value) for name, value in expected.items())


@vectors('vitpcm', '20_*.npz')
def test_inference(path: Path) -> None:
    data = load(path)
    labels = tensor(data['labels'])
    original = data['image_u8'].shape[:2]
    grid = data['preds'].shape[1]
    patch = data['w/embedding/kernel'].shape[0]
    image = ResizeAlignCorners(grid * patch).transform(dict(img=data['image_u8']))['img']
    preprocess = WeakSegDataPreProcessor(mean=[127.5] * 3, std=[127.5] * 3)
    inputs = preprocess(dict(inputs=[planes(image)]))['inputs']
    model = model_of(data, data['preds'], image=inputs, infer=data['preds'], labels=labels)
    sample = SegDataSample(metainfo=dict(ori_shape=original))
    sample.image_labels = labels[0, 1:]
    with torch.no_grad():
        maps, scores = model.localize(model.extract_feat(inputs))
        merged = model.pseudo_maps(maps, labels[:, 1:], scores)
    close(merged, planes(data['preds']), atol=2e-5)
    (predicted,) = model.predict(inputs, [sample])
    close(predicted.pseudo_maps.data, planes(data['preds_up_tf'])[0], atol=2e-5)
    assert (predicted.pseudo_mask.data[0].numpy() == data['seg']).mean() >= 0.995
    assert predicted.used_image_labels

    present = labels[0].bool()
    assert data['dict_keys'].tolist() == present.nonzero()[:, 0].tolist()
    close(merged[0], planes(data['preds_from_dict']), atol=2e-5)
    enlarged = resize_mirror(planes(data['preds_from_dict']), original)
    close(enlarged, planes(data['preds_up_np']), atol=2e-5)
    (q,) = DenseCRF(**crf_settings())(planes(data['image_u8'])[None], enlarged[None])
    close(q, data['crf_q'], atol=1e-3)
    assert (q.argmax(0).numpy() == data['crf_seg']).mean() >= 0.995


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


def weights_of(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key[2:]: value for key, value in data.items() if key.startswith('w/')}


def names_with(keras_names: np.ndarray, weights: dict[str, np.ndarray]) -> set[str]:
    """Our names of the tensors into which the Keras tensors ``keras_names`` are converted."""
    chosen = {str(name) for name in keras_names}
    marked = {name: np.full_like(value, float(name in chosen)) for name, value in weights.items()}
    return {name for name, value in convert_vitpcm_keras(marked).items() if value.any()}


def load_part(module: nn.Module, keras: dict[str, np.ndarray], prefix: str) -> None:
    """Load Keras weights of one part through the converter, which wants a whole backbone and gets a tiny one."""
    width = 2
    whole = {
        'embedding/kernel': np.zeros((1, 1, 3, width)), 'embedding/bias': np.zeros(width),
        'class_token/cls': np.zeros((1, 1, width)), 'Transformer/posembed_input/pos_embedding': np.zeros((1, 2, width)),
        'Transformer/encoder_norm/gamma': np.zeros(width), 'Transformer/encoder_norm/beta': np.zeros(width),
    }  # fmt: skip
    block = 'Transformer/encoderblock_0'
    for norm in ('LayerNorm_0', 'LayerNorm_2'):
        whole |= {f'{block}/{norm}/{leaf}': np.zeros(width) for leaf in ('gamma', 'beta')}
    for dense in ('query', 'key', 'value', 'out'):
        name = f'{block}/MultiHeadDotProductAttention_1/{dense}'
        whole |= {f'{name}/kernel': np.zeros((width, width)), f'{name}/bias': np.zeros(width)}
    for dense in ('Dense_0', 'Dense_1'):
        whole |= {f'{block}/{dense}/kernel': np.zeros((width, width)), f'{block}/{dense}/bias': np.zeros(width)}
    state = convert_vitpcm_keras({**whole, **keras})
    module.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})


def model_of(
    data: dict[str, np.ndarray],
    like: np.ndarray,
    tokens: np.ndarray | None = None,
    image: torch.Tensor | None = None,
    infer: np.ndarray | None = None,
    labels: torch.Tensor | None = None,
    num_trainable_blocks: int | None = None,
) -> ViTPCM:
    """Build the model whose weights are in ``data``.

    All sizes follow from the shapes of the weights but the number of attention heads, which leaves no trace in them: it
    is the divisor of the width with which the stored output, whichever the file has, is met best.
    """
    width = data['w/embedding/bias'].shape[0]
    errors = {}
    for heads in (h for h in range(1, width + 1) if width % h == 0):
        model = tiny_model_from(data, heads, num_trainable_blocks)
        with torch.no_grad():
            if tokens is not None:
                error = model.backbone.forward_tokens(planes(like))[0][-1] - tensor(tokens)
            elif infer is not None:
                maps, scores = model.localize(model.extract_feat(image))
                error = model.pseudo_maps(maps, labels[:, 1:], scores) - planes(infer)
            else:
                inputs, samples = batch_of(data)
                error = model.loss(inputs, samples)['loss_et'] - float(data['cce_loss'])
        errors[heads] = float(error.abs().max())
    return tiny_model_from(data, min(errors, key=errors.get), num_trainable_blocks)


def tiny_model_from(data: dict[str, np.ndarray], heads: int, num_trainable_blocks: int | None) -> ViTPCM:
    weights = weights_of(data)
    patch, _, _, _ = weights['embedding/kernel'].shape
    side = round((weights['Transformer/posembed_input/pos_embedding'].shape[1] - 1) ** 0.5)
    hidden, classes = weights['patch_classifier/kernel'].shape
    model = tiny_model(
        depth=1 + max(int(m.group(1)) for name in weights if (m := re.search(r'encoderblock_(\d+)', name))),
        width=weights['embedding/bias'].shape[0],
        mlp=weights['Transformer/encoderblock_0/Dense_0/bias'].shape[0],
        heads=heads,
        patch=patch,
        size=patch * side,
        hidden=hidden // 4,
        classes=classes,
        num_trainable_blocks=num_trainable_blocks,
    )
    model.load_state_dict(convert_vitpcm_keras(weights))
    return model.eval()


def tiny_model(
    depth: int,
    num_trainable_blocks: int | None = None,
    width: int = 8,
    mlp: int = 8,
    heads: int = 2,
    patch: int = 4,
    size: int = 16,
    hidden: int = 4,
    classes: int = 3,
) -> ViTPCM:
    return ViTPCM(
        backbone=dict(
            type='TokenViT',
            arch=dict(embed_dims=width, num_layers=depth, num_heads=heads, feedforward_channels=mlp),
            img_size=size,
            patch_size=patch,
            num_trainable_blocks=num_trainable_blocks,
        ),
        neck=dict(type='HVBiLSTM', in_channels=width, hidden=hidden, dropout=0.0),
        head=dict(type='PatchClassHead', in_channels=4 * hidden, num_classes=classes, dropout=0.0),
        loss_mce=dict(type='MultiLabelClsLoss'),
        loss_reg=dict(type='ClassifierL2'),
        loss_et=dict(type='EquivarianceLoss'),
    )


def block_outputs(model: ViTPCM, images: torch.Tensor) -> list[torch.Tensor]:
    """Tokens after each block of the backbone, before the final norm."""
    outputs = []
    hooks = [layer.register_forward_hook(lambda _, __, out: outputs.append(out)) for layer in model.backbone.layers]
    model.backbone(images)
    for hook in hooks:
        hook.remove()
    return outputs


def batch_of(data: dict[str, np.ndarray]) -> tuple[dict[str, torch.Tensor], list[SegDataSample]]:
    inputs = dict(view_1=planes(data['in/image']), view_2=planes(data['in/image_et']))
    samples = []
    for labels, first, second in zip(data['in/class_label'], data['in/affine'], data['in/affine_et']):
        sample = SegDataSample(metainfo=dict(record_1=first, record_2=second))
        sample.image_labels, sample.background_label = tensor(labels[1:]), tensor(labels[:1])[0]
        samples.append(sample)
    return inputs, samples


def adam_settings(path: Path) -> dict[str, float]:
    """Keras' Adam settings from the schedule file beside ``path``, or the ones its README states."""
    schedule = sorted(path.parent.glob('22_*.npz'))
    adam = json.loads(str(load(schedule[0])['adam_config'])) if schedule else {}
    return dict(lr=adam.get('learning_rate', 1e-4), eps=adam.get('epsilon', 1e-7))


def crf_settings() -> dict[str, float]:
    """The official CRF settings, which are those of the config and of our defaults."""
    return dict(iterations=10, gaussian_weight=3, gaussian_xy=1, bilateral_weight=4, bilateral_xy=67, bilateral_rgb=3)
