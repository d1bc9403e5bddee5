# None of the three techniques of the paper.
# _delete_: another class.
_base_ = './cosa_vit-xt8_1xb8-600_shapes-144x144.py'
threshold = dict(_delete_=True, type='FixedThreshold', high=0.7, low=0.25)
model = dict(threshold=threshold, aux_threshold=threshold, reliability=None, loss_csc=None)
