"""Predictions of CoSA against a plain computation, under protocols, through a pseudo labeler and into files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cosa_cases import LABELS, SIZE, build_cosa, make_samples
from mmengine.runner.checkpoint import load_state_dict
from PIL import Image
from tiny_configs import write_data
from torch import Tensor

from mmwsss.models.segmentors import ProtocolSegmentor
from mmwsss.pseudo_labels.export import export_pseudo_labels
from mmwsss.pseudo_labels.manifest import ExportSource
from mmwsss.registry import DATASETS, REFINERS

INPUT, ORIGINAL = (32, 40), (45, 50)
SCALES = (1.0, 0.5, 1.5, 0.8)
VIEWS = dict(scales=SCALES, flip=True)
LABEL_ROWS = torch.tensor(LABELS).float()


def half_pixel(maps: Tensor, size) -> Tensor:
    return F.interpolate(maps, tuple(size), mode='bilinear', align_corners=False)


def make_images(seed: int = 4) -> Tensor:
    return torch.randn(2, 3, *INPUT, generator=torch.Generator().manual_seed(seed))


def samples_of(labels=LABELS, **metainfo) -> list:
    return make_samples(labels, 2, **{'ori_shape': ORIGINAL, **metainfo})


def build(seed: int = 34, **test_cfg):
    """By default with a seed whose masks have several classes on both streams."""
    labeler = test_cfg.pop('pseudo_labeler', None)
    return build_cosa(seed, test_cfg=test_cfg, pseudo_labeler=labeler).eval()


@torch.no_grad()
def plain_outputs(model, images: Tensor, stream='assignment', aux=False, views=None) -> dict[str, Tensor]:
    """Maps in [0, 1] and summed logits at the size of the input, and mean scores."""
    size, flip = images.shape[-2:], bool(views and views['flip'])
    maps, logits, scores = [], 0, []
    for scale in views['scales'] if views else (1.0,):
        grid = [int(scale * side) for side in size]
        image = half_pixel(images, grid)
        seen = [getattr(model, stream)(image)]
        seen += [getattr(model, stream)(image.flip(-1))] if flip else []
        cams = [half_pixel(out.aux_cam if aux else out.cam, size) for out in seen]
        cams[1:] = [cam.flip(-1) for cam in cams[1:]]
        maps.append(torch.stack(cams).amax(0).relu())
        up = [half_pixel(out.logits, size) for out in seen]
        up[1:] = [m.flip(-1) for m in up[1:]]
        logits = logits + sum(up)
        scores += [out.aux_image_logits if aux else out.image_logits for out in seen]
    maps = maps[-1] if aux else sum(maps)
    maps = maps - maps.amin((2, 3), keepdim=True)
    maps = maps / (maps.amax((2, 3), keepdim=True) + 1e-5)
    return dict(maps=maps, logits=logits, scores=torch.stack(scores).mean(0).sigmoid())


def seg_mask(logits: Tensor, labels: Tensor | None = None) -> Tensor:
    logits = half_pixel(logits, ORIGINAL)
    if labels is not None:
        allowed = torch.cat((torch.ones(len(labels), 1), labels), 1)[:, :, None, None]
        logits = torch.where(allowed > 0, logits, -1e5)
    return logits.argmax(1)


def map_mask(maps: Tensor, labels: Tensor, setting: float = 0.5) -> Tensor:
    score, best = half_pixel(maps * labels[:, :, None, None], ORIGINAL).max(1)
    return torch.where(score > setting, best + 1, 0)


def agreement(mask: Tensor, other: Tensor) -> float:
    """Share of equal pixels; sums in another order may decide a tie the other way."""
    assert mask.shape == other.shape
    return float((mask == other).float().mean())


@pytest.mark.parametrize('views', [None, VIEWS, dict(scales=(0.5, 1.5), flip=False)])
@pytest.mark.parametrize(('stream', 'aux'), [('assignment', False), ('online', False), ('assignment', True)])
def test_prediction_equals_the_plain_one(stream: str, aux: bool, views: dict | None) -> None:
    model = build(stream=stream, cam_head='aux_head' if aux else 'head', views=views)
    expected = plain_outputs(model, make_images(), stream, aux, views)
    found = model.predict(dict(view_1=make_images()), samples_of())
    free, tagged = seg_mask(expected['logits']), seg_mask(expected['logits'], LABEL_ROWS)
    located = half_pixel(expected['maps'] * LABEL_ROWS[:, :, None, None], ORIGINAL)
    assert len(free.unique()) > 2
    assert not torch.equal(free, tagged)
    for i, sample in enumerate(found):
        assert sample.pred_sem_seg.data.shape == sample.pseudo_mask.data.shape == (1, *ORIGINAL)
        assert agreement(sample.pred_sem_seg.data[0], free[i]) > 0.999
        assert agreement(sample.pseudo_mask.data[0], tagged[i]) > 0.999
        torch.testing.assert_close(sample.localization_maps.data, located[i], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(sample.image_scores, expected['scores'][i], atol=1e-5, rtol=1e-4)
        assert sample.used_image_labels


def test_streams_and_heads_differ() -> None:
    found = {}
    for name, settings in dict(
        assignment={}, online=dict(stream='online'), aux=dict(cam_head='aux_head'), views=dict(views=VIEWS)
    ).items():
        found[name] = build(**settings).predict(make_images(), samples_of())[0]
    masks = {name: sample.pred_sem_seg.data for name, sample in found.items()}
    assert not torch.equal(masks['assignment'], masks['online'])
    assert not torch.equal(masks['assignment'], masks['views'])
    assert torch.equal(masks['assignment'], masks['aux']), 'the head of the maps does not touch the segmentation'
    maps = [found[name].localization_maps.data for name in ('assignment', 'aux')]
    assert not torch.allclose(*maps, atol=0.05)


@pytest.mark.parametrize('source', ['segmentation', 'maps'])
def test_prediction_never_depends_on_labels(source: str) -> None:
    model = build(pseudo_source=source, views=VIEWS)
    rows = (LABELS, LABELS[::-1], ((0, 0, 0),) * 2, ((1, 1, 1),) * 2, None)
    results = [model.predict(make_images(), samples_of(row)) for row in rows]
    for one in results[1:]:
        for first, sample in zip(results[0], one):
            assert torch.equal(sample.pred_sem_seg.data, first.pred_sem_seg.data)
            assert torch.equal(sample.image_scores, first.image_scores)
    for row, result in zip(rows[:4], results):
        for labels, sample in zip(row, result):
            allowed = {0, *(k + 1 for k, there in enumerate(labels) if there)}
            assert set(sample.pseudo_mask.data.unique().tolist()) <= allowed
    assert not any(sample.used_image_labels for sample in results[-1])
    off = build(pseudo_source=source, views=VIEWS, use_image_labels=False).predict(make_images(), samples_of())
    for sample, other in zip(off, results[-1]):
        assert torch.equal(sample.pseudo_mask.data, other.pseudo_mask.data)
        assert torch.equal(sample.localization_maps.data, other.localization_maps.data)


def test_sources_of_pseudo_masks() -> None:
    expected = plain_outputs(build(), make_images(), views=VIEWS)
    for setting in (0.5, 0.3):
        model = build(pseudo_source='maps', bg_setting=setting, views=VIEWS)
        for i, sample in enumerate(model.predict(make_images(), samples_of())):
            mask = map_mask(expected['maps'], LABEL_ROWS, setting)[i]
            assert agreement(sample.pseudo_mask.data[0], mask) > 0.999
            assert (sample.bg_setting, sample.pseudo_bg_setting) == (setting, setting)
            torch.testing.assert_close(sample.pseudo_maps.data, sample.localization_maps.data)
    threshold = float(expected['scores'].median())
    model = build(pseudo_source='maps', views=VIEWS, label_threshold=threshold)
    presumed = (expected['scores'] > threshold).float()
    for i, sample in enumerate(model.predict(make_images(), samples_of(None))):
        assert agreement(sample.pseudo_mask.data[0], map_mask(expected['maps'], presumed)[i]) > 0.999
    for sample in build(views=VIEWS).predict(make_images(), samples_of(None)):
        assert torch.equal(sample.pseudo_mask.data, sample.pred_sem_seg.data)
        torch.testing.assert_close(sample.pseudo_maps.data.sum(0), torch.ones(ORIGINAL))


def test_a_sample_does_not_change_its_neighbours() -> None:
    model = build(views=VIEWS)
    together = model.predict(make_images(), samples_of())
    for i, sample in enumerate(together):
        (alone,) = model.predict(make_images()[i : i + 1], samples_of()[i : i + 1])
        assert agreement(alone.pseudo_mask.data, sample.pseudo_mask.data) > 0.999
        torch.testing.assert_close(alone.localization_maps.data, sample.localization_maps.data, atol=1e-4, rtol=1e-3)


def test_other_modes_of_the_model() -> None:
    model, images = build(), make_images()
    with torch.no_grad():
        assert torch.equal(model(images, mode='tensor'), model.assignment(images).logits)
        assert torch.equal(model.extract_feat(images), model.assignment(images).features)
        free = model.encode_decode(images, [{}, {}])
    torch.testing.assert_close(free, half_pixel(model.assignment(images).logits, INPUT).softmax(1).detach())
    (first, _) = model.predict(images)
    assert torch.equal(first.pred_sem_seg.data[0], free[0].argmax(0))


CRF = dict(type='DenseCRF', iterations=2)


@pytest.fixture
def files(tmp_path) -> list[str]:
    paths = [str(tmp_path / f'{i}.png') for i in range(2)]
    for i, path in enumerate(paths):
        blocks = np.random.default_rng(i).integers(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(5, axis=0).repeat(5, axis=1)).save(path)
    return paths


def unsure(model):
    """The model with probabilities that leave something to refine."""
    model.assignment.decode_head.conv_seg.weight.data *= 0.05
    return model


def refined(image_path: str, maps: Tensor, labels: Tensor) -> Tensor:
    image = torch.from_numpy(np.array(Image.open(image_path))).permute(2, 0, 1)[None].float()
    return REFINERS.build(CRF)(image, maps, labels).argmax(1)[0]


def test_crf_on_the_segmentation(files) -> None:
    steps = [dict(type='Refine', refiner=CRF, prune=False), dict(type='Decide')]
    model = unsure(build(views=VIEWS, pseudo_labeler=dict(steps=steps)))
    raw = unsure(build(views=VIEWS)).predict(make_images(), samples_of())
    found = model.predict(make_images(), samples_of(img_path=files))
    for i, sample in enumerate(found):
        expected = refined(files[i], raw[i].pseudo_maps.data[None], LABEL_ROWS[i : i + 1])
        assert agreement(sample.pseudo_mask.data[0], expected) > 0.99
        assert torch.equal(sample.pred_sem_seg.data, raw[i].pred_sem_seg.data)
        assert not torch.equal(sample.pseudo_mask.data, raw[i].pseudo_mask.data)


def mask_of(sample, name: str) -> Tensor:
    return sample.protocol_masks.data[sample.protocols.index(name)]


PROTOCOLS = ('ss', 'ms+flip', 'ms+flip+tags', 'ss+tags', 'ms+flip+crf+tags')


@pytest.mark.parametrize('scales', [SCALES, sorted(SCALES)])
def test_protocols_are_predictions_of_the_same_views(scales, files) -> None:
    single, multi = (unsure(build(views=v)).predict(make_images(), samples_of()) for v in (None, VIEWS))
    wrapper = ProtocolSegmentor(unsure(build()), PROTOCOLS, scales=scales, refiners=dict(crf=CRF)).eval()
    found = wrapper.predict(make_images(), samples_of(img_path=files))
    for one, many, sample in zip(single, multi, found):
        assert torch.equal(mask_of(sample, 'ss'), one.pred_sem_seg.data[0])
        assert torch.equal(mask_of(sample, 'ss+tags'), one.pseudo_mask.data[0])
        assert agreement(mask_of(sample, 'ms+flip'), many.pred_sem_seg.data[0]) > 0.999
        assert agreement(mask_of(sample, 'ms+flip+tags'), many.pseudo_mask.data[0]) > 0.999
        assert agreement(mask_of(sample, 'ms+flip'), one.pred_sem_seg.data[0]) < 0.999
        expected = refined(sample.img_path, many.pseudo_maps.data[None], sample.image_labels[None])
        assert agreement(mask_of(sample, 'ms+flip+crf+tags'), expected) > 0.99
        torch.testing.assert_close(sample.localization_maps.data, one.localization_maps.data)
        torch.testing.assert_close(sample.image_scores, one.image_scores)
        assert torch.equal(sample.pred_sem_seg.data[0], mask_of(sample, 'ss'))


@pytest.mark.parametrize('head', ['head', 'aux_head'])
def test_protocols_make_the_maps_of_the_same_views(head: str) -> None:
    """Of intermediate maps the last scale counts, so the order of the scales matters."""
    expected = build(views=VIEWS, cam_head=head).predict(make_images(), samples_of())
    wrapper = ProtocolSegmentor(build(cam_head=head), ['ms+flip', 'ms+flip+tags'], scales=SCALES).eval()
    for one, sample in zip(expected, wrapper.predict(make_images(), samples_of())):
        torch.testing.assert_close(sample.localization_maps.data, one.localization_maps.data, atol=1e-4, rtol=1e-3)


def test_a_checkpoint_loads_into_the_wrapper() -> None:
    model = build()
    wrapper = ProtocolSegmentor(build(seed=7), ['ss']).eval()
    load_state_dict(wrapper, model.state_dict(), strict=True)
    expected = model.predict(make_images(), samples_of())
    for one, sample in zip(expected, wrapper.predict(make_images(), samples_of())):
        assert torch.equal(mask_of(sample, 'ss'), one.pred_sem_seg.data[0])


@pytest.mark.parametrize('source', ['segmentation', 'maps'])
def test_export(source: str, tmp_path) -> None:
    root = write_data(tmp_path, 'ShapesDataset', train=3)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(SIZE, SIZE), keep_ratio=False)]
    dataset = DATASETS.build(
        dict(
            type='ShapesDataset',
            data_root=str(root),
            ann_file='ImageSets/Segmentation/train.txt',
            pipeline=[*pipeline, dict(type='PackWeakInputs')],
            test_mode=True,
        )
    )
    classes = len(dataset.metainfo['classes'])
    model = build_cosa(classes=classes, test_cfg=dict(pseudo_source=source, views=VIEWS))
    described = ExportSource(config='a.py', config_sha256='c0', split='train')
    result = export_pseudo_labels(model, dataset, tmp_path / 'out', described, batch_size=2, progress=False)
    assert result.written == len(dataset) == 3
    assert model.online.training, 'the mode is as before'
    assert result.manifest['used_image_labels']
    assert (result.manifest['test_cfg']['pseudo_source'], result.manifest['classes'][0]) == (source, 'background')
    model.eval()
    seen = set()
    for i in range(len(dataset)):
        item = dataset[i]
        (sample,) = model.test_step(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
        name = dataset.get_data_info(i)['img_path'].split('/')[-1].split('.')[0]
        with Image.open(result.masks / f'{name}.png') as image:
            mask = torch.from_numpy(np.array(image)).long()
        assert agreement(mask, sample.pseudo_mask.data[0]) > 0.999
        seen |= set(mask.unique().tolist())
    assert len(seen) > 1
