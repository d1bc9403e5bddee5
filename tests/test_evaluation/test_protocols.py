import itertools

import pytest

from mmwsss.evaluation import Protocol, parse_protocols
from mmwsss.evaluation.protocols import protocol_of_score


def test_every_name_reads_back():
    parts = itertools.product((False, True), (False, True), (None, 'crf', 'par', 'rw'), (False, True))
    names = [Protocol(*values).name for values in parts]
    assert len(set(names)) == 32
    assert all(Protocol.parse(name).name == name for name in names)
    assert {'ss', 'ms+flip', 'ms+flip+crf+tags', 'ss+par', 'ms+rw+tags'} <= set(names)


def test_order_of_parts_is_free_and_the_name_canonical():
    protocol = Protocol.parse('ms+tags+crf+flip')
    assert protocol == Protocol(multi_scale=True, flip=True, refiner='crf', tags=True)
    assert protocol.name == 'ms+flip+crf+tags'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('flip', "protocol 'flip': has to begin with ss or ms"),
        ('', 'has to begin with ss or ms'),
        ('ss+crf+par', 'only one refiner at a time, got crf and par'),
        ('ss+flips', "unknown part 'flips'"),
        ('ss+tags+tags', 'a part comes twice'),
        ('ss+', "unknown part ''"),
    ],
)
def test_mistakes_say_what_is_allowed(text, message):
    with pytest.raises(ValueError, match=message.replace('+', r'\+')):
        Protocol.parse(text)
    if 'refiner' not in message:
        with pytest.raises(ValueError, match=r'ss\|ms\[\+flip\]\[\+crf\|\+par\|\+rw\]\[\+tags\]'):
            Protocol.parse(text)


def test_repeated_protocols_are_one():
    found = parse_protocols(['ms+crf+flip', 'ss', 'ms+flip+crf', Protocol()])
    assert [protocol.name for protocol in found] == ['ms+flip+crf', 'ss']
    with pytest.raises(ValueError, match='no protocol given'):
        parse_protocols([])


def test_protocols_are_read_from_names_of_scores():
    assert protocol_of_score('test/ms+flip+tags_mIoU') == Protocol(multi_scale=True, flip=True, tags=True)
    assert protocol_of_score('ss_mIoU') == Protocol()
    assert [protocol_of_score(name) for name in ('seg_mIoU', 'maps_mIoU+tags', 'mAP', 'ss')] == [None] * 4
