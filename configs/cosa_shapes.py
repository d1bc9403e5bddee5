_base_ = './cosa/cosa_vit-xt8_1xb8-600_shapes-144x144.py'
