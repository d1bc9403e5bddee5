# Masks that a segmentation network renews (cyclic pseudo-masks of PMM): its probabilities and a dense CRF, no image labels.
pseudo_labeler = dict(steps=[dict(type='Refine', refiner=dict(type='DenseCRF')), dict(type='Decide')])
