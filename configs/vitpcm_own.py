_base_ = './vitpcm/vitpcm_deit-t16_1xb16-2k_own-224x224.py'
