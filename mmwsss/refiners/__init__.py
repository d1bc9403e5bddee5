"""Refiners of localization maps."""

from .affinity import ColourAffinity
from .base import Refiner
from .dense_crf import DenseCRF, dense_crf
from .network_affinity import NetworkAffinity
from .par import PAMR, PAR, PixelAffinity, par_affinity, propagate
from .permutohedral import PermutohedralLattice
from .random_walk import RandomWalk, random_walk

__all__ = [
    'PAMR',
    'PAR',
    'ColourAffinity',
    'DenseCRF',
    'NetworkAffinity',
    'PermutohedralLattice',
    'PixelAffinity',
    'RandomWalk',
    'Refiner',
    'dense_crf',
    'par_affinity',
    'propagate',
    'random_walk',
]
