"""What all segmentors share: the prediction contract and the helpers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmwsss.models.segmentors.single_network import SingleNetworkSegmentor
from mmwsss.models.segmentors.weak_segmentor import (
    evaluation_mode,
    first_view,
    stack_image_labels,
    with_background,
)
from mmwsss.ops import present_channels


class Fixed(SingleNetworkSegmentor):
    """Hands out the maps it was given."""

    def __init__(self, maps: torch.Tensor, background: bool, backbone: dict, **test_cfg) -> None:
        head = dict(type='CAMHead', in_channels=8, num_classes=maps.shape[1] + (not background))
        super().__init__(backbone=backbone, head=head, test_cfg=test_cfg)
        self.has_background_channel = background
        self.given = maps

    def loss(self, inputs, data_samples):
        raise NotImplementedError

    def localize(self, features):
        return self.given, self.given.amax((2, 3))[:, int(self.has_background_channel) :]

    def pseudo_maps(self, maps, labels, scores):
        return maps if labels is None else maps * present_channels(labels, maps.shape[1])[:, :, None, None]


@pytest.fixture
def maps() -> torch.Tensor:
    return torch.rand(2, 3, 4, 4) + 0.5


def test_sizes_and_types_follow_the_contract(maps, backbone_cfg, make_samples) -> None:
    model = Fixed(maps, False, backbone_cfg, bg_setting=0.9)
    samples = make_samples([[1, 0, 0], [0, 1, 1]])
    samples[0].set_metainfo(dict(ori_shape=(9, 13)))
    samples[1].set_metainfo(dict(ori_shape=(21, 7)))
    out = model.predict(torch.rand(2, 3, 16, 16), samples)
    assert out[0] is samples[0]
    for sample, size in zip(out, [(9, 13), (21, 7)]):
        for key in ('pred_sem_seg', 'pseudo_mask'):
            assert sample.get(key).data.shape == (1, *size)
            assert sample.get(key).data.dtype == torch.int64
        for key in ('localization_maps', 'pseudo_maps'):
            assert sample.get(key).data.shape == (3, *size)
        assert sample.image_scores.shape == (3,)
        assert (sample.used_image_labels, sample.bg_setting) == (True, 0.9)
        assert {'used_image_labels', 'bg_setting'} <= set(sample.metainfo_keys())


@pytest.mark.parametrize('background', [False, True])
def test_image_labels_change_the_pseudo_mask_and_never_the_prediction(
    maps, backbone_cfg, make_samples, background: bool
) -> None:
    model = Fixed(maps, background, backbone_cfg, bg_setting=0.6)
    images = torch.rand(2, 3, 16, 16)
    classes = 2 if background else 3
    free = model.predict(images, make_samples(None, count=2))
    labels = [[0] * (classes - 1) + [1], [0] * classes]
    aware = model.predict(images, make_samples(labels))
    other = model.predict(images, make_samples([[1] + [0] * (classes - 1), [1] * classes]))
    for a, b, c in zip(free, aware, other):
        assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)
        assert torch.equal(a.pred_sem_seg.data, c.pred_sem_seg.data)
        assert not a.used_image_labels
        assert torch.equal(a.pseudo_mask.data, a.pred_sem_seg.data)
    assert set(aware[0].pseudo_mask.data.unique().tolist()) <= {0, classes}
    assert (aware[0].pseudo_mask.data == classes).any()
    assert (aware[1].pseudo_mask.data == 0).all()
    first = int(background)
    assert (aware[1].localization_maps.data[first:] == 0).all()
    assert (aware[1].localization_maps.data[:first] > 0).all()


def test_labels_are_left_alone_when_switched_off_or_unknown(maps, backbone_cfg, make_samples) -> None:
    images = torch.rand(2, 3, 16, 16)
    off = Fixed(maps, False, backbone_cfg, bg_setting=0.6, use_image_labels=False)
    on = Fixed(maps, False, backbone_cfg, bg_setting=0.6)
    unknown = make_samples(None, count=2)
    for out in (off.predict(images, make_samples([[1, 0, 0]] * 2)), on.predict(images, unknown)):
        assert not any(sample.used_image_labels for sample in out)
        assert all(torch.equal(s.pseudo_mask.data, s.pred_sem_seg.data) for s in out)


def test_prediction_without_samples(maps, backbone_cfg) -> None:
    (first, _) = Fixed(maps, False, backbone_cfg).predict(torch.rand(2, 3, 12, 20))
    assert first.pred_sem_seg.data.shape == (1, 12, 20)
    assert not first.used_image_labels


def test_maps_of_the_size_of_the_input(maps, backbone_cfg) -> None:
    model = Fixed(maps, False, backbone_cfg)
    out = model.encode_decode(torch.rand(2, 3, 12, 20), [{}, {}])
    torch.testing.assert_close(out, nn.functional.interpolate(maps, (12, 20), mode='bilinear', align_corners=True))
    assert out[0, 0, 0, 0] == maps[0, 0, 0, 0]


def test_tensor_mode_gives_the_output_of_the_head(maps, backbone_cfg) -> None:
    model = Fixed(maps, False, backbone_cfg)
    images = torch.rand(2, 3, 16, 24)
    out = model(dict(view_1=images), mode='tensor')
    assert torch.equal(out, model(images, mode='tensor'))
    assert out.shape == (2, 3, 4, 6)


def test_pretrained_is_refused(backbone_cfg) -> None:
    class Pretrained(Fixed):
        def __init__(self) -> None:
            SingleNetworkSegmentor.__init__(self, backbone=backbone_cfg, head={}, pretrained='x.pth')

    with pytest.raises(ValueError, match='`pretrained` is not supported; set init_cfg'):
        Pretrained()


def test_stacked_labels(make_samples) -> None:
    labels = stack_image_labels(make_samples([[1, 0], [0, 1]]), 2)
    assert labels.tolist() == [[1, 0], [0, 1]]
    assert labels.dtype == torch.float32
    with pytest.raises(ValueError, match=r'image_0\.jpg carries no image_labels; use a weak dataset'):
        stack_image_labels(make_samples(None, count=1), 2)
    with pytest.raises(ValueError, match=r'image_0\.jpg: expected 3 image labels \(num_classes - 1\), got \(2,\)'):
        stack_image_labels(make_samples([[1, 0]]), 3)


def test_background_column() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert with_background(labels).tolist() == [[1, 1, 0], [1, 0, 1]]
    assert with_background(labels, torch.tensor([0.0, 1.0])).tolist() == [[0, 1, 0], [1, 0, 1]]
    assert with_background(labels.half()).dtype == torch.float16


def test_first_view() -> None:
    view = torch.rand(1)
    assert first_view(view) is view
    assert first_view(dict(view_2=torch.rand(1), view_1=view)) is view


def test_evaluation_mode_restores_each_module_even_after_an_exception() -> None:
    inside = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.BatchNorm2d(2)))
    inside[1][1].eval()
    outside = nn.Dropout()
    before = [m.training for m in inside.modules()]
    assert before == [True, True, True, True, False]

    def watched() -> None:
        with evaluation_mode(inside, None):
            assert not any(m.training for m in inside.modules())
            assert outside.training
            raise KeyError('stop')

    with pytest.raises(KeyError, match='stop'):
        watched()
    assert [m.training for m in inside.modules()] == before
    with evaluation_mode(inside, inside[1]):
        assert not inside[1][0].training
    assert [m.training for m in inside.modules()] == before


def test_mixed_batches_are_refused(maps, backbone_cfg, make_samples) -> None:
    model = Fixed(maps, False, backbone_cfg)
    samples = [*make_samples([[1, 0, 0]]), *make_samples(None, count=1)]
    with pytest.raises(ValueError, match='carries no image_labels'):
        model.predict(torch.rand(2, 3, 16, 16), samples)


def test_padded_batches_are_refused(maps, backbone_cfg, make_samples) -> None:
    model = Fixed(maps, False, backbone_cfg)
    samples = make_samples([[1, 0, 0], [0, 1, 1]])
    samples[1].set_metainfo(dict(img_padding_size=(0, 15, 0, 0)))
    with pytest.raises(ValueError, match='were padded to a batch'):
        model.predict(torch.rand(2, 3, 16, 16), samples)


@pytest.mark.parametrize(
    'views', [dict(flip=True), dict(scales=()), dict(scales=(1, -1)), dict(scales=(1,), flips=True)], ids=str
)
def test_views_are_checked(maps, backbone_cfg, views) -> None:
    with pytest.raises(ValueError, match=r'test_cfg\.views needs positive scales'):
        Fixed(maps, False, backbone_cfg, views=views)


class Brightness(Fixed):
    """Maps that are the image itself, pooled: a mirrored view gives mirrored maps."""

    def network_outputs(self, inputs):
        pooled = torch.nn.functional.avg_pool2d(inputs, 4)
        return dict(maps=pooled, scores=pooled.amax((2, 3)))


def test_views_are_averaged(maps, backbone_cfg) -> None:
    images = torch.rand(2, 3, 16, 16)
    plain = Brightness(maps, False, backbone_cfg)
    expected = plain.viewed_outputs(images)
    for scales, flip in (((1,), True), ((1, 1), False)):
        model = Brightness(maps, False, backbone_cfg, views=dict(scales=scales, flip=flip))
        torch.testing.assert_close(model.viewed_outputs(images), expected)
    model = Brightness(maps, False, backbone_cfg, views=dict(scales=(0.5, 1.0)))
    viewed, expected = model.viewed_outputs(images)['maps'], expected['maps']
    assert viewed.shape == expected.shape
    small = model.network_outputs(torch.nn.functional.interpolate(images, size=(8, 8), mode='bilinear'))['maps']
    enlarged = torch.nn.functional.interpolate(small, size=(4, 4), mode='bilinear')
    torch.testing.assert_close(viewed, (expected + enlarged) / 2)
