import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmwsss.evaluation import WSSSMetric, confusion
from mmwsss.pseudo_labels import maps_to_mask
from mmwsss.registry import METRICS

CLASSES = ('background', 'cat', 'dog')
SIZE = (12, 10)


def make_sample(seed, tags=True, has_background=False, bg_setting=0.4, **drop):
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.random((len(CLASSES) - 1 + has_background, *SIZE)).astype(np.float32))
    pseudo = maps_to_mask(maps, bg_setting, has_background)
    pseudo[0] = 255
    fields = {
        'gt_sem_seg': torch.from_numpy(rng.integers(0, 3, (1, *SIZE))),
        'pred_sem_seg': torch.from_numpy(rng.integers(0, 3, (1, *SIZE))),
        'localization_maps': maps,
        'pseudo_mask': pseudo[None],
    }
    sample = SegDataSample(metainfo={'img_path': f'{seed}.jpg', 'used_image_labels': tags, 'bg_setting': bg_setting})
    for name, data in fields.items():
        if name not in drop:
            sample.set_data({name: PixelData(data=data)})
    if 'image_labels' not in drop:
        sample.image_labels = torch.tensor([1.0, float(seed % 2)])
    sample.image_scores = torch.from_numpy(rng.random(2).astype(np.float32))
    return sample


def evaluate(samples, size=None, **kwargs):
    metric = METRICS.build({'type': 'WSSSMetric', **kwargs})
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {'classes': CLASSES}
    evaluator.process(samples)
    return evaluator.evaluate(len(samples) if size is None else size), metric


def reference_miou(samples, predict):
    conf = np.zeros((3, 4))
    for sample in samples:
        np.add.at(conf, (sample.gt_sem_seg.data[0].flatten(), predict(sample).flatten().clamp(max=3)), 1)
    hits = conf[range(3), range(3)]
    return 100 * np.mean(hits / (conf.sum(1) + conf.sum(0)[:3] - hits))


def test_names_and_values():
    samples = [make_sample(seed) for seed in range(4)]
    scores, metric = evaluate(samples)
    assert list(scores) == [
        'seg_mIoU', 'maps_mIoU+tags', 'maps_mIoU_best+tags', 'maps_bg_best+tags', 'pseudo_mIoU+tags',
        'pseudo_mIoU_best+tags', 'pseudo_bg_best+tags', 'mAP', 'f1_macro', 'f1_micro',
    ]  # fmt: skip
    assert scores['seg_mIoU'] == pytest.approx(reference_miou(samples, lambda s: s.pred_sem_seg.data), abs=0.006)
    assert scores['pseudo_mIoU+tags'] == pytest.approx(reference_miou(samples, lambda s: s.pseudo_mask.data), abs=0.006)
    grid = {b: reference_miou(samples, lambda s, b=b: maps_to_mask(s.localization_maps.data, b, False))
            for b in [i / 20 for i in range(20)]}  # fmt: skip
    assert scores['maps_mIoU+tags'] == pytest.approx(grid[0.4], abs=0.006)
    assert scores['maps_mIoU_best+tags'] == pytest.approx(max(grid.values()), abs=0.006)
    assert scores['maps_bg_best+tags'] == max(grid, key=grid.get)
    assert scores['pseudo_mIoU_best+tags'] == scores['maps_mIoU_best+tags']  # fell back to the maps
    assert set(metric.per_class) == {'seg_IoU', 'maps_IoU+tags', 'pseudo_IoU+tags', 'AP'}
    assert list(metric.per_class['seg_IoU']) == list(CLASSES)
    assert list(metric.per_class['AP']) == list(CLASSES[1:])
    assert scores['mAP'] == pytest.approx(np.mean(list(metric.per_class['AP'].values())), abs=0.01)


def test_no_tags_in_names_without_image_labels():
    scores, _ = evaluate([make_sample(0, tags=False)])
    assert 'maps_mIoU' in scores
    assert not any(name.endswith('+tags') for name in scores)


