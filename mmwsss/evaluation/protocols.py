"""Names of evaluation protocols: how a prediction was made, and whether it used ground-truth image labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SCALES = {'ss': False, 'ms': True}
REFINERS = ('crf', 'par', 'rw')
GRAMMAR = f'{"|".join(SCALES)}[+flip][{"|".join(f"+{name}" for name in REFINERS)}][+tags]'
TAGS = 'tags'


@dataclass(frozen=True)
class Protocol:
    """How a mask is predicted.

    Args:
        multi_scale: mean over several scales instead of the image as it comes.
        flip: mean over the image and its horizontal flip.
        refiner: 'crf', 'par', 'rw' (random walk), or None.
        tags: classes that the ground-truth image labels exclude are left out; no segmentation score in this sense.
    """

    multi_scale: bool = False
    flip: bool = False
    refiner: str | None = None
    tags: bool = False

    @property
    def name(self) -> str:
        """The protocol in canonical order.

        >>> Protocol(multi_scale=True, flip=True, tags=True).name
        'ms+flip+tags'
        """
        parts = ['ms' if self.multi_scale else 'ss', 'flip' if self.flip else None, self.refiner]
        return '+'.join(filter(None, [*parts, TAGS if self.tags else None]))

    @classmethod
    def parse(cls, text: str) -> Protocol:
        """Protocol of its ``text``, whose parts after the first may come in any order.

        Raises:
            ValueError: a part is unknown, comes twice, or there are two refiners.

        >>> Protocol.parse('ms+tags+crf').name
        'ms+crf+tags'
        """
        first, *rest = str(text).split('+')
        if first not in SCALES:
            raise ValueError(f"protocol '{text}': has to begin with {' or '.join(SCALES)}; allowed are {GRAMMAR}")
        unknown = [part for part in rest if part not in ('flip', TAGS, *REFINERS)]
        if unknown:
            raise ValueError(f"protocol '{text}': unknown part '{unknown[0]}'; allowed are {GRAMMAR}")
        if len(set(rest)) < len(rest):
            raise ValueError(f"protocol '{text}': a part comes twice; allowed are {GRAMMAR}")
        refiners = [part for part in rest if part in REFINERS]
        if len(refiners) > 1:
            raise ValueError(f"protocol '{text}': only one refiner at a time, got {' and '.join(refiners)}")
        return cls(SCALES[first], 'flip' in rest, refiners[0] if refiners else None, TAGS in rest)


def parse_protocols(texts: Iterable[str | Protocol]) -> list[Protocol]:
    """Distinct protocols of ``texts`` in their order.

    Raises:
        ValueError: one cannot be read, or there is none.
    """
    found = dict.fromkeys(text if isinstance(text, Protocol) else Protocol.parse(text) for text in texts)
    if not found:
        raise ValueError(f'no protocol given; allowed are {GRAMMAR}')
    return list(found)


def protocol_of_score(name: str) -> Protocol | None:
    """Protocol in the name of a score such as 'ms+flip+crf+tags_mIoU', None for any other score."""
    text, found, _ = name.rsplit('/', 1)[-1].partition('_mIoU')
    try:
        return Protocol.parse(text) if found else None
    except ValueError:
        return None
