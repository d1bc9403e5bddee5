# APC's adaptive-K pooling in both classifiers of CoSA: of the maps, so that K patches are chosen for every class.
_base_ = './cosa_deit-t16_1xb4-1300_voc12mini-224x224.py'
head = dict(pool='maps', pooling=dict(type='AdaptiveKPooling', rule='ratio', tau=0.9, kmin=2, kmax=10))
model = dict(head=head, aux_head=head)
