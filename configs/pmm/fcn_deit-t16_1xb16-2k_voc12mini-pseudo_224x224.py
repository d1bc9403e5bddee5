# PUF (clamp, beta = k = 0.5) on pseudo masks of the small VOC benchmark: the network and the schedule of
# stage2/fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py. MMWSSS_PSEUDO_MASKS names the folder of masks.
_base_ = '../stage2/fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py'
model = dict(
    type='MultiViewEncoderDecoder',
    decode_head=dict(
        loss_decode=dict(_delete_=True, type='UnderFittingCrossEntropyLoss', form='clamp', beta=0.5, k=0.5)
    ),
)
