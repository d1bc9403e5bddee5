import json

import cv2
import numpy as np
import pytest
from doc_pages import REPOSITORY, blocks
from tiny_inference import write_model

from mmwsss.apis import WSSSInferencer
from mmwsss.datasets.transforms.resize import resize_image
from mmwsss.deployment import export_onnx

IMAGE = 'data/shapes/JPEGImages/val_00000.jpg'


def documented_code():
    """The block of inference.md that runs an ONNX file."""
    (block,) = (block for block in blocks(REPOSITORY / 'docs' / 'inference.md') if 'InferenceSession' in block.text)
    assert "'vitpcm.onnx'" in block.text
    assert f"'{IMAGE}'" in block.text
    return block.text


def test_the_resize_is_that_of_the_pipeline():
    code = documented_code()
    names = {'np': np}
    exec(code[code.index('def resize') : code.index('session =')], names)
    image = np.random.default_rng(0).integers(0, 256, (31, 50, 3)).astype(np.float32)
    for size in ([48, 64], [17, 23], [31, 90]):
        found = names['resize'](image, size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, resize_image(image, tuple(size)), atol=1e-2)


@pytest.mark.slow
def test_the_block_gives_the_masks_of_predict(tmp_path, monkeypatch, capsys):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    files = write_model(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'shapes').symlink_to(files.folder.parent)
    inferencer = WSSSInferencer(files.cfg, files.weights, 'cpu')
    export_onnx(inferencer.model, 'vitpcm.onnx', inferencer.classes, files.cfg.test_dataloader.dataset.pipeline)
    names = {}
    exec(documented_code(), names)
    (prediction,) = inferencer(IMAGE, progress=False)
    assert len(np.unique(prediction.segmentation)) > 1
    assert names['mask'].shape == prediction.segmentation.shape == cv2.imread(IMAGE).shape[:2]
    assert (names['mask'] == prediction.segmentation).mean() > 0.99
    assert json.loads(names['notes']['classes']) == inferencer.classes
    assert f"'{inferencer.classes[names['mask'].max()]}'" in capsys.readouterr().out
