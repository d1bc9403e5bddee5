# One dense CRF of all classes at the background exponent of cvs_ppmg.py, what PMM compares proportional masks with; at 24 it is
# pmm_heat.py.
_base_ = './pmm_heat.py'
pseudo_labeler = dict(
    steps=[
        dict(step, power=11.0) if step['type'] == 'AddBackground' else step for step in _base_.pseudo_labeler['steps']
    ]
)
