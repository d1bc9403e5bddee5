import json
import zipfile

import pytest
from tiny_configs import CONFIGS, tiny_config
from tiny_inference import write_model

from mmwsss.deployment.metadata import ALIGNED, HALF_PIXEL, file_metadata, pipeline_resize
from mmwsss.registry import MODELS

LOAD, LABELS, PACK = (dict(type=name) for name in ('LoadImageFromFile', 'LoadAnnotations', 'PackWeakInputs'))


@pytest.mark.parametrize(
    ('steps', 'size', 'rule'),
    [
        ([LABELS, dict(type='ResizeAlignCorners', size=448, resize_mask=False)], [448] * 2, ALIGNED),
        ([dict(type='ResizeAlignCorners', size=(32, 48))], [32, 48], ALIGNED),
        ([dict(type='Resize', scale=(48, 32), keep_ratio=False)], [32, 48], HALF_PIXEL),
        ([dict(type='Resize', scale=64, backend='pillow')], [64, 64], 'bilinear of pillow'),
        ([], None, 'none'),
    ],
)
def test_resizes_of_pipelines(steps, size, rule):
    assert pipeline_resize([LOAD, *steps, PACK]) == (size, rule)


def test_other_resizes_stand_there_as_they_are():
    step = dict(type='Resize', scale=(2048, 512), keep_ratio=True)
    size, rule = pipeline_resize([LOAD, step, PACK])
    assert size is None
    assert json.loads(rule) == [step | dict(scale=[2048, 512])]


@pytest.mark.parametrize(
    ('name', 'rule'),
    [
        ('vitpcm_shapes', ALIGNED),
        ('apc_shapes', HALF_PIXEL),
        ('pmm/fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144', ALIGNED),
    ],
)
def test_entries_of_a_file(name, rule):
    cfg = tiny_config(CONFIGS / f'{name}.py', 'unused', 'unused')
    model = MODELS.build(cfg.model)
    entries = file_metadata(model, ['background', 'thing'], cfg.test_dataloader.dataset.pipeline)
    assert entries['enlarge'] == rule
    assert json.loads(entries['classes']) == ['background', 'thing']
    assert all(isinstance(value, str) for value in entries.values())
    assert {'size', 'resize', 'images', 'logits'} <= entries.keys()
    assert not {'size', 'resize'} & file_metadata(model).keys()


@pytest.mark.slow
def test_the_tool_notes_the_resize(tmp_path, load_tool, run_main):
    files = write_model(tmp_path)
    files.cfg.dump(tmp_path / 'tiny.py')
    target = tmp_path / 'a.pt2'
    arguments = [tmp_path / 'tiny.py', files.weights, '--format', 'pt2', '--out', target]
    assert run_main(load_tool('deployment/export_onnx'), *arguments) == 0
    with zipfile.ZipFile(target) as archive:
        (name,) = (name for name in archive.namelist() if name.rpartition('/')[2] == 'resize')
        assert archive.read(name).decode() == ALIGNED
