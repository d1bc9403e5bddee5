from .metrics import WSSSMetric
from .protocols import Protocol, parse_protocols
from .record import protocol_from_scores, write_metrics_json
from .voc_archive import VOCArchive

__all__ = ['Protocol', 'VOCArchive', 'WSSSMetric', 'parse_protocols', 'protocol_from_scores', 'write_metrics_json']
