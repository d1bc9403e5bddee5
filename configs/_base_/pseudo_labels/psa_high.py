# For the affinity network of PSA: a weak background, (1 - best class)^32, and a dense CRF; what is background even so is certain.
# Export with --maps; see psa_low.
_base_ = './psa_low.py'
pseudo_labeler = dict(
    steps=[
        dict(step, power=32.0) if step['type'] == 'AddBackground' else step for step in _base_.pseudo_labeler['steps']
    ]
)
