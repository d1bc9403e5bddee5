_base_ = './cam/cam_vit-b16_4xb16-13k_voc12aug-384x384.py'
