"""What a manifest knows of the checkpoints that the steps of a pseudo labeler read."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import pytest
from mmengine.config import Config

from mmwsss.apis.launch import UsageError
from mmwsss.evaluation.record import config_sha256
from mmwsss.pseudo_labels.manifest import ExportSource, checkpoint_hashes, export_identity


def steps_with(checkpoint: Path) -> list[dict]:
    config = checkpoint.with_name('affinity.py')
    if not config.exists():
        config.write_text('radius = 5\n')
    affinity = dict(type='NetworkAffinity', config=str(config), checkpoint=str(checkpoint))
    return [dict(type='MaskAbsent'), dict(type='Refine', refiner=dict(type='RandomWalk', affinity=affinity))]


def test_checkpoint_deep_in_a_step_is_hashed(tmp_path: Path) -> None:
    checkpoint = tmp_path / 'affinity.pth'
    checkpoint.write_bytes(b'first')
    steps = steps_with(checkpoint)
    config = str(tmp_path / 'affinity.py')
    found = checkpoint_hashes(steps)
    assert found.keys() == {str(checkpoint), config}
    assert found[str(checkpoint)] == hashlib.sha256(b'first').hexdigest()
    assert found[config] == config_sha256(Config.fromfile(config))
    assert checkpoint_hashes(None) == {}


def test_retrained_network_makes_other_masks(tmp_path: Path) -> None:
    checkpoint = tmp_path / 'affinity.pth'
    identities = []
    for content, config in ((b'first', 'radius = 5'), (b'second', 'radius = 5'), (b'second', 'radius = 3')):
        checkpoint.write_bytes(content)
        checkpoint.with_name('affinity.py').write_text(config)
        steps = steps_with(checkpoint)
        source = ExportSource('c.py', '0', 'train', steps, step_checkpoints=checkpoint_hashes(steps))
        identities.append(export_identity(source, ['a'], None))
    for before, after in pairwise(identities):
        assert {key for key in before if before[key] != after[key]} == {'checkpoints of steps'}


def test_missing_checkpoint_of_a_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'checkpoint of a step: .*nothing\.pth does not exist'):
        checkpoint_hashes(steps_with(tmp_path / 'nothing.pth'))
