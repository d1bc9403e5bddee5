_base_ = './cosa/cosa_vit-b16_2xb4-60k_coco14-448x448.py'
