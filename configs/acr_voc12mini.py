_base_ = './acr/acr_deit-t16_1xb8-1300_voc12mini-224x224.py'
