"""Network, losses and results of ViT-PCM against the official implementation; settings are read from the vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmseg.structures import SegDataSample
from torch import nn
from vectors import close, load, planes, tensor, vectors
from vitpcm_cases import model_of, weights_of

from mmwsss.datasets.transforms.resize import ResizeAlignCorners
from mmwsss.evaluation.confusion import confusion_matrix, f1_scores, iou_from_confusion, summary_from_confusion
from mmwsss.models.data_preprocessor import WeakSegDataPreProcessor
from mmwsss.models.heads import PatchClassHead
from mmwsss.models.losses import classifier_l2, equivariance_loss, multilabel_cls_loss
from mmwsss.models.losses.equivariance import equivariance_target
from mmwsss.models.necks import HVBiLSTM
from mmwsss.models.segmentors import ViTPCM
from mmwsss.models.utils import resize_position_embedding
from mmwsss.models.utils.keras_vitpcm import convert_vitpcm_keras, read_keras_h5
from mmwsss.ops import resize_align_corners, resize_mirror, untile_views
from mmwsss.pseudo_labels import maps_to_mask, mask_maps_with_labels
from mmwsss.refiners import DenseCRF


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
def test_keras_checkpoint(path: Path, tmp_path: Path, load_converter: Callable[[str], Callable[..., int]]) -> None:
    expected = convert_vitpcm_keras(weights_of(load(path.with_suffix('.npz'))))
    state = convert_vitpcm_keras(read_keras_h5(path))
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        close(state[name], value)
    target = tmp_path / 'converted.pth'
    assert load_converter('vitpcm_keras_to_mmwsss')(path, target) == 0
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


def block_outputs(model: ViTPCM, images: torch.Tensor) -> list[torch.Tensor]:
    """Tokens after each block of the backbone, before the final norm."""
    outputs = []
    hooks = [layer.register_forward_hook(lambda _, __, out: outputs.append(out)) for layer in model.backbone.layers]
    model.backbone(images)
    for hook in hooks:
        hook.remove()
    return outputs


def crf_settings() -> dict[str, float]:
    """The official CRF settings, which are those of the config and of our defaults."""
    return dict(iterations=10, gaussian_weight=3, gaussian_xy=1, bilateral_weight=4, bilateral_xy=67, bilateral_rgb=3)
