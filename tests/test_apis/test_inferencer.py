from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from tiny_configs import CONFIGS, tiny_config
from tiny_inference import NAMES

from mmwsss.apis import UsageError, WSSSInferencer
from mmwsss.apis.image_loading import batches
from mmwsss.apis.image_sources import image_sources
from mmwsss.apis.publishing import pack
from mmwsss.registry import DATASETS, MODELS


def expected_samples(files, inferencer):
    """Predictions of the validation images one by one, through data set and model as a test runs them."""
    dataset = DATASETS.build(files.cfg.test_dataloader.dataset)
    samples = [inferencer.model.test_step(pseudo_collate([dataset[i]]))[0] for i in range(len(dataset))]
    return {sample.img_id: sample for sample in samples}


def test_it_predicts_what_a_test_does(files, inferencer):
    expected = expected_samples(files, inferencer)
    labels = {name: sample.image_labels.numpy() for name, sample in expected.items()}
    found = inferencer(files.paths[:2], image_labels=labels, progress=False)
    assert [prediction.name for prediction in found] == NAMES[:2]
    for prediction in found:
        sample = expected[prediction.name]
        assert prediction.used_labels
        np.testing.assert_array_equal(prediction.labels, sample.image_labels.numpy())
        np.testing.assert_array_equal(prediction.segmentation, sample.pred_sem_seg.data[0].numpy())
        np.testing.assert_array_equal(prediction.pseudo_mask, sample.pseudo_mask.data[0].numpy())
        np.testing.assert_allclose(prediction.maps, sample.localization_maps.data.numpy(), atol=1e-4)
        np.testing.assert_allclose(prediction.scores, sample.image_scores.numpy(), atol=1e-4)
        assert set(np.unique(prediction.pseudo_mask)) <= {0, *np.flatnonzero(prediction.labels) + 1}
    free = inferencer(files.paths[:2], progress=False)
    assert not any(prediction.used_labels or prediction.labels is not None for prediction in free)
    np.testing.assert_array_equal(free[0].segmentation, found[0].segmentation)
    assert len(np.unique(free[0].segmentation)) > 1
    assert np.any(free[0].pseudo_mask != found[0].pseudo_mask)


def test_every_kind_of_image_gives_the_same(files, inferencer, tmp_path):
    plain = inferencer(files.paths, progress=False)
    rgb = [np.asarray(Image.open(path)) for path in files.paths]
    bgr = [array[..., ::-1] for array in rgb]
    folder = tmp_path / 'a folder'
    (folder / 'deeper').mkdir(parents=True)
    for path, place in zip(files.paths, ('b.jpg', 'a.jpg', 'deeper/c.JPG')):
        (folder / place).write_bytes(Path(path).read_bytes())
    (folder / 'notes.txt').write_text('no image')
    in_folder = [plain[1], plain[0], plain[2]]
    url = (folder / 'b.jpg').as_uri()
    assert '%20' in url
    cases = [
        (files.paths[0], plain[:1]),
        ([url], plain[:1]),
        (folder, in_folder),
        (str(folder / '*.jpg'), in_folder[:2]),
        (bgr, plain),
        ((path for path in files.paths), plain),
        ([[files.paths[0]], (bgr[1], Image.open(files.paths[2]))], plain),
    ]
    for images, expected in cases:
        found = inferencer(images, progress=False)
        assert len(found) == len(expected)
        for prediction, other in zip(found, expected):
            np.testing.assert_array_equal(prediction.segmentation, other.segmentation)
    (found,) = inferencer(rgb[0], channel_order='rgb', progress=False)
    np.testing.assert_allclose(found.maps, plain[0].maps, atol=1e-4)
    assert [p.name for p in inferencer(folder, progress=False)] == ['a', 'b', 'deeper/c']
    assert [p.name for p in inferencer(bgr[:2], progress=False)] == ['image_00000', 'image_00001']
    (swapped,) = inferencer(rgb[0], progress=False)
    assert np.abs(swapped.maps - plain[0].maps).max() > 0.01


def test_images_of_one_shape_share_a_pass_and_keep_their_place(files):
    cfg = files.cfg.copy()
    dataset = cfg.test_dataloader.dataset
    dataset.pipeline = [step for step in dataset.pipeline if step['type'] != 'ResizeAlignCorners']
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, 32, 3), dtype=np.uint8) for height in (32, 40, 32, 40, 32, 48)]
    inferencer = WSSSInferencer(cfg, files.weights, 'cpu', batch_size=3, num_workers=0)
    passes = []
    handle = inferencer.model.backbone.register_forward_hook(lambda _, inputs, __: passes.append(inputs[0].shape[0]))
    together = inferencer(images, progress=False)
    assert sorted(passes) == [1, 2, 3]
    passes.clear()
    alone = [inferencer(image, progress=False)[0] for image in images]
    assert passes == [1] * 6
    handle.remove()
    for image, prediction, other in zip(images, together, alone):
        assert prediction.segmentation.shape == image.shape[:2]
        np.testing.assert_allclose(prediction.maps, other.maps, atol=1e-4)
    assert [prediction.name[-1] for prediction in together] == list('012345')


