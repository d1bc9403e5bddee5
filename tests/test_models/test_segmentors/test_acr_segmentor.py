"""ACR: losses of both views, maps for the classes that need them, prediction, evaluation and export."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from PIL import Image
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.engine import BFloat16OptimWrapper
from mmwsss.models.segmentors import ACR, ProtocolSegmentor
from mmwsss.models.utils.gradient_maps import attention_affinity, class_token_maps, spread_by_affinity
from mmwsss.pseudo_labels.export import export_pseudo_labels
from mmwsss.pseudo_labels.export_data import export_dataset_cfg, image_ids
from mmwsss.pseudo_labels.manifest import ExportSource
from mmwsss.registry import DATASETS, MODELS

LABELS = [[1, 0, 0], [0, 1, 1]]
L1 = dict(type='ConsistencyLoss', loss_weight=5.0)
BOTH = dict(loss_activation=L1, loss_affinity=L1)


def consistency(**settings) -> dict:
    return dict(type='ViewPairConsistency', **settings)


@pytest.fixture
def build(backbone_cfg):
    def make(seed: int = 1, **settings) -> ACR:
        config = dict(
            type='ACR',
            backbone={**backbone_cfg, 'pos_interp': 'bilinear', 'final_norm': False},
            head=dict(type='ClassTokenHead', in_channels=8, num_classes=4),
            loss_cls=dict(type='MultiLabelSoftMarginLoss'),
        )
        model = MODELS.build({**config, **settings})
        torch.manual_seed(seed)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.5)
        return model.eval()

    return make


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 16, 24)


def count_passes(model: ACR) -> mock.Mock:
    return mock.patch.object(model.backbone, 'embed', wraps=model.backbone.embed)


CLS, PAIR = {'loss_cls'}, {'loss_cls', 'loss_cls_moved'}


@pytest.mark.parametrize(
    ('option', 'keys'),
    [
        (None, CLS),
        (consistency(), PAIR),
        (consistency(loss_activation=L1), PAIR | {'loss_act'}),
        (consistency(loss_affinity=L1), PAIR | {'loss_aff'}),
        (consistency(**BOTH), PAIR | {'loss_act', 'loss_aff'}),
        (consistency(activation='maps', **BOTH), PAIR | {'loss_act', 'loss_aff'}),
        (consistency(layers=[-1], **BOTH), PAIR | {'loss_act', 'loss_aff'}),
    ],
)
def test_losses_of_each_switch(build, images, make_samples, option: dict | None, keys: set[str]) -> None:
    model = build(consistency=option)
    losses = model.loss(images, make_samples(LABELS))
    assert losses.keys() == keys
    for loss in losses.values():
        model.zero_grad()
        assert loss > 0
        loss.backward(retain_graph=True)
        assert model.backbone.patch_embed.projection.weight.grad.any()
    labels = torch.tensor(LABELS).float()
    logits = [model(view) for view in (images, images.flip(-1))][: len(keys & PAIR)]
    for name, score in zip(('loss_cls', 'loss_cls_moved'), logits):
        torch.testing.assert_close(losses[name], model.loss_cls(score, labels))
    assert torch.equal(model.loss(dict(view_1=images), make_samples(LABELS))['loss_cls'], losses['loss_cls'])


@pytest.mark.parametrize('activation', ['class_token', 'maps'])
@pytest.mark.parametrize(
    ('transform', 'passes'), [('hflip', 1), ('vflip', 1), ('rot180', 1), ('rot90', 2), ('transpose', 2)]
)
def test_one_pass_for_views_of_one_shape(build, images, make_samples, transform, passes, activation) -> None:
    model = build(consistency=consistency(transform=transform, activation=activation, layers=[0, 2], **BOTH))
    with count_passes(model) as embed:
        losses = model.loss(images, make_samples(LABELS))
    assert embed.call_count == passes
    first, second = (model.backbone.encode(view, [0, 2]) for view in (images, model.consistency.move(images)))
    for name, value in model.consistency(model.seen(first), model.seen(second)).items():
        torch.testing.assert_close(losses[name], value)
    with count_passes(model) as embed:
        model.loss(images[..., :16], make_samples(LABELS))
    assert embed.call_count == 1


def test_a_training_step_in_bfloat16(build, images, make_samples) -> None:
    model = build(consistency=consistency(**BOTH)).train()
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        losses = model.loss(images, make_samples(LABELS))
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    for name, weight in model.named_parameters():
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name


def predicted(model: ACR, images: torch.Tensor) -> torch.Tensor:
    return model(images).sigmoid() > model.test_cfg['label_threshold']


def located(samples: list) -> torch.Tensor:
    """Which classes have a map (B, K)."""
    return torch.stack([sample.localization_maps.data.flatten(1).any(dim=1) for sample in samples])


@pytest.mark.parametrize('views', [None, dict(scales=(1,), flip=True)])
def test_label_free_maps_are_of_predicted_classes(build, images, make_samples, views) -> None:
    model = build(test_cfg=dict(label_threshold=0.5, views=views))
    samples = model.predict(images, make_samples(None, count=2))
    expected = predicted(model, images)
    if views is None:
        assert torch.equal(located(samples), expected)
        assert expected.any()
        assert not expected.all()
    for sample in samples:
        scores = sample.image_scores > 0.5
        assert not sample.used_image_labels
        for mask in (sample.pred_sem_seg.data, sample.pseudo_mask.data):
            assert set(mask.unique().tolist()) <= {0, *(scores.nonzero()[:, 0] + 1).tolist()}


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('views', [None, dict(scales=(1,), flip=True), dict(scales=(1, 1.5))])
def test_label_free_masks_never_use_labels(build, make_samples, views, seed: int) -> None:
    model, images = build(seed, test_cfg=dict(views=views, bg_setting=0.2)), torch.randn(8, 3, 16, 24)
    free = model.predict(images, make_samples(None, count=8))
    tagged = model.predict(images, make_samples([[1, 1, 1]] * 8))
    for one, other in zip(free, tagged):
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        torch.testing.assert_close(one.image_scores, other.image_scores)


def test_labelled_classes_have_maps_whatever_their_score(build, images, make_samples) -> None:
    model = build(test_cfg=dict(label_threshold=1.1))
    samples = model.predict(images, make_samples(LABELS))
    assert torch.equal(located(samples), torch.tensor(LABELS).bool())
    for sample, labels in zip(samples, LABELS):
        assert sample.used_image_labels
        assert not sample.pred_sem_seg.data.any(), 'no class is predicted'
        present = {i + 1 for i, label in enumerate(labels) if label}
        assert set(sample.pseudo_mask.data.unique().tolist()) == {0, *present}
        for i in present:
            peak = sample.localization_maps.data[i - 1]
            assert peak.min() == 0
            assert peak.max().item() == pytest.approx(1, abs=1e-3)


def test_labels_are_left_alone_on_request(build, images, make_samples) -> None:
    model = build(test_cfg=dict(use_image_labels=False))
    for one, other in zip(
        model.predict(images, make_samples(LABELS)), model.predict(images, make_samples(None, count=2))
    ):
        assert not one.used_image_labels
        assert torch.equal(one.localization_maps.data, other.localization_maps.data)
        assert torch.equal(one.pseudo_mask.data, other.pseudo_mask.data)


@pytest.mark.parametrize('form', ['grad', 'cam_grad_s'])
@pytest.mark.parametrize('start', [0, 1, -1])
def test_maps_of_uneven_numbers_of_classes(build, images, form: str, start: int) -> None:
    model = build(test_cfg=dict(form=form, start_layer=start, affinity=False, label_threshold=1.1))
    first = start % 3
    tokens, grid = model.backbone.embed(images)
    entering, _ = model.backbone.run_blocks(tokens, 0, first)
    wanted = torch.tensor([[0.0, 1, 0], [1, 1, 1]])
    maps = model.gradient_maps(entering, grid, wanted, first)
    assert maps.shape == (2, 3, *grid)
    assert torch.equal(maps.flatten(2).any(dim=2), wanted.bool())
    every = class_token_maps(model.backbone, model.head, entering, grid, torch.arange(3).expand(2, 3), first, form)
    torch.testing.assert_close(maps, every * wanted[:, :, None, None])
    assert not model.gradient_maps(entering, grid, torch.zeros(2, 3), first).any()
    torch.testing.assert_close(model.network_outputs(images, torch.ones(3))['maps'], every)


def test_affinity_of_all_blocks_spreads_the_maps(build, images) -> None:
    raw, spread = (build(test_cfg=dict(affinity=on)).network_outputs(images, torch.ones(3)) for on in (False, True))
    affinity = attention_affinity(build().backbone.encode(images, 'all').attention)
    torch.testing.assert_close(spread['maps'], spread_by_affinity(raw['maps'], affinity))
    torch.testing.assert_close(spread['scores'], raw['scores'])
    torch.testing.assert_close(raw['scores'], build()(images).sigmoid())


def test_the_cam_of_the_patches(build, images, make_samples) -> None:
    model = build(test_cfg=dict(localizer='cam'))
    with mock.patch.object(model, 'gradient_maps') as gradient_maps:
        maps = model.network_outputs(images)['maps']
        samples = model.predict(images, make_samples(LABELS))
    gradient_maps.assert_not_called()
    features = model.extract_feat(images)
    classifier = model.head.classifier
    expected = torch.einsum('bdhw,kd->bkhw', features, classifier.weight) + classifier.bias[:, None, None]
    torch.testing.assert_close(maps, expected.relu())
    assert set(samples[0].pseudo_mask.data.unique().tolist()) <= {0, 1}


def test_mirrored_views_are_added_and_brought_to_one(build, images, make_samples) -> None:
    model = build(test_cfg=dict(views=dict(scales=(1,), flip=True)))
    wanted = torch.tensor(LABELS).float()
    outputs = model.viewed_outputs(images, wanted)
    both = [model.network_outputs(view, wanted.amax(0))['maps'] for view in (images, images.flip(-1))]
    total = both[0] + both[1].flip(-1)
    torch.testing.assert_close(outputs['maps'], total)
    (sample, _) = model.predict(images, make_samples(LABELS))
    large = torch.nn.functional.interpolate(total, (16, 16), mode='bilinear', align_corners=True)[0, 0]
    expected = (large - large.min()) / (large.max() - large.min() + 1e-6)
    torch.testing.assert_close(sample.localization_maps.data[0], expected)


@pytest.mark.parametrize('context', [torch.no_grad, torch.inference_mode])
def test_prediction_without_gradients(build, images, make_samples, context) -> None:
    model = build()
    expected = model.predict(images, make_samples(LABELS))
    with context():
        found = model.predict(images, make_samples(LABELS))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one.localization_maps.data, other.localization_maps.data)
    assert all(weight.grad is None for weight in model.parameters())


def test_protocols(build, images, make_samples) -> None:
    model = build(test_cfg=dict(label_threshold=0.5))
    expected = model.predict(images, make_samples(LABELS))
    found = ProtocolSegmentor(model, ('ss', 'ss+tags', 'ms+flip+tags'), scales=(1.0, 1.5)).predict(
        images, make_samples(LABELS)
    )
    for one, other, labels in zip(expected, found, LABELS):
        assert torch.equal(other.protocol_masks.data[0], one.pred_sem_seg.data[0])
        assert torch.equal(other.protocol_masks.data[1], one.pseudo_mask.data[0])
        present = {i + 1 for i, label in enumerate(labels) if label}
        assert set(other.protocol_masks.data[2].unique().tolist()) == {0, *present}


def test_export(build, backbone_cfg, tmp_path) -> None:
    cfg = tiny_config(CONFIGS / 'vitpcm_voc12mini.py', write_data(tmp_path, 'WeakVOCDataset'), tmp_path / 'work')
    dataset = DATASETS.build(export_dataset_cfg(cfg, 'train'))
    classes = len(dataset.metainfo['classes'])
    preprocessor = ConfigDict(cfg.model.data_preprocessor)
    head = dict(type='ClassTokenHead', in_channels=8, num_classes=classes)
    backbone = {**backbone_cfg, 'img_size': 64, 'patch_size': 16, 'final_norm': False}
    settings = dict(backbone=backbone, data_preprocessor=preprocessor, head=head)
    model = build(**settings, test_cfg=dict(label_threshold=0.9))
    result = export_pseudo_labels(
        model, dataset, tmp_path / 'out', ExportSource(config='a.py', config_sha256='c0', split='train'), progress=False
    )
    assert result.written == len(dataset)
    for index, name in enumerate(image_ids(dataset)):
        item = dataset[index]
        (sample,) = model.test_step(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
        mask = np.asarray(Image.open(result.masks / f'{name}.png'))
        assert np.array_equal(mask, sample.pseudo_mask.data[0].numpy())
        present = set((sample.image_labels.nonzero()[:, 0] + 1).tolist())
        assert set(np.unique(mask).tolist()) == {0, *present}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(test_cfg=dict(localizer='lrp')), r"test_cfg\.localizer has to be one of .*, got 'lrp'"),
        (dict(test_cfg=dict(form='sum')), r"test_cfg\.form has to be one of .*, got 'sum'"),
        (dict(test_cfg=dict(start_layer=3)), r'layers of a ViT of 3 blocks are -3\.\.2'),
        (dict(test_cfg=dict(layers=3)), r'test_cfg\.layers is not an option of ACR; options are .*start_layer'),
        (dict(pretrained='a.pth'), r'`pretrained` is not supported'),
    ],
)
def test_settings_that_do_not_fit(build, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)
