# APC's adaptive-K pooling in both classifiers of CoSA: of the maps, so that K patches are chosen for every class.
_base_ = './cosa_vit-xt8_1xb8-600_shapes-144x144.py'
head = dict(pool='maps', pooling=dict(type='AdaptiveKPooling', rule='ratio', tau=0.9, kmin=2, kmax=10))
model = dict(head=head, aux_head=head)
