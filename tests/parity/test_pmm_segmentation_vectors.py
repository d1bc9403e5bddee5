"""The second stage of PMM against arrays written by the official code: views, windows, dense CRF."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor
from vectors import close, load, tensor, vectors

from mmwsss.models.segmentors import MultiViewEncoderDecoder
from mmwsss.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CELL = 4  # of the toy network, see the README of the vectors
VIEWS = 'mmwsss.models.segmentors.multi_view_encoder_decoder.rescale_bilinear'


@MODELS.register_module()
class ToyOfViews(MultiViewEncoderDecoder):
    """The toy network of the file in the place of backbone and head."""

    data: dict[str, np.ndarray]

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict] | None = None) -> Tensor:
        weight, bias = tensor(self.data['toy_weight'])[:, :, None, None], tensor(self.data['toy_bias'])
        logits = F.conv2d(F.avg_pool2d(inputs, CELL), weight, bias)
        return F.interpolate(logits, size=inputs.shape[-2:], mode='bilinear', align_corners=False)


def toy(data: dict[str, np.ndarray], mode: str, views: dict | None = None, **settings) -> ToyOfViews:
    head = dict(type='FCNHead', in_channels=1, channels=1, num_classes=len(data['toy_bias']), align_corners=False)
    crop, stride = (tuple(data[name].tolist()) for name in ('crop', 'stride'))
    test_cfg = dict(mode=mode, crop_size=crop, stride=stride, views=views)
    backbone = dict(type='ScaleNet', structure=[[1, 0, 0, 0, 56]] * 4, depths=(1, 1, 1, 1))
    with torch.device('meta'):
        model = MODELS.build(
            dict(type='ToyOfViews', backbone=backbone, decode_head=head, test_cfg=test_cfg, **settings)
        )
    model.data = data
    return model


@vectors('pmm', 'cyclic_pseudo_mask*.npz')
def test_cyclic_masks(path: Path, tmp_path: Path) -> None:
    data = load(path)
    image, flips = data['image_rgb'], data['flips'].tolist()
    inputs = {index: tensor(data[f'aug{index}']) for index in range(len(flips))}
    assert flips == [False, True] * (len(flips) // 2)
    assert all(torch.equal(inputs[index + 1], inputs[index].flip(-1)) for index in range(0, len(flips), 2))

    slide = toy(data, 'slide')
    size = image.shape[:2]
    shape = tuple(inputs[0].shape[-2:])
    logits = slide.inference(inputs[0], [dict(ori_shape=shape, img_shape=shape)])
    close(logits, data['slide_logits_first'], atol=1e-5)
    close(slide._probabilities(inputs[0], size), data['prob_first'], atol=1e-5)
    close(slide._probabilities(inputs[1], size).flip(-1), data['prob_flipped'], atol=1e-5)
    close(toy(data, 'whole')._probabilities(inputs[0], size), data['whole_prob_first'], atol=1e-5)

    Image.fromarray(image).save(tmp_path / 'image.png')
    crf = dict(steps=[dict(type='Refine', refiner=dict(type='DenseCRF')), dict(type='Decide')])
    views = dict(scales=[float(index) for index in range(2, len(flips) + 2, 2)], flip=True)  # names, not factors
    for key, settings in (('crf0', {}), ('crf1', dict(pseudo_labeler=crf))):
        model = toy(data, 'slide', views, **settings)
        sample = SegDataSample(metainfo=dict(ori_shape=size, img_path=str(tmp_path / 'image.png')))
        with mock.patch(VIEWS, lambda images, scale, divisor: inputs[int(scale) - 2]):
            (sample,) = model.predict(torch.zeros(1, 3, *size), [sample])
        found = sample.pred_sem_seg.data[0].numpy()
        same = found == data[f'pred_{key}']
        assert same.mean() >= (1 if key == 'crf0' else 0.995)
        assert (found == data[f'png_{key}']).mean() >= (1 if key == 'crf0' else 0.995)
    assert (data['pred_crf0'] != data['pred_crf1']).any()


@pytest.mark.parametrize('scale', [0.5, 1.75])
def test_views_are_as_large_as_those_of_the_released_pipeline(scale: float) -> None:
    from mmcv.transforms import Resize

    from mmwsss.models.segmentors.multi_view_encoder_decoder import rescale_into

    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    size = (int(2048 * scale), int(512 * scale))
    expected = Resize(scale=size, keep_ratio=True)(dict(img=image))['img']
    found = rescale_into(tensor(image).permute(2, 0, 1)[None].float(), scale, (2048, 512))
    difference = (found[0].permute(1, 2, 0) - tensor(expected)).abs()
    assert difference.max() <= 1, 'the released pipeline rounds to whole grey levels'
