"""Evaluation under several protocols from one pass."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmwsss.models.segmentors import ProtocolSegmentor
from mmwsss.pseudo_labels.views import half_pixel, rescale_bilinear
from mmwsss.refiners.base import Refiner
from mmwsss.registry import MODELS, REFINERS

NUM_CLASSES, SIZE, SCALES = 3, (16, 24), (0.5, 1.0, 1.5)
ORI_SHAPES = ((20, 30), (22, 30))


@REFINERS.register_module()
class RecordingRefiner(Refiner):
    """Shifts the maps by one column and remembers what it was given."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, images, maps, labels=None):
        self.calls.append((images, maps, labels))
        return maps.roll(1, dims=-1)


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmwsss'):
        yield


@pytest.fixture
def configs(backbone_cfg) -> dict[str, dict]:
    head = dict(in_channels=8, num_classes=NUM_CLASSES)
    return {
        'cam': dict(type='CAMClassifier', backbone=backbone_cfg, head=dict(type='CAMHead', **head)),
        'vitpcm': dict(type='ViTPCM', backbone=backbone_cfg, head=dict(type='PatchClassHead', **head)),
        'fcn': dict(
            type='EncoderDecoder',
            backbone=backbone_cfg,
            decode_head=dict(
                type='FCNHead', channels=4, num_convs=1, concat_input=False, align_corners=True, **head
            ),
            train_cfg=dict(),
            test_cfg=ConfigDict(mode='whole'),
        ),
    }  # fmt: skip


@pytest.fixture
def plain(configs, request):
    model = MODELS.build(copy.deepcopy(configs[request.param])).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def wrap(model, *protocols, **settings) -> ProtocolSegmentor:
    return ProtocolSegmentor(model, protocols, **{'scales': SCALES, **settings}).eval()


def make_samples(labels=((1, 0), (0, 1)), paths=('a.jpg', 'b.jpg')) -> list[SegDataSample]:
    samples = []
    for i, (ori_shape, path) in enumerate(zip(ORI_SHAPES, paths)):
        sample = SegDataSample(metainfo=dict(img_path=str(path), ori_shape=ori_shape, img_shape=SIZE))
        if labels is not None:
            sample.image_labels = torch.tensor(labels[i], dtype=torch.float32)
        samples.append(sample)
    return samples


def make_images() -> torch.Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def mask_of(sample, name) -> torch.Tensor:
    return sample.protocol_masks.data[sample.protocols.index(name)]


def agreement(mask, other) -> float:
    """Share of equal pixels; sums in another order may round a tie the other way."""
    assert mask.shape == other.shape
    return float((mask == other).float().mean())


def count_images(model, monkeypatch) -> list[tuple[int, ...]]:
    shapes = []
    forward = model.backbone.forward
    monkeypatch.setattr(model.backbone, 'forward', lambda x: shapes.append(tuple(x.shape)) or forward(x))
    return shapes


@pytest.mark.parametrize('plain', ['cam', 'vitpcm', 'fcn'], indirect=True)
def test_single_scale_is_the_wrapped_model(plain):
    expected = plain.predict(make_images(), make_samples())
    found = wrap(plain, 'ms', 'ss', 'ss+tags').predict(make_images(), make_samples())
    for one, other in zip(expected, found):
        assert other.protocol_masks.data.shape == (3, *one.ori_shape)
        assert other.protocol_masks.data.dtype == torch.int64
        assert torch.equal(mask_of(other, 'ss'), one.pred_sem_seg.data[0])
        if 'pseudo_mask' in one:
            assert torch.equal(mask_of(other, 'ss+tags'), one.pseudo_mask.data[0])
            assert other.localization_maps.shape == one.localization_maps.shape


@pytest.mark.parametrize('plain', ['cam', 'vitpcm', 'fcn'], indirect=True)
def test_each_view_goes_through_the_network_once(plain, monkeypatch):
    shapes = count_images(plain, monkeypatch)
    wrap(plain, 'ss', 'ss+tags', 'ms+flip', 'ms+flip+tags', 'ms').predict(make_images(), make_samples())
    assert shapes == [(4, 3, 24, 36), (4, 3, *SIZE), (4, 3, 8, 12)]
    shapes.clear()
    wrap(plain, 'ss+flip', 'ms', max_batch=3).predict(make_images(), make_samples())
    assert shapes == [(2, 3, 24, 36), (3, 3, *SIZE), (1, 3, *SIZE), (2, 3, 8, 12)]
    shapes.clear()
    wrap(plain, 'ss', scales=(0.6, 2.0)).predict(make_images(), make_samples())
    assert shapes == [(2, 3, *SIZE)]


