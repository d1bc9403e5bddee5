_base_ = './cosa/cosa_vit-b16_2xb2-32k_voc12aug-448x448.py'
