_base_ = './vitpcm/vitpcm_vit-xt8_1xb16-500_shapes-144x144.py'
