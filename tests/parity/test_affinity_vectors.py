"""Pairs, their labels and the loss on their affinities, against arrays written by the official code."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import torch
from vectors import close, load, planes, tensor, vectors

from mmwsss.datasets.transforms import LoadAffinityLabels
from mmwsss.models.losses import affinity_loss
from mmwsss.pseudo_labels.stored_maps import write_maps
from mmwsss.refiners.affinity import (
    affinity_label_map,
    corner_range,
    crop_flip_pad,
    pair_indices,
    pair_labels,
)

KINDS = ('bg', 'fg', 'neg')


@vectors('pmm', 'affinity_labels*.npz')
def test_labels_and_indices_of_pairs_are_the_official_ones(path: Path) -> None:
    data = load(path)
    cases = [key.removesuffix('/radius') for key in data if key.endswith('/radius')]
    assert cases
    for case in cases:
        label, radius = tensor(data[f'{case}/label']), int(data[f'{case}/radius'])
        for kind, mask in zip(KINDS, pair_labels(label, radius)):
            close(mask, data[f'{case}/{kind}'])
        height = label.shape[0]
        first, partners = pair_indices(radius, (height, height + 2))
        close(first, data[f'{case}/ind_from_h_w2'])
        close(partners.flatten(), data[f'{case}/ind_to_h_w2'])


@vectors('pmm', 'affinity_dataset*.npz')
def test_sample_of_the_affinity_network_is_the_official_one(path: Path) -> None:
    data = load(path)
    crop = int(data['crop_size'])
    image, low, high = planes(data['image_rgb']).float(), tensor(data['crf_la']), tensor(data['crf_ha'])
    x, y, flip = data['randrange_w_h_then_flipbit'].tolist()
    assert y <= corner_range(image.shape[1], crop)
    image, low, high = (crop_flip_pad(stack, crop, (y, x), bool(flip)) for stack in (image, low, high))

    label = affinity_label_map(low, high)
    close(label, data['label_eighth'])
    for kind, mask in zip(KINDS, pair_labels(label, int(data['radius']))):
        close(mask, data[kind])
        close(mask.sum(), data[f'{kind}_sum'])

    mean = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    deviation = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    corner = data['img_corner']
    close(((image - mean) / deviation)[:, : corner.shape[1], : corner.shape[2]], corner, atol=1e-5)


@vectors('pmm', 'affinity_dataset*.npz')
def test_sample_of_the_pipeline_is_the_official_one(path: Path, tmp_path: Path) -> None:
    data = load(path)
    *corner, flip = data['randrange_w_h_then_flipbit'].tolist()
    values = torch.tensor([0, 7, 3])[: len(data['crf_la'])]
    assert len(values) == len(data['crf_la'])
    for name, key in (('low', 'crf_la'), ('high', 'crf_ha')):
        write_maps(tmp_path / name / 'one.npz', tensor(data[key]), values)
    step = LoadAffinityLabels(str(tmp_path / 'low'), str(tmp_path / 'high'), crop_size=int(data['crop_size']))
    with (
        mock.patch.object(np.random, 'randint', side_effect=corner),
        mock.patch.object(np.random, 'random', return_value=0.0 if flip else 0.9),
    ):
        out = step(dict(img=data['image_rgb'], img_id='one'))
    official = data['label_eighth']  # positions in the file, ours are classes
    expected = np.where(official == 255, 255, np.append(values.numpy(), np.zeros(253, int))[official])
    np.testing.assert_array_equal(out['gt_seg_map'], expected)
    for kind, mask in zip(KINDS, pair_labels(tensor(out['gt_seg_map']), int(data['radius']))):
        close(mask, data[kind])
    mean, deviation = (np.array(row) for row in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    shown = torch.from_numpy((out['img'] - mean) / deviation).permute(2, 0, 1).float()
    size = data['img_corner'].shape
    close(shown[:, : size[1], : size[2]], data['img_corner'], atol=1e-5)


@vectors('pmm', 'affinity_loss*.npz')
def test_affinity_loss_and_its_gradient_are_the_official_ones(path: Path) -> None:
    data = load(path)
    affinity = tensor(data['aff']).requires_grad_()
    masks = [tensor(data[f'{kind}_label']) for kind in KINDS]
    loss = affinity_loss(affinity, *masks)
    loss.backward()
    close(loss, data['loss'], atol=1e-6)
    close(affinity.grad, data['grad_aff'], atol=1e-6)
    for place, kind in enumerate(KINDS):
        alone = [mask if i == place else torch.zeros_like(mask) for i, mask in enumerate(masks)]
        share = (0.25, 0.25, 0.5)[place]
        close(affinity_loss(affinity, *alone) / share, data[f'{kind}_loss'], atol=2e-6)
