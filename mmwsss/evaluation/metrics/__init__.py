from .wsss_metric import WSSSMetric

__all__ = ['WSSSMetric']
