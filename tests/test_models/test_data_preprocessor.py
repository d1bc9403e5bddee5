"""Normalising and stacking one or two views."""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmwsss.registry import MODELS

MEAN, STD = [10.0, 20.0, 30.0], [2.0, 4.0, 5.0]


def build(**settings):
    return MODELS.build(dict(type='WeakSegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True, **settings))


def expected(images: list[torch.Tensor]) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return torch.stack([(image.flip(0).float() - mean) / std for image in images])


@pytest.mark.parametrize('training', [True, False])
def test_dict_of_views(training: bool) -> None:
    views = dict(
        view_1=[torch.randint(0, 256, (3, 8, 12), dtype=torch.uint8) for _ in range(2)],
        view_2=[torch.rand(3, 4, 4) * 255 for _ in range(2)],
    )
    samples = [SegDataSample(), SegDataSample()]
    data = dict(inputs=dict(views), data_samples=samples)
    out = build()(data, training)
    assert list(out['inputs']) == ['view_1', 'view_2']
    for name, images in views.items():
        assert out['inputs'][name].dtype == torch.float32
        torch.testing.assert_close(out['inputs'][name], expected(images))
    assert len(out['data_samples']) == 2
    assert set(data['inputs']) == {'view_1', 'view_2'}, 'the loader still owns its batch'


@pytest.mark.parametrize('training', [True, False])
def test_list_of_images(training: bool) -> None:
    images = [torch.rand(3, 6, 6) for _ in range(3)]
    out = build()(dict(inputs=images, data_samples=[SegDataSample() for _ in images]), training)
    torch.testing.assert_close(out['inputs'], expected(images))


def test_uneven_images_are_padded_in_training_with_their_masks() -> None:
    images = [torch.rand(3, 6, 8), torch.rand(3, 8, 5)]
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, *i.shape[1:]).long())) for i in images]
    out = build(size=(8, 8))(dict(inputs=dict(view_1=images), data_samples=samples), training=True)
    assert out['inputs']['view_1'].shape == (2, 3, 8, 8)
    assert out['data_samples'][0].gt_sem_seg.data.shape == (1, 8, 8)
    assert (out['data_samples'][1].gt_sem_seg.data[..., 5:] == 255).all()


def test_uneven_images_need_padding() -> None:
    images = [torch.rand(3, 6, 8), torch.rand(3, 8, 5)]
    with pytest.raises(AssertionError, match='size in a batch should be the same'):
        build()(dict(inputs=images, data_samples=[SegDataSample()] * 2), training=True)


def test_batches_can_have_the_channels_last() -> None:
    images = [torch.randint(0, 256, (3, 6, 5), dtype=torch.uint8) for _ in range(2)]
    samples = [SegDataSample() for _ in images]
    for settings in (dict(), dict(size=(8, 8))):
        plain, last = (
            build(channels_last=flag, **settings)(dict(inputs=images, data_samples=samples), training=True)['inputs']
            for flag in (False, True)
        )
        assert plain.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(plain, last)


def test_does_not_wait_for_copies_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, to = [], torch.Tensor.to

    def record(self: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        asked.append(kwargs.get('non_blocking'))
        return to(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, 'to', record)
    for flag in (True, False):
        asked.clear()
        build(non_blocking=flag)(dict(inputs=[torch.rand(3, 6, 6)], data_samples=[SegDataSample()]))
        assert asked == [flag]
