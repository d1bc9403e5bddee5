import cv2
import numpy as np
import pytest

from mmwsss.datasets.voc import voc_colour_map
from mmwsss.visualization import make_panel, montage, save_png
from mmwsss.visualization.panels import IGNORED, overlay_mask

CLASSES = ('background', 'cat', 'dog', 'cow')
PALETTE = [[0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200]]


def scene(size=(96, 96), channels=3):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    maps = rng.random((channels, *size)).astype(np.float32)
    truth = np.zeros(size, dtype=np.int64)
    truth[10:40, 10:40] = 1
    truth[50:80, 50:80] = 3
    truth[:4] = 255
    return image, maps, truth


def has_color(panel, color):
    return bool((panel == np.array(color, dtype=np.uint8)).all(-1).any())


def test_size_and_colours():
    image, maps, truth = scene()
    panel = make_panel(image, maps, truth, truth, CLASSES, PALETTE, prediction=truth, opacity=1.0)
    # image, two maps, three masks; enlarged by two
    assert panel.shape == (22 + 192 + 22, 6 * 192 + 5 * 4, 3)
    assert panel.dtype == np.uint8
    tile = panel[22:214]
    for column in (3, 4, 5):
        mask = tile[:, column * 196 : column * 196 + 192]
        assert has_color(mask, PALETTE[1])
        assert has_color(mask, PALETTE[3])
        assert has_color(mask, IGNORED)
        assert not has_color(mask, PALETTE[2])
    legend = panel[214:]
    assert has_color(legend, PALETTE[1])
    assert has_color(legend, IGNORED)
    assert not has_color(legend, PALETTE[2])
    np.testing.assert_array_equal(tile[::2, :192:2], image)


def test_mask_is_blended_over_the_image():
    image = np.full((96, 96, 3), 100, dtype=np.uint8)
    _, _, truth = scene()
    panel = make_panel(image, None, None, truth, CLASSES, PALETTE, opacity=0.5)
    assert panel.shape[1] == 2 * 192 + 4
    assert has_color(panel[22:214, 196:], [150, 65, 65])


@pytest.mark.parametrize('level', [0, 60, 128, 255])
def test_every_colour_of_voc_stands_out(level):
    colors = np.array(voc_colour_map(21), np.uint8)
    mask = np.append(np.arange(21), 255)[None]
    painted = overlay_mask(np.full((1, 22, 3), level, np.uint8), mask, colors, 255, 0.7).astype(int)
    background, ignored = painted[0, 0], painted[0, 21]
    assert np.abs(painted[0, 1:] - background).max(axis=-1).min() >= 40
    assert np.abs(painted[0, :21] - ignored).max(axis=-1).min() >= 40


def test_the_legend_leaves_out_what_nobody_sees():
    image, maps, truth = scene((100, 100))
    truth[90, 90:92] = 2  # 2 of 10000 pixels
    legend = make_panel(image, None, truth, truth, CLASSES, PALETTE)[222:]
    assert has_color(legend, PALETTE[3])
    assert not has_color(legend, PALETTE[2])
    with_map = make_panel(image, maps, truth, truth, CLASSES, PALETTE, image_labels=np.array([0, 1, 0]))[222:]
    assert has_color(with_map, PALETTE[2])
    truth[91, 90] = 2
    assert has_color(make_panel(image, None, None, truth, CLASSES, PALETTE)[222:], PALETTE[2])


def test_missing_parts_and_image_labels():
    image, maps, _ = scene(channels=4)
    panel = make_panel(image, maps, None, None, CLASSES, PALETTE, image_labels=np.array([0.0, 1.0, 0.0]))
    assert panel.shape[1] == 2 * 192 + 4  # the image and the map of the dog
    assert has_color(panel[:22, 196:], PALETTE[2])
    full = make_panel(image, maps, None, None, CLASSES, PALETTE, image_labels=np.array([0, 1, 0]), fill_maps=True)
    assert full.shape[1] == 4 * 192 + 3 * 4
    assert (full[22:214, 2 * 196 :] == 255).all()


def test_strongest_maps_are_kept():
    image, maps, _ = scene()
    maps[0] *= 0.1
    panel = make_panel(image, maps, None, None, CLASSES, PALETTE, max_maps=2)
    assert panel.shape[1] == 3 * 192 + 2 * 4
    assert not has_color(panel[:22], PALETTE[1])


def test_tiles_keep_within_the_heights():
    image, maps, truth = scene((500, 333))
    assert make_panel(image, maps, truth, truth, CLASSES, PALETTE).shape[0] == 22 + 320 + 22
    image, maps, truth = scene((200, 300))
    assert make_panel(image, maps, truth, truth, CLASSES, PALETTE).shape[0] == 22 + 200 + 22


def test_captions_are_drawn():
    image, maps, truth = scene()
    plain = make_panel(image, maps, truth, truth, CLASSES, PALETTE)
    tags = make_panel(image, maps, truth, truth, CLASSES, PALETTE, used_image_labels=True)
    assert (plain[:22] < 100).all(-1).sum() > 50
    assert (plain[:22] != tags[:22]).any()
    np.testing.assert_array_equal(plain[22:], tags[22:])


def test_errors():
    image, maps, truth = scene()
    with pytest.raises(ValueError, match='palette has 2 colours for 4 classes'):
        make_panel(image, maps, truth, truth, CLASSES, PALETTE[:2])
    with pytest.raises(ValueError, match='maps must have 3 or 4 channels, got 2'):
        make_panel(image, maps[:2], truth, truth, CLASSES, PALETTE)
    with pytest.raises(ValueError, match='must have the size'):
        make_panel(image, maps, truth[:5], truth, CLASSES, PALETTE)
    with pytest.raises(ValueError, match='uint8'):
        make_panel(image.astype(float), maps, truth, truth, CLASSES, PALETTE)
    with pytest.raises(ValueError, match='at least one'):
        montage([])


def test_montage_and_png(tmp_path):
    small, large = np.full((10, 20, 3), 7, np.uint8), np.full((12, 30, 3), 9, np.uint8)
    large[..., 0] = 200
    stacked = montage([small, large])
    assert stacked.shape == (10 + 12 + 2 * 4, 30, 3)
    assert (stacked[:10, 20:] == 255).all()
    path = save_png(tmp_path / 'new' / 'a.png', stacked)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], stacked)
    assert [p.name for p in path.parent.iterdir()] == ['a.png']
