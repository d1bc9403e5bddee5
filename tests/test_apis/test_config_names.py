import pytest
from tiny_configs import CANONICAL, CONFIGS, SHORT

from mmwsss.apis import UsageError, find_config, list_models, load_config
from mmwsss.apis.config_names import config_entries


def test_every_config_has_one_name():
    names = list_models()
    assert len(set(names)) == len(names) == len(CANONICAL) + len(SHORT)
    assert {find_config(name) for name in names} == {str(path) for path in CANONICAL + SHORT}
    assert 'vitpcm_shapes' in list_models('shapes')
    assert list_models('no such part') == []


def test_names_tell_method_and_data():
    entries = {entry.name: entry for entry in config_entries()}
    assert (entries['vitpcm_voc'].method, entries['vitpcm_voc'].data) == ('vitpcm', 'voc12aug')
    assert (entries['pretrain_shapes'].method, entries['pretrain_shapes'].data) == ('cam', 'close-ups')
    twins = [name for name in entries if '/' in name]
    assert {name.split('/')[0] for name in twins} == {'pmm', 'stage2'}
    assert all(entries[name].data == 'voc12mini' for name in twins)
    assert all(entry.data for entry in entries.values())


def test_names_are_read_like_paths(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_config('cam_shapes').filename == str(CONFIGS / 'cam_shapes.py')
    assert find_config('pipelines/pmm_shapes') == str(CONFIGS / 'pipelines' / 'pmm_shapes.py')
    (tmp_path / 'own.py').write_text('x = 1')
    assert find_config('own.py') == 'own.py'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('vitpcm_shapez', 'vitpcm_shapez does not exist; nearest: vitpcm_shapes, '),
        ('gone.py', r'config gone\.py does not exist$'),
        ('qqq', r'config qqq does not exist; see mmwsss list'),
        (
            'fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224',
            'is the name of several; say pmm/fcn_.*224 or stage2/fcn_.*224$',
        ),
    ],
)
def test_unknown_names(monkeypatch, tmp_path, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        find_config(name)
