import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from mmwsss import compat
from mmwsss.apis import UsageError, load_config


class Foreign:
    """Stands for any class a checkpoint has no business with."""


def run_python(code):
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=120
    )


def test_fresh_process_imports_the_stack():
    done = run_python("""
        import sys
        import mmwsss, mmseg.models, mmpretrain.models
        from mmwsss import compat
        if not compat.has_compiled_ops():
            assert 'mmcv._ext' not in sys.modules
            import mmcv, torch
            assert not hasattr(mmcv, '_ext')
            try:
                mmcv.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
            except RuntimeError as error:
                assert 'nms' in str(error) and 'pip' in str(error), error
            else:
                raise AssertionError('mmcv.ops.nms ran without compiled operators')
            from mmengine.model import revert_sync_batchnorm
            model = revert_sync_batchnorm(torch.nn.Sequential(torch.nn.SyncBatchNorm(2)))
            assert not isinstance(model[0], torch.nn.SyncBatchNorm)
        before = dict(sys.modules)
        compat.apply()
        compat.apply()
        assert set(sys.modules) == set(before)
        print('fine')
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith('fine')


def test_torchvision_without_its_operators():
    done = run_python("""
        import torch
        def refuse(path):
            raise OSError('undefined symbol')
        torch.ops.load_library = refuse
        import mmwsss, mmpretrain.models, torchvision
        assert not torchvision.extension._has_ops()
        try:
            torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        except NotImplementedError:
            print('fine')
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith('fine')


@pytest.mark.parametrize('missing', ['mmcv', 'mmseg', 'torchvision'])
def test_missing_library_is_one_line(missing):
    done = run_python(f"""
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split('.')[0] == {missing!r}:
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Blocker())
        import mmwsss
    """)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith(f'ImportError: mmwsss needs {missing}, which is not installed; run: pip install ')


@pytest.mark.parametrize('version', ['2.0.0rc4', '2.0.0', '2.1.0', '2.1.99'])
def test_mmcv_version_in_range(version):
    compat.check_mmcv_version(version)


@pytest.mark.parametrize('version', ['1.7.2', '2.0.0rc3', '2.2.0', '3.0.0'])
def test_mmcv_version_out_of_range(version):
    with pytest.raises(ImportError, match=r'found .*; run: pip install') as error:
        compat.check_mmcv_version(version)
    assert version in str(error.value)
    assert '\n' not in str(error.value)


def test_healthy_stack_is_left_alone(monkeypatch):
    import importlib

    find_spec = compat.importlib.util.find_spec
    healthy = {'mmcv._ext', 'pkg_resources'}

    def everything_is_there(name, package=None):
        return types.SimpleNamespace(origin=__file__) if name in healthy else find_spec(name, package)

    def unexpected_import(name, package=None):
        raise AssertionError(f'imported {name}')

    from mmengine.utils import package_utils

    monkeypatch.setattr(compat.importlib.util, 'find_spec', everything_is_there)
    monkeypatch.setattr(package_utils, 'is_installed', len)
    monkeypatch.delitem(sys.modules, 'mmcv.ops', raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(importlib, 'import_module', unexpected_import)
        compat.import_mmcv_ops()
        compat.replace_pkg_resources()
    assert compat.has_compiled_ops()
    assert 'mmcv._ext' not in sys.modules
    assert package_utils.is_installed is len


def test_missing_ops_are_silent_until_called():
    stand_in = compat._MissingOps('mmcv._ext')
    operator = stand_in.carafe_forward
    with pytest.raises(RuntimeError, match='carafe_forward'):
        operator(1, scale=2)
    with pytest.raises(AttributeError):
        _ = stand_in.__path__


@pytest.mark.parametrize('name', ['mmsegmentation', 'mmseg', 'mmengine'])
def test_installed_packages_are_found(name):
    from pathlib import Path

    import mmengine
    import mmseg

    expected = mmengine if name == 'mmengine' else mmseg
    assert compat.is_installed(name)
    assert Path(compat.get_installed_path(name)) == Path(expected.__file__).parent


@pytest.mark.parametrize('name', ['no_such_package', 'no_such.package'])
def test_packages_that_are_not_there(name):
    assert not compat.is_installed(name)
    with pytest.raises(ModuleNotFoundError, match=name):
        compat.get_installed_path(name)


def test_plain_folder_is_no_package(tmp_path, monkeypatch):
    (tmp_path / 'merely_a_folder').mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not compat.is_installed('merely_a_folder')


def test_config_inherits_from_mmseg(tmp_path):
    from mmengine.config import Config

    (tmp_path / 'child.py').write_text("_base_ = 'mmseg::_base_/default_runtime.py'\n")
    assert Config.fromfile(str(tmp_path / 'child.py')).default_scope == 'mmseg'


@pytest.mark.parametrize('name', ['vitpcm_voc.py', 'vitpcm_voc', 'vitpcm/vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'])
def test_config_inherits_from_a_shipped_one(tmp_path, name):
    config = tmp_path / 'child.py'
    config.write_text(f"_base_ = ['mmwsss::{name}']\ntrain_cfg = dict(max_iters=_base_.train_cfg.max_iters + 1)\n")
    cfg = Config.fromfile(config)
    assert cfg.model.type == 'ViTPCM'
    assert cfg.train_cfg.max_iters == 1 + load_config('vitpcm_voc').train_cfg.max_iters
    assert '_scope_' not in cfg.model
    copy = tmp_path / 'copy.py'
    cfg.dump(copy)
    assert Config.fromfile(copy).to_dict() == cfg.to_dict()


def test_a_file_of_the_current_folder_is_no_shipped_base(tmp_path, monkeypatch):
    (tmp_path / 'vitpcm_voc').touch()
    (tmp_path / 'child.py').write_text("_base_ = 'mmwsss::vitpcm_voc.py'\n")
    monkeypatch.chdir(tmp_path)
    assert Config.fromfile('child.py').model.type == 'ViTPCM'


def test_a_base_that_is_not_shipped(tmp_path):
    (tmp_path / 'child.py').write_text("_base_ = 'mmwsss::vitpcm_vocc.py'\n")
    with pytest.raises(UsageError, match='config vitpcm_vocc does not exist; nearest: vitpcm_voc'):
        Config.fromfile(tmp_path / 'child.py')


@pytest.fixture
def message_hub():
    hub = MessageHub('compat')
    hub.update_scalar('train/loss', torch.tensor(1.5))
    hub.update_scalar('train/lr', np.float32(0.1))
    hub.update_info('iter', 7)
    hub.update_info('score', np.float64(0.5))
    return hub


def test_mmengine_checkpoint_passes_weights_only(tmp_path, message_hub):
    torch.save({'message_hub': message_hub.state_dict()}, tmp_path / 'a.pth')
    state = torch.load(tmp_path / 'a.pth', weights_only=True)['message_hub']
    loss = state['log_scalars']['train/loss']
    assert loss.current() == 1.5
    assert loss.statistics('mean') == 1.5
    assert state['runtime_info'] == {'iter': 7, 'score': 0.5}


def test_numpy_1_path_is_known(tmp_path):
    if not hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint'):
        pytest.skip('this torch has no allow-list of names')
    names = {entry[1] for entry in torch.serialization.get_safe_globals() if isinstance(entry, tuple)}
    assert {'numpy.core.multiarray._reconstruct', 'numpy._core.multiarray._reconstruct'} <= names
    assert getattr not in torch.serialization.get_safe_globals()


def test_foreign_class_is_refused(tmp_path, message_hub):
    torch.save({'message_hub': message_hub.state_dict(), 'more': Foreign()}, tmp_path / 'a.pth')
    with pytest.raises(Exception, match='Foreign'):
        torch.load(tmp_path / 'a.pth', weights_only=True)


def test_getattr_of_anything_else_is_refused(tmp_path):
    torch.save({'method': np.ndarray.tofile, 'array': np.zeros(1)}, tmp_path / 'a.pth')
    with pytest.raises(Exception, match='tofile'):
        torch.load(tmp_path / 'a.pth', weights_only=True)
