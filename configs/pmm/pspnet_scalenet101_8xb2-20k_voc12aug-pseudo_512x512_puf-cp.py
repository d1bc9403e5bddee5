# PUF; half-way the masks are renewed by the test setting of the network (CP within one training).
_base_ = './pspnet_scalenet101_8xb2-20k_voc12aug-pseudo_512x512.py'
custom_hooks = [*_base_.custom_hooks, dict(type='CyclicPseudoMaskHook', at=[10000])]
