_base_ = './cam/cam_vit-xt8_1xb32-500_close-ups-72x72.py'