def test_batches_do_not_wait_for_ever():
    shapes = [(i % 40,) for i in range(60)]
    images = [SimpleNamespace(packed=True, kind=shape) for shape in shapes]
    seen = []

    def reading():
        for image in images:
            seen.append(image)
            yield image

    first = next(batches(reading(), 2))
    assert first == [images[0]]
    assert len(seen) == 16
    assert sorted(map(id, (image for batch in batches(images, 2) for image in batch))) == sorted(map(id, images))
    odd_first = [SimpleNamespace(packed=True, kind=number > 0) for number in range(100)]
    places = [odd_first[0] in batch for batch in batches(odd_first, 2)]
    assert places.index(True) == 7, 'no image of its shape follows, and all others wait for its result'
    broken = [odd_first[0], *(SimpleNamespace(packed=None, kind=None) for _ in range(100))]
    assert next(index for index, batch in enumerate(batches(broken, 2)) if odd_first[0] in batch) < 16


def test_tags_by_name_vector_and_file(files, inferencer, tmp_path):
    path, names = files.paths[0], inferencer.classes
    (tmp_path / 'tags.csv').write_text(f'{NAMES[0]},{names[2]} {names[5]}\n')
    vector = np.zeros(len(names) - 1)
    vector[[1, 4]] = 1
    ways = [
        dict(classes=[names[2], names[5]]),
        dict(classes=[[names[2], names[5]]]),
        dict(classes={NAMES[0]: [names[5], names[2]]}),
        dict(classes=[{names[2], names[5]}]),
        dict(image_labels=vector),
        dict(image_labels=[np.concatenate(([1], vector))]),
        dict(image_labels=tmp_path / 'tags.csv'),
    ]
    for tags in ways:
        (found,) = inferencer(path, progress=False, **tags)
        np.testing.assert_array_equal(found.labels, vector.astype(np.float32))
        assert found.used_labels
    untagged, tagged = inferencer(files.paths[:2], classes=[None, [names[1]]], progress=False)
    assert (untagged.used_labels, tagged.used_labels) == (False, True)
    wrong = [
        (dict(classes=['dragon']), 'unknown class: "dragon"'),
        (dict(classes=[[names[1]], [names[1]]]), 'labels are given for 2 images, but there are 1'),
        (dict(image_labels=[[1, 0]]), 'label vector'),
        (dict(image_labels=vector, classes=[names[1]]), 'either image_labels or classes'),
        (dict(classes={'nobody': [names[1]]}), 'labels are given for nobody'),
        (dict(image_labels=tmp_path / 'gone.csv'), 'gone.csv does not exist'),
        (dict(classes='tags.csv'), r"classes='tags\.csv' names no class; give a label file as image_labels="),
        (dict(classes=tmp_path / 'tags'), r"tags' names no class; give a label file as image_labels="),
    ]
    for tags, message in wrong:
        with pytest.raises(UsageError, match=message):
            inferencer(path, progress=False, **tags)


def test_unreadable_images_come_up_before_the_network_runs(files, inferencer, tmp_path, monkeypatch):
    cut = tmp_path / 'cut.jpg'
    cut.write_bytes(Path(files.paths[0]).read_bytes()[:900])
    images = [files.paths[0], str(cut), str(tmp_path / 'gone.jpg'), files.paths[1]]
    ran = []
    monkeypatch.setattr(inferencer.model, 'test_step', lambda data: ran.append(data))
    with pytest.raises(UsageError, match=r'2 of 4 images cannot be read .*cut\.jpg: .*gone\.jpg: no such file'):
        inferencer(images, progress=False)
    with pytest.raises(UsageError, match=r'cut\.jpg'):
        list(inferencer.stream(iter([str(cut)])))
    assert not ran
    monkeypatch.undo()
    (tmp_path / 'noise.jpg').write_bytes(b'this is no image')
    left = inferencer([*images, str(tmp_path / 'noise.jpg')], skip_corrupt=True, progress=False)
    assert [prediction.name for prediction in left if prediction.name != 'cut'] == NAMES[:2]
    assert {problem.item for problem in inferencer.skipped} >= {str(tmp_path / 'gone.jpg'), str(tmp_path / 'noise.jpg')}
    inferencer(files.paths[:1], progress=False)
    assert inferencer.skipped == []


def test_weights_of_another_config_name_it(files, tmp_path):
    content = torch.load(files.weights)
    content['state_dict']['head.classifier.weight'] = torch.zeros(9, 9)
    content['meta'] = dict(experiment_name='vitpcm_vit-b16_4xb16-13k_voc12aug-384x384_20240229_123456')
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(UsageError, match=r'\); is it of another config\? its meta says vitpcm_\S+-384x384$'):
        WSSSInferencer(files.cfg, tmp_path / 'other.pth', 'cpu')


def test_safetensors_with_their_meta(files, tmp_path):
    pytest.importorskip('safetensors')
    content = torch.load(files.weights)
    classes = ['background', *'abcdef']
    path = tmp_path / 'weights.safetensors'
    path.write_bytes(pack(content | dict(meta=dict(dataset_meta=dict(classes=classes))), path.suffix))
    assert WSSSInferencer(files.cfg, path, 'cpu').classes == classes


