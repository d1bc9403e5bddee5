import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score

from mmwsss.evaluation import confusion
from mmwsss.pseudo_labels import maps_to_mask

IGNORE = 255


def random_label(rng, num_classes, size):
    label = torch.from_numpy(rng.integers(0, num_classes, size))
    label[torch.from_numpy(rng.random(size) < 0.1)] = IGNORE
    return label


def naive_sweep(maps, label, settings, has_background, num_classes):
    confs = []
    for b in settings:
        pred = maps_to_mask(maps, b, has_background)
        keep = label != IGNORE
        confs.append(confusion_matrix(label[keep], pred[keep], labels=range(num_classes)))
    return torch.from_numpy(np.stack(confs))


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int32, torch.int64])
def test_confusion_equals_sklearn(dtype):
    rng = np.random.default_rng(0)
    label = random_label(rng, 5, (9, 11))
    pred = torch.from_numpy(rng.integers(0, 5, (9, 11)))
    keep = label != IGNORE
    expected = confusion_matrix(label[keep], pred[keep], labels=range(5))
    found = confusion.confusion_matrix(pred.to(dtype), label.to(dtype), 5, IGNORE)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found.numpy(), expected)


def test_ignored_predictions_are_misses():
    label = torch.tensor([0, 1, 1, 1])
    pred = torch.tensor([0, 1, IGNORE, 0])
    conf = confusion.confusion_matrix(pred, label, 2, IGNORE, ignored_column=True)
    assert conf.tolist() == [[1, 0, 0], [1, 1, 1]]
    iou, miou = confusion.iou_from_confusion(conf)
    np.testing.assert_allclose(iou, [1 / 2, 1 / 3])
    assert miou == pytest.approx(5 / 12)


def test_values_out_of_range_are_named():
    good, bad = torch.tensor([0, 1]), torch.tensor([0, 7])
    with pytest.raises(ValueError, match=r'predictions must lie in 0\.\.1, got 0\.\.7'):
        confusion.confusion_matrix(bad, good, 2, IGNORE)
    with pytest.raises(ValueError, match='ground-truth labels must lie'):
        confusion.confusion_matrix(good, bad, 2, IGNORE)
    with pytest.raises(ValueError, match='predictions must lie'):
        confusion.confusion_matrix(torch.tensor([0, IGNORE]), good, 2, IGNORE)
    with pytest.raises(ValueError, match='one shape'):
        confusion.confusion_matrix(good[:1], good, 2, IGNORE)