@pytest.mark.parametrize('plain', ['fcn'], indirect=True)
def test_probabilities_of_an_encoder_decoder_are_averaged(plain):
    images, samples = make_images(), make_samples()
    metas = [dict(img_shape=SIZE, ori_shape=SIZE)] * 2
    # Every class wins somewhere.
    plain.decode_head.conv_seg.bias.data -= plain.encode_decode(images, metas).mean((0, 2, 3)).detach()
    found = wrap(plain, 'ms', 'ms+flip', 'ms+flip+tags').predict(images, samples)
    sums = {False: 0, True: 0}
    for scale in SCALES:
        scaled = rescale_bilinear(images, scale)
        for flip in (False, True):
            logits = plain.encode_decode(scaled.flip(-1) if flip else scaled, metas)
            logits = (logits.flip(-1) if flip else logits)[:1]
            resized = F.interpolate(logits, size=ORI_SHAPES[0], mode='bilinear', align_corners=True)
            sums[flip] = sums[flip] + resized.softmax(1)[0]
    both = sums[False] + sums[True]
    assert agreement(mask_of(found[0], 'ms'), sums[False].argmax(0)) > 0.99
    assert agreement(mask_of(found[0], 'ms+flip'), both.argmax(0)) > 0.99
    assert agreement(mask_of(found[0], 'ms'), both.argmax(0)) < 0.99
    both[2] = 0  # the first image is labelled with class 1 only
    assert agreement(mask_of(found[0], 'ms+flip+tags'), both.argmax(0)) > 0.99


@pytest.mark.parametrize('plain', ['vitpcm'], indirect=True)
def test_raw_maps_of_a_weak_segmentor_are_averaged_before_its_own_normalisation(plain):
    images = make_images()
    found = wrap(plain, 'ms+flip+tags').predict(images, make_samples())
    maps, scores = [], []
    for scale in SCALES:
        scaled = rescale_bilinear(images, scale)
        for flip in (False, True):
            m, s = plain.network_outputs(scaled.flip(-1) if flip else scaled).values()
            maps.append(half_pixel(m.flip(-1) if flip else m, (6, 9)))  # patches of the largest scale
            scores.append(s)
    maps, scores = torch.stack(maps).mean(0), torch.stack(scores).mean(0)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = plain.decide(plain.enlarge(plain.pseudo_maps(maps, labels, scores)[1:], ORI_SHAPES[1]))[0]
    assert agreement(mask_of(found[1], 'ms+flip+tags'), expected) > 0.99
    torch.testing.assert_close(found[1].image_scores, scores[1])


@pytest.mark.parametrize('plain', ['cam', 'vitpcm', 'fcn'], indirect=True)
def test_tags_leave_absent_classes_out_and_stay_out_of_the_prediction(plain):
    model = wrap(plain, 'ss+tags', 'ms+tags')
    for labels in (((1, 0), (0, 1)), ((0, 0), (1, 0))):
        for sample, label in zip(model.predict(make_images(), make_samples(labels)), labels):
            allowed = {0, *(i + 1 for i, present in enumerate(label) if present)}
            assert set(sample.protocol_masks.data.unique().tolist()) <= allowed
            assert torch.equal(sample.pseudo_mask.data[0], mask_of(sample, 'ss+tags'))
            assert sample.used_image_labels is True
    free = wrap(plain, 'ss').predict(make_images(), make_samples(None))
    tagged = model.predict(make_images(), make_samples())
    for one, other in zip(free, tagged):
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        assert 'pseudo_mask' not in one
        assert one.used_image_labels is False


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for i, (height, width) in enumerate(ORI_SHAPES):
        array = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        paths.append(tmp_path / f'{i}.png')
        Image.fromarray(array).save(paths[-1])
    return paths