def test_background_channel_at_one_is_argmax():
    samples = [make_sample(seed, has_background=True, bg_setting=1.0) for seed in range(3)]
    scores, metric = evaluate(samples)
    expected = reference_miou(samples, lambda s: s.localization_maps.data.argmax(0))
    assert scores['maps_mIoU+tags'] == pytest.approx(expected, abs=0.006)
    settings = metric.background_settings(True, 1.0)
    assert len(settings) == 21
    assert (settings[0], settings[10], settings[-1]) == (0.1, 1.0, 10.0)


def test_configured_setting_joins_the_grid():
    assert evaluate([make_sample(0, bg_setting=0.33)])[1].background_settings(False, 0.33).count(0.33) == 1
    scores, _ = evaluate([make_sample(0, bg_setting=0.33)], bg_grid=[2.0])
    assert scores['maps_bg_best+tags'] == 0.33  # at 2.0 everything is background
    assert scores['maps_mIoU_best+tags'] == scores['maps_mIoU+tags']


def test_pseudo_maps_have_their_own_sweep():
    sample = make_sample(0)
    truth = sample.gt_sem_seg.data[0]
    sample.pseudo_maps = PixelData(data=torch.nn.functional.one_hot(truth, 3).permute(2, 0, 1).float())
    scores, _ = evaluate([sample])
    assert scores['pseudo_mIoU_best+tags'] == 100.0
    assert scores['maps_mIoU_best+tags'] < 100.0


def test_padding_is_cut_off_exactly():
    samples = [make_sample(seed) for seed in range(3)]
    expected, metric = evaluate(samples)
    per_class = metric.per_class
    padded, metric = evaluate([*samples, samples[0], samples[1]], size=3)
    assert padded == expected
    assert metric.per_class == per_class
    assert evaluate([*samples, samples[0]])[0] != expected


def _rank(rank, init_file, queue):
    dist.init_process_group('gloo', init_method=f'file://{init_file}', rank=rank, world_size=2)
    metric = WSSSMetric(collect_dir=f'{init_file}.parts')
    metric.dataset_meta = {'classes': CLASSES}
    # three samples on two ranks: the sampler repeats the first one
    for seed in [[0, 2], [1, 0]][rank]:
        metric.process(None, [make_sample(seed).to_dict()])
    queue.put((rank, metric.evaluate(3)))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    expected, _ = evaluate([make_sample(seed) for seed in range(3)])
    queue = mp.get_context('spawn').SimpleQueue()
    mp.spawn(_rank, args=(str(tmp_path / 'init'), queue), nprocs=2)
    assert dict(queue.get() for _ in range(2)) == {0: expected, 1: expected}


def test_entries_hold_no_maps():
    metric = WSSSMetric()
    metric.dataset_meta = {'classes': CLASSES}
    sample = make_sample(0)
    metric.process(None, [sample.to_dict()])
    _, index, count = metric.results[0]['maps_sweep']
    assert count.sum() == SIZE[0] * SIZE[1]
    assert (count > 0).all()
    assert len(np.unique(index)) == len(index)
    shape, index, count = metric.results[0]['seg']
    dense = np.zeros(np.prod(shape), dtype=int)
    dense[index] = count
    expected = confusion.confusion_matrix(sample.pred_sem_seg.data, sample.gt_sem_seg.data, 3, 255)
    np.testing.assert_array_equal(dense.reshape(shape), expected)


def test_mixing_protocols_is_an_error():
    with pytest.raises(ValueError, match='cannot mix samples predicted with and without image labels'):
        evaluate([make_sample(0, tags=True), make_sample(1, tags=False)])
    with pytest.raises(ValueError, match='cannot mix different kinds of maps or background settings'):
        evaluate([make_sample(0, bg_setting=0.3), make_sample(1, bg_setting=0.4)])


def test_missing_fields_leave_out_their_scores():
    scores, _ = evaluate([make_sample(0, gt_sem_seg=None), make_sample(1, gt_sem_seg=None)])
    assert set(scores) == {'mAP', 'f1_macro', 'f1_micro'}
    scores, _ = evaluate([make_sample(0, image_labels=None, localization_maps=None)])
    assert set(scores) == {'seg_mIoU', 'pseudo_mIoU+tags'}
    with pytest.raises(ValueError, match=r'0\.jpg: .*expected gt_sem_seg or image_labels'):
        evaluate([make_sample(0, gt_sem_seg=None, image_labels=None)])


