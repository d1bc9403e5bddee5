import re

import pytest
import torch

from mmwsss.refiners import PAMR, PAR, ColourAffinity, DenseCRF, RandomWalk
from mmwsss.refiners.base import check_inputs, check_whole

IMAGES, MAPS, LABELS = torch.zeros(2, 3, 16, 16), torch.full((2, 4, 16, 16), 0.25), torch.ones(2, 3)
WRONG = [
    ((IMAGES[:, :1], MAPS, LABELS), 'images are (2, 1, 16, 16); expected (B, 3, H, W)'),
    ((IMAGES[0], MAPS, LABELS), 'images are (3, 16, 16); expected (B, 3, H, W)'),
    ((IMAGES, MAPS[:1], LABELS), 'maps are (1, 4, 16, 16) for images of (2, 3, 16, 16)'),
    ((IMAGES[:1], MAPS, LABELS), 'maps are (2, 4, 16, 16) for images of (1, 3, 16, 16)'),
    ((IMAGES, MAPS[0], LABELS), 'maps are (4, 16, 16) for images of (2, 3, 16, 16)'),
    ((IMAGES, MAPS, LABELS[:1]), 'labels are (1, 3) for maps of (2, 4, 16, 16)'),
    ((IMAGES, MAPS, LABELS[0]), 'labels are (3,) for maps of (2, 4, 16, 16)'),
]


@pytest.mark.parametrize(
    'refiner',
    [check_inputs, PAR(1, (1,)), PAMR(1, (1,)), RandomWalk(ColourAffinity(), logt=1), DenseCRF(1)],
    ids=lambda refiner: getattr(refiner, '__name__', type(refiner).__name__),
)
def test_inputs_that_do_not_belong_together_are_refused(refiner):
    refiner(IMAGES, MAPS, LABELS)
    refiner(IMAGES, MAPS)
    for inputs, message in WRONG:
        with pytest.raises(ValueError, match=re.escape(message)):
            refiner(*inputs)


@pytest.mark.parametrize('value', [1, 2.0, '3', None])
def test_whole_numbers_are_checked(value):
    assert check_whole('size', 2, least=2) == 2
    with pytest.raises(ValueError, match=f'size is {value!r}; expected a whole number of at least 2'):
        check_whole('size', value, least=2)
