"""What a manifest knows of the checkpoints that the steps of a pseudo labeler read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mmwsss.apis.launch import UsageError
from mmwsss.pseudo_labels.manifest import ExportSource, checkpoint_hashes, export_identity


def steps_with(checkpoint: Path) -> list[dict]:
    affinity = dict(type='NetworkAffinity', config='x.py', checkpoint=str(checkpoint))
    return [dict(type='MaskAbsent'), dict(type='Refine', refiner=dict(type='RandomWalk', affinity=affinity))]


def test_checkpoint_deep_in_a_step_is_hashed(tmp_path: Path) -> None:
    checkpoint = tmp_path / 'affinity.pth'
    checkpoint.write_bytes(b'first')
    steps = steps_with(checkpoint)
    assert checkpoint_hashes(steps) == {str(checkpoint): hashlib.sha256(b'first').hexdigest()}
    assert checkpoint_hashes(None) == {}


def test_retrained_network_makes_other_masks(tmp_path: Path) -> None:
    checkpoint = tmp_path / 'affinity.pth'
    identities = []
    for content in (b'first', b'second'):
        checkpoint.write_bytes(content)
        steps = steps_with(checkpoint)
        source = ExportSource('c.py', '0', 'train', steps, step_checkpoints=checkpoint_hashes(steps))
        identities.append(export_identity(source, ['a'], None))
    assert identities[0] != identities[1]
    assert {key for key in identities[0] if identities[0][key] != identities[1][key]} == {'checkpoints of steps'}


def test_missing_checkpoint_of_a_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'checkpoint of a step: .*nothing\.pth does not exist'):
        checkpoint_hashes(steps_with(tmp_path / 'nothing.pth'))
