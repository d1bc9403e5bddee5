_base_ = './cam/cam_vit-xt8_1xb32-500_close-ups-48x48.py'
