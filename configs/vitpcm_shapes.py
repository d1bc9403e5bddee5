_base_ = './vitpcm/vitpcm_vit-xt8_1xb16-1k_shapes-96x96.py'
