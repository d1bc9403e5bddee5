import pytest
import torch
from PIL import Image

from mmwsss.pseudo_labels.multi_crop import crop_boxes, crop_views, multi_crop_boxes, multi_crop_maps


def test_inner_crops_are_as_wide_as_the_stride_or_the_crop():
    narrow = crop_boxes((40, 100), 1.0, crop_size=40, stride=25)
    assert narrow.tolist() == [[0, 40, 0, 25], [0, 40, 25, 50], [0, 40, 50, 75], [0, 40, 60, 100]]
    wide = crop_boxes((40, 100), 1.0, crop_size=40, stride=25, inner_crop='crop_size')
    assert wide.tolist() == [[0, 40, 0, 40], [0, 40, 25, 65], [0, 40, 50, 90], [0, 40, 60, 100]]


def test_boxes_are_in_pixels_of_the_image_at_every_scale():
    boxes, counts = multi_crop_boxes((30, 50), [0.5, 2.0], crop_size=40, stride=30)
    assert counts == [1, 6]
    assert boxes[0].tolist() == [0, 30, 0, 50]
    covered = torch.zeros(30, 50)
    for top, bottom, left, right in boxes[1:].tolist():
        assert 0 <= top < bottom <= 30
        assert 0 <= left < right <= 50
        covered[top:bottom, left:right] += 1
    assert covered.all()


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(scale=0.0), 'scales have to be positive'),
    (dict(scale=1.0, inner_crop='wide'), "inner_crop has to be one of .*'wide'"),
])  # fmt: skip
def test_wrong_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        crop_boxes((30, 50), **kwargs)


def picture(height=20, width=30):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_crops_are_resized_as_pillow_does():
    image = picture()
    crops = crop_views(image, torch.tensor([[2, 18, 5, 21], [0, 20, 0, 30]]), 16)
    assert (crops.shape, crops.dtype) == ((2, 3, 16, 16), torch.uint8)
    assert torch.equal(crops[0], image[:, 2:18, 5:21])
    whole = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BILINEAR)
    assert crops[1, :, 3, 4].tolist() == list(whole.getpixel((4, 3)))


def crop_network(calls):
    def network(crops):
        calls.append(len(crops))
        value = crops.float().mean((1, 2, 3), keepdim=True)
        ramp = torch.linspace(0, 1, crops.shape[-1])  # not symmetric: a flip matters
        return (value + ramp).expand(-1, 3, *crops.shape[-2:])

    return network


def test_maps_are_means_over_covering_crops():
    image, boxes, calls = picture(), torch.tensor([[0, 20, 0, 20], [0, 20, 10, 30]]), []
    maps = multi_crop_maps(crop_network(calls), image, boxes, crop_size=20, flip=False, max_batch=8)
    assert calls == [2]
    first, second = (image[:, :, a:b].float().mean() + torch.linspace(0, 1, 20) for a, b in ((0, 20), (10, 30)))
    torch.testing.assert_close(maps[1, 7, :10], first[:10])
    torch.testing.assert_close(maps[1, 7, 10:20], (first[10:] + second[:10]) / 2)
    torch.testing.assert_close(maps[1, 7, 20:], second[10:])


def test_flips_are_undone_and_batched():
    image, boxes, calls = picture(), torch.tensor([[0, 20, 0, 20], [0, 20, 10, 30], [0, 10, 0, 10]]), []
    maps = multi_crop_maps(crop_network(calls), image, boxes[:1], crop_size=20)
    torch.testing.assert_close(maps[0, 0, :20], (image[:, :, :20].float().mean() + 0.5).expand(20))
    assert not maps[:, :, 20:].any()  # nothing covers these pixels
    multi_crop_maps(crop_network(calls), image, boxes, crop_size=20, max_batch=4)
    assert calls == [2, 4, 2]


def test_labels_mask_classes_and_dtype_is_kept_small():
    image, boxes = picture(), torch.tensor([[0, 20, 0, 30]])
    with_background = multi_crop_maps(
        crop_network([]), image, boxes, crop_size=16, labels=torch.tensor([0.0, 1.0]), dtype=torch.float16
    )
    assert with_background.dtype == torch.float16
    assert [bool(channel.any()) for channel in with_background] == [True, False, True]
    foreground = multi_crop_maps(crop_network([]), image, boxes, crop_size=16, labels=torch.tensor([0.0, 1.0, 0.0]))
    assert [bool(channel.any()) for channel in foreground] == [False, True, False]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='no boxes to crop'):
        multi_crop_maps(crop_network([]), picture(), torch.zeros(0, 4, dtype=torch.long))
    with pytest.raises(ValueError, match='max_batch has to be at least 1'):
        multi_crop_maps(crop_network([]), picture(), torch.tensor([[0, 20, 0, 30]]), max_batch=0)
