# Proportional masks of maps that are not smoothed: only values below 0.05 are cut, as PMM's code does at a scale of 0.
_base_ = './cvs_ppmg.py'
*before, last = _base_.pseudo_labeler['steps']
pseudo_labeler = dict(steps=[*before, dict(last, smoothing=dict(scale=0.0))])
