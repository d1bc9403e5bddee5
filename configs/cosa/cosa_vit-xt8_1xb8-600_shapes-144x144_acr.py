# ACR's regulariser in CoSA: maps of the strong view and the attention between its patches agree with those of its mirror
# image, in the online network. Weights and layers are our choice; maps are not bounded here, so they weigh less.
_base_ = ['./cosa_vit-xt8_1xb8-600_shapes-144x144.py', '../_base_/models/view_pair.py']
model = dict(consistency=dict(_base_.consistency, loss_activation=dict(type='ConsistencyLoss', loss_weight=0.05)))
