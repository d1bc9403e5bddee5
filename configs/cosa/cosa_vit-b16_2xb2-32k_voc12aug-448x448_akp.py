# APC's adaptive-K pooling in both classifiers of CoSA: of the maps, so that K patches are chosen for every class.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448.py'
head = dict(pool='maps', pooling=dict(type='AdaptiveKPooling', rule='ratio', tau=0.9, kmin=2, kmax=10))
model = dict(head=head, aux_head=head)