def test_missing_metainfo_is_named():
    sample = make_sample(0)
    del sample.used_image_labels
    with pytest.raises(ValueError, match=r'0\.jpg: predict\(\) must set the metainfo "used_image_labels"'):
        evaluate([sample])
    with pytest.raises(ValueError, match='dataset_meta'):
        WSSSMetric().process(None, [make_sample(0).to_dict()])


PROTOCOLS = ('ss', 'ms+flip+crf+tags')


def make_protocol_sample(seed, protocols=PROTOCOLS):
    sample = make_sample(seed)
    rng = np.random.default_rng(seed + 100)
    sample.protocol_masks = PixelData(data=torch.from_numpy(rng.integers(0, 3, (len(protocols), *SIZE))))
    sample.set_metainfo({'protocols': protocols})
    return sample


def test_protocols_are_scored_under_their_names_alone():
    samples = [make_protocol_sample(seed) for seed in range(3)]
    scores, metric = evaluate(samples)
    assert list(scores) == ['ss_mIoU', 'ms+flip+crf+tags_mIoU', 'mAP', 'f1_macro', 'f1_micro']
    for index, name in enumerate(PROTOCOLS):
        expected = reference_miou(samples, lambda s, i=index: s.protocol_masks.data[i])
        assert scores[f'{name}_mIoU'] == pytest.approx(expected, abs=0.006)
        assert np.mean(list(metric.per_class[f'{name}_IoU'].values())) == pytest.approx(expected, abs=0.01)
    padded, _ = evaluate([*samples, samples[0]], size=3)
    assert padded == scores
    assert metric.curves == {}


def test_protocols_have_to_agree():
    with pytest.raises(ValueError, match='cannot mix samples predicted under different protocols'):
        evaluate([make_protocol_sample(0), make_protocol_sample(1, ('ss', 'ms'))])
    sample = make_protocol_sample(0)
    sample.set_metainfo({'protocols': ('ss',)})
    with pytest.raises(ValueError, match=r'0\.jpg: 2 protocol_masks need as many protocols, got ss'):
        evaluate([sample])


def test_curves_hold_the_whole_sweep():
    samples = [make_sample(seed) for seed in range(3)]
    scores, metric = evaluate(samples, bg_grid=[0.6, 0.2])
    assert list(metric.curves) == ['maps+tags', 'pseudo+tags']
    curve = metric.curves['maps+tags']
    assert curve['settings'] == [0.2, 0.4, 0.6]
    assert curve['background_channel'] is False
    for i, setting in enumerate(curve['settings']):
        expected = reference_miou(samples, lambda s, b=setting: maps_to_mask(s.localization_maps.data, b, False))
        assert curve['mIoU'][i] == pytest.approx(expected, abs=0.006)
        assert np.mean([curve['IoU'][name][i] for name in CLASSES]) == pytest.approx(expected, abs=0.01)
    assert max(curve['mIoU']) == scores['maps_mIoU_best+tags']
    assert evaluate([make_sample(0, tags=False)])[1].curves.keys() == {'maps', 'pseudo'}


def test_pseudo_maps_may_have_a_setting_of_their_own():
    sample = make_sample(0)
    sample.pseudo_maps = sample.localization_maps
    sample.set_metainfo({'pseudo_bg_setting': 0.123})
    curves = evaluate([sample])[1].curves
    assert 0.123 in curves['pseudo+tags']['settings']
    assert 0.123 not in curves['maps+tags']['settings']
    sample = make_sample(0)
    sample.set_metainfo({'pseudo_bg_setting': None})  # the mask was not decided by a background setting
    scores, metric = evaluate([sample])
    assert list(metric.curves) == ['maps+tags']
    assert 'pseudo_mIoU+tags' in scores
