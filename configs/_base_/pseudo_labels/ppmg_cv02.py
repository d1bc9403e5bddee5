# As cvs_ppmg.py with a weight of 0.2 of the coefficient of variation, in the place of 0.3.
_base_ = './cvs_ppmg.py'
*before, last = _base_.pseudo_labeler['steps']
pseudo_labeler = dict(steps=[*before, dict(last, smoothing=dict(scale=0.2))])
