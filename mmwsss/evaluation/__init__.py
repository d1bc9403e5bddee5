from .metrics import WSSSMetric
from .record import protocol_from_scores, write_metrics_json

__all__ = ['WSSSMetric', 'protocol_from_scores', 'write_metrics_json']