def test_iou_and_summary_against_loops():
    # class 2 is predicted but absent from the truth, class 3 absent from both
    conf = torch.tensor([[5, 2, 1, 0], [1, 6, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    iou, miou = confusion.iou_from_confusion(conf)
    expected = [5 / 9, 6 / 9, 0.0]
    np.testing.assert_allclose(iou[:3], expected)
    assert torch.isnan(iou[3])
    assert float(miou) == pytest.approx(np.mean(expected))
    summary = confusion.summary_from_confusion(conf)
    assert float(summary['pixel_accuracy']) == pytest.approx(11 / 15)
    assert float(summary['mean_accuracy']) == pytest.approx((5 / 8 + 6 / 7) / 2)
    assert float(summary['fw_iou']) == pytest.approx(8 / 15 * 5 / 9 + 7 / 15 * 6 / 9)
    assert float(summary['miou_present']) == pytest.approx((5 / 9 + 6 / 9) / 2)


def test_nothing_counted_gives_nan():
    conf = confusion.confusion_matrix(torch.zeros(3), torch.full((3,), IGNORE), 3, IGNORE)
    assert conf.sum() == 0
    assert torch.isnan(confusion.iou_from_confusion(conf)[1])


@pytest.mark.parametrize('has_background', [False, True])
@pytest.mark.parametrize('quantised', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_sweep_equals_naive_loop(has_background, quantised, dtype):
    rng = np.random.default_rng(3)
    num_classes = 4
    maps = torch.from_numpy(rng.random((num_classes - 1 + has_background, 40, 33))).to(dtype)
    if quantised:  # ties between classes, with the settings and with the background, and many zeros
        maps = (maps * 4).round() / 4
        maps[maps < 0.3] = 0
    label = random_label(rng, num_classes, (40, 33))
    settings = [0.5, 0.0, 0.25, 1.0, 0.3, 2.0, 0.1, 0.75]
    found = confusion.sweep_confusion(maps, label, settings, has_background, num_classes, IGNORE)
    torch.testing.assert_close(found, naive_sweep(maps, label, settings, has_background, num_classes))


def test_ratio_settings_agree_at_the_last_bit():
    rng = np.random.default_rng(4)
    background = torch.from_numpy(rng.random(5000).astype(np.float32))
    settings = [0.1, 0.3, 1 / 3, 0.7, 1.0, 1.3, 3.0]
    # foreground exactly b * background, and one float above and below it
    exact = torch.cat([b * background for b in settings])
    score = torch.cat([exact, exact.nextafter(torch.tensor(2.0)), exact.nextafter(torch.tensor(0.0))])
    maps = torch.stack([background.repeat(3 * len(settings)), score])[:, None]
    label = torch.ones(maps.shape[1:], dtype=torch.long)
    found = confusion.sweep_confusion(maps, label, settings, True, 2, IGNORE)
    torch.testing.assert_close(found, naive_sweep(maps, label, settings, True, 2))


def test_zero_scores_are_background():
    maps = torch.zeros(3, 2, 2)
    label = torch.ones(2, 2, dtype=torch.long)
    confs = confusion.sweep_confusion(maps, label, [0.0, 5.0], True, 3, IGNORE)
    assert confs[:, 1, 0].tolist() == [4, 4]
    maps[2] = 0.1  # any score beats a background of zero
    confs = confusion.sweep_confusion(maps, label, [0.0, 5.0], True, 3, IGNORE)
    assert confs[:, 1, 2].tolist() == [4, 4]


def test_sweep_rejects_bad_maps():
    label = torch.zeros(2, 2, dtype=torch.long)
    with pytest.raises(ValueError, match='maps must have 2 channels'):
        confusion.sweep_confusion(torch.zeros(4, 2, 2), label, [0.5], False, 3, IGNORE)
    with pytest.raises(ValueError, match='nan'):
        confusion.sweep_confusion(torch.full((2, 2, 2), torch.nan), label, [0.5], False, 3, IGNORE)
    with pytest.raises(ValueError, match='must not be negative'):
        confusion.sweep_confusion(torch.full((3, 2, 2), -1.0), label, [0.5], True, 3, IGNORE)
    with pytest.raises(ValueError, match='finite'):
        confusion.sweep_confusion(torch.zeros(2, 2, 2), label, [], False, 3, IGNORE)


def test_image_scores_equal_sklearn():
    rng = np.random.default_rng(5)
    scores = rng.random((30, 4)).astype(np.float32)
    labels = (rng.random((30, 4)) < 0.4).astype(np.float32)
    labels[:, 3] = 0
    macro, micro = confusion.f1_scores(torch.from_numpy(scores), torch.from_numpy(labels))
    assert float(macro) == pytest.approx(f1_score(labels, scores > 0.5, average='macro', zero_division=0))
    assert float(micro) == pytest.approx(f1_score(labels, scores > 0.5, average='micro', zero_division=0))
    precision = confusion.average_precision(torch.from_numpy(scores), torch.from_numpy(labels))
    expected = [average_precision_score(labels[:, k], scores[:, k]) for k in range(3)]
    np.testing.assert_allclose(precision[:3], expected)
    assert torch.isnan(precision[3])


def test_average_precision_of_images_equals_sklearn_with_ties():
    rng = np.random.default_rng(6)
    scores = rng.integers(0, 5, (20, 7)) / 4
    labels = rng.random((20, 7)) < 0.4
    labels[3], labels[4] = False, True
    labels[5], scores[5] = [True] + [False] * 6, 0
    result = confusion.average_precision_per_image(torch.from_numpy(scores), torch.from_numpy(labels).float())
    assert result.dtype == torch.float64
    some = labels.any(axis=1)
    expected = [average_precision_score(row, score) for row, score in zip(labels[some], scores[some])]
    np.testing.assert_allclose(result[torch.from_numpy(some)], expected)
    assert torch.isnan(result[3])
    with pytest.raises(ValueError, match='one shape'):
        confusion.average_precision_per_image(torch.rand(2, 3), torch.zeros(2, 4))
