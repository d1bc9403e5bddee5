"""What several rooms of the package share."""

from .seeding import SampleDraw, mix_seed, seeded

__all__ = ['SampleDraw', 'mix_seed', 'seeded']
