_base_ = './apc/apc_deit-t16_1xb16-2k_voc12mini-224x224.py'