@pytest.mark.parametrize('plain', ['cam', 'vitpcm', 'fcn'], indirect=True)
def test_refiners_get_the_image_and_a_background(plain, pictures):
    model = wrap(plain, 'ss', 'ss+crf', 'ms+crf+tags', refiners=dict(crf=dict(type='RecordingRefiner')))
    samples = model.predict(make_images(), make_samples(paths=pictures))
    calls = model.refiners['crf'].calls
    assert len(calls) == 4  # two images, with and without tags
    for index, (images, maps, labels) in enumerate(calls):
        array = np.asarray(Image.open(pictures[index // 2]))
        assert torch.equal(images[0].permute(1, 2, 0), torch.from_numpy(array.copy()))
        assert maps.shape == (1, NUM_CLASSES, *ORI_SHAPES[index // 2])
        assert maps.min() >= 0
        assert (maps.sum(1) < 1.0001).all()
        if index % 2:
            assert labels.tolist() == [[1.0, 0.0]] if index == 1 else labels.tolist() == [[0.0, 1.0]]
        else:
            assert (labels is None) == (not hasattr(plain, 'head'))
    for sample in samples:
        assert torch.equal(mask_of(sample, 'ss+crf'), mask_of(sample, 'ss').roll(1, dims=-1))
    sample = SegDataSample(metainfo=dict(ori_shape=SIZE))
    model = wrap(plain, 'ss+crf', refiners=dict(crf=dict(type='RecordingRefiner')))
    with pytest.raises(ValueError, match='a refiner needs the image file'):
        model.predict(make_images()[:1], [sample])


@pytest.mark.parametrize('plain', ['cam'], indirect=True)
def test_shipped_refiners_run(plain, pictures):
    model = wrap(plain, 'ss+crf', 'ss+par', 'ss+crf+tags', 'ss+par+tags')
    for sample in model.predict(make_images(), make_samples(paths=pictures)):
        assert sample.protocol_masks.data.shape == (4, *sample.ori_shape)
        assert set(mask_of(sample, 'ss+par+tags').unique().tolist()) <= {0, 1 + int(sample.image_labels.argmax())}


@pytest.mark.parametrize('plain', ['fcn'], indirect=True)
def test_padding_is_cut_off(plain):
    inner = make_images()[:1, :, :, :16]
    padded = F.pad(inner, (0, 8))
    sample = SegDataSample(metainfo=dict(ori_shape=(32, 32), img_shape=SIZE, padding_size=[0, 8, 0, 0]))
    expected = plain.predict(padded, [copy.deepcopy(sample)])[0]
    found = wrap(plain, 'ss', 'ss+flip').predict(padded, [sample])[0]
    assert torch.equal(mask_of(found, 'ss'), expected.pred_sem_seg.data[0])


@pytest.mark.parametrize('plain', ['vitpcm', 'fcn'], indirect=True)
def test_checkpoints_of_the_plain_model_load(plain, configs, request):
    name = request.node.callspec.params['plain']
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    for load in (partial(load_state_dict, strict=True), torch.nn.Module.load_state_dict):
        model = wrap(copy.deepcopy(configs[name]), 'ss')
        load(model, dict(state))
        assert all(torch.equal(value, state[key]) for key, value in model.module.state_dict().items())
        again = wrap(copy.deepcopy(configs[name]), 'ss')
        load(again, model.state_dict())
        assert all(torch.equal(value, state[key]) for key, value in again.module.state_dict().items())
    incomplete = dict(list(state.items())[:-1])
    with pytest.raises(RuntimeError, match='Missing key'):
        wrap(copy.deepcopy(configs[name]), 'ss').load_state_dict(incomplete)


@pytest.mark.parametrize('plain', ['cam'], indirect=True)
def test_test_step_normalises_like_the_wrapped_model(configs, plain):
    cfg = copy.deepcopy(configs['cam'])
    cfg['data_preprocessor'] = dict(type='WeakSegDataPreProcessor', mean=[100] * 3, std=[50] * 3, bgr_to_rgb=True)
    model = MODELS.build(cfg).eval()
    model.load_state_dict(plain.state_dict())
    images = [torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8) for _ in range(2)]
    expected = model.test_step(dict(inputs=images, data_samples=make_samples()))
    found = wrap(model, 'ss').test_step(dict(inputs=images, data_samples=make_samples()))
    for one, other in zip(expected, found):
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)


@pytest.mark.parametrize('plain', ['cam'], indirect=True)
def test_samples_are_optional(plain):
    found = wrap(plain, 'ms').predict(make_images())
    assert [tuple(sample.protocol_masks.data.shape) for sample in found] == [(1, *SIZE)] * 2
    assert isinstance(found[0].protocol_masks, PixelData)


@pytest.mark.parametrize('plain', ['cam'], indirect=True)
def test_mistakes_are_named(plain):
    with pytest.raises(ValueError, match=r"protocol 'ms\+rw' needs refiners\['rw'\].*configured are crf, par"):
        wrap(plain, 'ms+rw')
    with pytest.raises(ValueError, match='scales have to be positive'):
        wrap(plain, 'ms', scales=(0.0, 1.0))
    with pytest.raises(ValueError, match=r'a\.jpg carries no image_labels'):
        wrap(plain, 'ss+tags').predict(make_images(), make_samples(None))
    with pytest.raises(ValueError, match="only predicts, got mode 'loss'"):
        wrap(plain, 'ss')(make_images(), mode='loss')
    with pytest.raises(TypeError, match='wraps a WeakSegmentor or an EncoderDecoder, got CAMHead'):
        wrap(plain.head, 'ss')
