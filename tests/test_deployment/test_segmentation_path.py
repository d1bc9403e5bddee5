import importlib.util
import json

import pytest
import torch
from tiny_configs import CONFIGS, tiny_config
from torch import nn

from mmwsss.apis import UsageError
from mmwsss.deployment import OPSET, SegmentationPath, export_onnx, save_program
from mmwsss.deployment.export import example_images, export_program
from mmwsss.deployment.recurrent import ExportedLSTM
from mmwsss.models.segmentors.weak_segmentor import WeakSegmentor
from mmwsss.registry import MODELS

FCN = 'pmm/fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144'
EXPORTED = ('vitpcm_shapes', 'apc_shapes', 'cosa_shapes', FCN)
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ('onnx', 'onnxruntime', 'onnxscript')),
    reason='onnx, onnxscript or onnxruntime is not installed (requirements/optional.txt)',
)


def tiny_model(name, **settings):
    cfg = tiny_config(CONFIGS / f'{name}.py', 'unused', 'unused')
    cfg.model.test_cfg.update(settings)
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval()


@pytest.mark.parametrize('name', [*EXPORTED, 'cam_shapes', 'pmm/seam_vit-xt8_1xb8-600_shapes-144x144'])
@torch.no_grad()
def test_the_best_class_is_what_predict_says(name):
    model = tiny_model(name)
    model.test_cfg['views'] = None
    path = SegmentationPath(model)
    pixels = torch.randint(0, 256, (2, 3, 40, 48), generator=torch.Generator().manual_seed(1))
    files = [image.flip(0).to(torch.uint8) for image in pixels]  # BGR, as they are read
    samples = model.test_step(dict(inputs=files, data_samples=[sample_of(model) for _ in files]))
    found = path(pixels.float())
    assert found.shape == (2, model.num_classes, 40, 48)
    for logits, sample in zip(found, samples):
        assert (logits.argmax(dim=0) == sample.pred_sem_seg.data[0]).float().mean() > 0.999, 'up to ties'
    normalised = (pixels - path.mean) / path.std
    if not isinstance(model, WeakSegmentor):
        torch.testing.assert_close(found, model.encode_decode(normalised, [sample.metainfo for sample in samples]))
        return
    scores = model.encode_decode(normalised)
    if model.segments:
        found = found.softmax(dim=1)
    torch.testing.assert_close(found[:, -scores.shape[1] :], scores)


def sample_of(model):
    from mmseg.structures import SegDataSample

    size = (40, 48)
    return SegDataSample(metainfo=dict(ori_shape=size, img_shape=size, pad_shape=size))


def test_the_background_setting_counts():
    images = next(example_images(tiny_model('vitpcm_shapes')))
    usual, high = (
        SegmentationPath(tiny_model('vitpcm_shapes', bg_setting=setting))(images).argmax(dim=1) for setting in (1, 1.2)
    )
    assert (high == 0).sum() > (usual == 0).sum()


def test_an_exported_lstm_is_an_lstm():
    torch.manual_seed(0)
    layer = nn.LSTM(5, 4, batch_first=True)
    x = torch.randn(3, 6, 5)
    torch.testing.assert_close(ExportedLSTM(layer)(x)[0], layer(x)[0])
    for other in (nn.LSTM(5, 4), nn.LSTM(5, 4, batch_first=True, bidirectional=True)):
        with pytest.raises(UsageError, match='only LSTMs of one layer'):
            ExportedLSTM(other)


def test_models_that_no_file_can_hold():
    with pytest.raises(UsageError, match='the maps of ACR are gradients'):
        SegmentationPath(tiny_model('acr_shapes'))
    with pytest.raises(UsageError, match='AffinityNetwork makes no masks'):
        SegmentationPath(MODELS.build(dict(type='AffinityNetwork', **affinity_parts())))


def affinity_parts():
    cfg = tiny_config(CONFIGS / 'pmm' / 'affinity_vit-xt8_1xb16-744_shapes-144x144.py', 'unused', 'unused')
    return {key: value for key, value in cfg.model.items() if key != 'type'}


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *_: None)
    with pytest.raises(UsageError, match='onnx is not installed; run: pip install onnx onnxscript onnxruntime'):
        export_onnx(tiny_model('cam_shapes'), tmp_path / 'a.onnx')


def test_a_program_leaves_the_image_scores_out():
    graph = export_program(SegmentationPath(tiny_model('apc_shapes'))).graph
    assert not graph.find_nodes(op='call_function', target=torch.ops.aten.sort.stable)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize('name', EXPORTED)
def test_onnxruntime_gives_what_torch_gives_at_any_size(name, tmp_path):
    import onnx

    model = tiny_model(name)
    assert export_onnx(model, tmp_path / 'model.onnx', ['background', 'thing']) <= 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ['model.onnx']
    proto = onnx.load(tmp_path / 'model.onnx')
    onnx.checker.check_model(proto)
    assert {entry.domain: entry.version for entry in proto.opset_import}[''] == OPSET
    assert json.loads({p.key: p.value for p in proto.metadata_props}['classes']) == ['background', 'thing']
    (inputs,), (outputs,) = proto.graph.input, proto.graph.output
    assert (inputs.name, outputs.name) == ('images', 'logits')
    axes = [[dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim] for entry in (inputs, outputs)]
    assert axes == [['batch', 3, 'height', 'width'], ['batch', model.num_classes, 'height', 'width']]


@pytest.mark.slow
@pytest.mark.parametrize('name', EXPORTED)
def test_programs_of_torch_export_take_any_size(name, tmp_path):
    model = tiny_model(name)
    assert save_program(model, tmp_path / 'model.pt2') <= 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ['model.pt2']
