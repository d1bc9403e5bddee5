"""Models and batches of ViT-PCM that the vectors describe."""

from __future__ import annotations

import re

import numpy as np
import torch
from mmseg.structures import SegDataSample
from vectors import planes, tensor

from mmwsss.models.segmentors import ViTPCM
from mmwsss.models.utils.keras_vitpcm import convert_vitpcm_keras


def weights_of(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights in a file, under their names in Keras."""
    return {key[2:]: value for key, value in data.items() if key.startswith('w/')}


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
    """Build the model whose weights are in ``data``, with this number of attention heads."""
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
    """Build a small model with random weights."""
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


def batch_of(data: dict[str, np.ndarray]) -> tuple[dict[str, torch.Tensor], list[SegDataSample]]:
    """Inputs and samples of the training step in ``data``."""
    inputs = dict(view_1=planes(data['in/image']), view_2=planes(data['in/image_et']))
    samples = []
    for labels, first, second in zip(data['in/class_label'], data['in/affine'], data['in/affine_et']):
        sample = SegDataSample(metainfo=dict(record_1=first, record_2=second))
        sample.image_labels, sample.background_label = tensor(labels[1:]), tensor(labels[:1])[0]
        samples.append(sample)
    return inputs, samples
