# The six best patches of every class, patch contrast, decoder.
_base_ = './apc_vit-xt8_1xb16-600_shapes-144x144.py'
model = dict(head=dict(pooling=dict(_delete_=True, type='TopKPooling', k=6)))
