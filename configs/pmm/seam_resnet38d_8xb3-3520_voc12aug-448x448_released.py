# The first training as released: rate 0.02, and the weight decay as the momentum too. The release runs one process with 24 images;
# 8 processes with 3 average to the same gradients, as no batch norm trains. It continues from SEAM's network: convert that one by
# tools/model_converters/pmm_seam_to_mmwsss.py and give it by --cfg-options load_from=FILE.
_base_ = './seam_resnet38d_8xb3-3520_voc12aug-448x448.py'
optim_wrapper = dict(optimizer=dict(lr=0.02, momentum=5e-4))
