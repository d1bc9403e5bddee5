_base_ = './acr/acr_vit-xt8_1xb16-600_shapes-144x144.py'
