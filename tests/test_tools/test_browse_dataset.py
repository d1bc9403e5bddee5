import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmwsss.apis import UsageError
from mmwsss.registry import TRANSFORMS

SCRIPT = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'browse_dataset.py'
METAINFO = {'classes': ('background', 'cat', 'dog'), 'palette': [[0, 0, 0], [200, 0, 0], [0, 200, 0]]}


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('browse_dataset', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_sample(labels=(1, 0), mask=True):
    sample = SegDataSample(metainfo={'img_path': 'folder/a.jpg'})
    sample.image_labels = torch.tensor(labels, dtype=torch.float32)
    if mask:
        sample.gt_sem_seg = PixelData(data=torch.ones(1, 6, 8, dtype=torch.int64))
    return sample


@TRANSFORMS.register_module()
class PackBrowseTestViews:
    """Test transform: two views of one flat colour."""

    def __call__(self, results):
        view = torch.full((3, 6, 8), results['sample_idx'], dtype=torch.uint8)
        return {'inputs': {'weak': view, 'strong': view}, 'data_samples': make_sample()}


def test_colours_are_turned_to_rgb(tool):
    view = torch.zeros(3, 6, 8, dtype=torch.uint8)
    view[0] = 255
    picture = tool.view_to_rgb(view)
    assert picture.shape == (6, 8, 3)
    assert picture[0, 0].tolist() == [0, 0, 255]
    assert tool.view_to_rgb(torch.linspace(-2, 2, 144).view(3, 6, 8)).max() == 255


def test_panel_shows_every_view_beside_its_mask(tool):
    view = torch.zeros(3, 6, 8, dtype=torch.uint8)
    single = tool.panel({'inputs': view, 'data_samples': make_sample(mask=False)}, METAINFO)
    double = np.asarray(tool.panel({'inputs': (view, view), 'data_samples': make_sample()}, METAINFO))
    assert single.height == double.shape[0] == 6 + 2 * tool.CAPTION_HEIGHT
    pictures = double[2 * tool.CAPTION_HEIGHT :]
    assert pictures[0, [0, 8, 16, 24]].tolist() == [[0, 0, 0], [120, 0, 0], [0, 0, 0], [120, 0, 0]]
    assert tool.label_names(make_sample((1, 1)), METAINFO['classes']) == 'cat, dog'
    assert tool.label_names(SegDataSample(), METAINFO['classes']) == 'no image labels'


def test_browse_writes_numbered_files(tool, tmp_path):
    for name in 'abc':
        Image.new('RGB', (8, 6)).save(tmp_path / f'{name}.png')
    dataset = {
        'type': 'WeakSegDataset', 'data_root': str(tmp_path), 'img_suffix': '.png', 'label_source': None,
        'metainfo': METAINFO, 'pipeline': [{'type': 'PackBrowseTestViews'}],
    }  # fmt: skip
    cfg = Config({'train_dataloader': {'dataset': dataset}, 'default_scope': 'mmwsss'})
    files = tool.browse(cfg, tmp_path / 'out', number=2)
    assert [path.name for path in files] == ['00000_a.png', '00001_a.png']
    assert sorted((tmp_path / 'out').iterdir()) == files
    with pytest.raises(UsageError, match='no val_dataloader'):
        tool.browse(cfg, tmp_path / 'out', phase='val')
