_base_ = './cosa/cosa_deit-t16_1xb4-1300_voc12mini-224x224.py'
