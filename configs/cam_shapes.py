_base_ = './cam/cam_vit-xt8_1xb16-1k_shapes-96x96.py'
