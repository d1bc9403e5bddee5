_base_ = './cosa_vit-xt8_1xb8-600_shapes-144x144.py'
model = dict(loss_csc=None)
