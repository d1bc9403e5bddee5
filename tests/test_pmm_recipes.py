"""The recipes that are ablations of PMM's masks differ from the recipe they are named after in one number each."""

from __future__ import annotations

import pytest
from tiny_configs import CONFIGS, load_config

from mmwsss.pseudo_labels.labeler import PseudoLabeler

RECIPES = CONFIGS / '_base_' / 'pseudo_labels'


@pytest.mark.parametrize(
    ('name', 'base', 'kind', 'change'),
    [
        ('pmm_alpha11', 'pmm_heat', 'AddBackground', dict(power=11.0)),
        ('ppmg', 'cvs_ppmg', 'ProportionalMask', dict(smoothing=dict(scale=0.0))),
        *(
            (f'ppmg_cv0{tenths}', 'cvs_ppmg', 'ProportionalMask', dict(smoothing=dict(scale=tenths / 10)))
            for tenths in (1, 2, 4, 5)
        ),
    ],
)
def test_an_ablation_of_masks_changes_one_step(name: str, base: str, kind: str, change: dict) -> None:
    expected, found = (load_config(RECIPES / f'{stem}.py').pseudo_labeler.steps for stem in (base, name))
    expected = [dict(step, **change) if step.type == kind else dict(step) for step in expected]
    assert [dict(step) for step in found] == expected
    assert any(step.items() >= change.items() for step in expected)
    labeler = PseudoLabeler(found)
    if kind == 'ProportionalMask':
        smoothing = labeler.steps[-1].smoothing
        assert (smoothing.threshold, smoothing.scale) == (0.05, change['smoothing']['scale'])