def test_frames_may_share_memory(files, inferencer):
    array = np.asarray(Image.open(files.paths[0]))
    arrays = [array, array[::-1], array[:, ::-1]]
    expected = inferencer(arrays, channel_order='bgr', progress=False)

    def frames():
        frame = np.empty_like(arrays[0])
        for array in arrays:
            frame[:] = array
            yield frame

    for found, other in zip(inferencer.stream(frames()), expected):
        np.testing.assert_allclose(found.maps, other.maps, atol=1e-4)


def test_pillow_images_are_what_their_files_are(tmp_path):
    rng = np.random.default_rng(0)
    turned, deep, alpha = tmp_path / 'turned.png', tmp_path / 'deep.png', tmp_path / 'alpha.png'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)).save(turned, exif=exif)
    Image.fromarray(rng.integers(0, 65536, (4, 6), np.uint16)).save(deep)
    Image.fromarray(rng.integers(0, 256, (4, 6, 4), np.uint8)).save(alpha)
    for path, shape in ((turned, (6, 4, 3)), (deep, (4, 6, 3)), (alpha, (4, 6, 3))):
        in_file, in_memory = (next(image_sources(image)).read() for image in (str(path), Image.open(path)))
        assert in_memory.shape == shape
        np.testing.assert_array_equal(in_memory, in_file)
    with pytest.raises(UsageError, match='image_00000: images of mode F have no range'):
        next(image_sources(Image.new('F', (4, 4))))
    alpha.write_bytes(alpha.read_bytes()[:-30])
    with pytest.raises(UsageError, match=r'image_00000: the PIL image cannot be read'):
        next(image_sources(Image.open(alpha)))


def test_refiners_see_images_that_are_no_files(files):
    inferencer = WSSSInferencer(files.cfg, files.weights, 'cpu', steps='par', num_workers=0)
    assert inferencer.model.pseudo_labeler.needs_images
    (from_file,) = inferencer(files.paths[0], classes=['striped_disc'], progress=False)
    array = np.asarray(Image.open(files.paths[0]))
    (from_array,) = inferencer(array, classes=['striped_disc'], channel_order='rgb', progress=False)
    np.testing.assert_array_equal(from_file.pseudo_mask, from_array.pseudo_mask)


def test_refusals(files, inferencer, tmp_path):
    torch.save({'state_dict': {}, 'meta': {'dataset_meta': {'classes': ['background', 'a']}}}, tmp_path / 'other.pth')
    cases = [
        (lambda: WSSSInferencer(files.cfg), 'no weights: name a checkpoint'),
        (lambda: WSSSInferencer('vitpcm_shape', files.weights), 'nearest: vitpcm_shapes'),
        (lambda: WSSSInferencer(files.cfg, tmp_path / 'gone.pth'), r'weights: .*gone\.pth does not exist'),
        (lambda: WSSSInferencer(files.cfg, files.weights, 'nowhere'), '--device nowhere cannot be used'),
        (lambda: WSSSInferencer(files.cfg, tmp_path / 'other.pth', 'cpu'), 'weights missing'),
        (lambda: WSSSInferencer(files.cfg, files.weights, 'cpu', batch_size=0), 'batch size 0'),
        (lambda: inferencer(tmp_path), 'has no images'),
        (lambda: inferencer(str(tmp_path / '*.jpg')), 'no image fits the pattern'),
        (lambda: inferencer([3]), 'cannot read an image from int'),
        (lambda: inferencer(np.zeros((4, 4), np.uint8)), r'expected arrays \(H, W, 3\) uint8'),
        (lambda: inferencer([], channel_order='gbr'), 'channel_order has to be one of'),
    ]
    for call, message in cases:
        with pytest.raises(UsageError, match=message):
            call()
    assert inferencer([], progress=False) == []


@pytest.mark.parametrize('config', ['fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144_cp', 'cosa_shapes', 'acr_shapes'])
def test_other_models(files, tmp_path, config):
    path = next(CONFIGS.rglob(f'{config}.py'))
    cfg = tiny_config(path, files.folder.parent, tmp_path)
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'weights.pth')
    inferencer = WSSSInferencer(cfg, tmp_path / 'weights.pth', 'cpu', num_workers=0)
    graphs = []
    weak = config != 'fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144_cp'
    if not weak:
        inferencer.model.backbone.register_forward_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
    found = inferencer(files.paths, out_dir=tmp_path / 'out', progress=False)
    assert weak or (graphs and not any(graphs))
    assert [prediction.segmentation.max() < len(inferencer.classes) for prediction in found] == [True] * 3
    assert len(list((tmp_path / 'out' / 'panels').iterdir())) == 3
    assert [prediction.maps is not None for prediction in found] == [weak] * 3
    assert (tmp_path / 'out' / 'pseudo_masks').exists() == weak
    if not weak:
        with pytest.raises(UsageError, match='makes no pseudo masks; leave out the image labels'):
            inferencer(files.paths[0], classes=[inferencer.classes[1]], progress=False)
