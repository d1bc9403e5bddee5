"""Where code that a training step can reach waits for the device, and why that may stay."""

from __future__ import annotations

HOST = 'works on what lies on the CPU by design'
SEARCH = 'the search of thresholds waits a few times in each call by design; FixedThreshold does not wait'
COMPILED = 'compiled loops of the CPU backend, whose tensors are on the CPU'
LATTICE = 'the lattice is sized by its features, which takes two waits a batch'
ONCE = 'runs once for each size, the result is kept'
OFFLINE = 'makes masks or predictions, no part of a training step of a shipped config'

# What is named by file and function below mmwsss, and the reason: what the source tells ...
KNOWN = {
    'models/losses/under_fitting.py:UnderFittingCrossEntropyLoss.forward': 'only with class_weight, a few numbers',
    'models/segmentors/acr.py:ACR.gradient_maps': OFFLINE,
    'ops/affine.py:apply_record': HOST,
    'ops/affine.py:crop_and_resize': HOST,
    'ops/affine.py:_transpose': HOST,
    'ops/affine.py:_common_size': HOST,
    'ops/normalize.py:_per_channel': 'buffers of the data preprocessor are on the device already',
    'pseudo_labels/crop_views.py:CropViews.outputs': OFFLINE,
    'pseudo_labels/proportional.py:refine_two_labels': OFFLINE,
    'pseudo_labels/searched.py:fit_gaussian_mixture': SEARCH,
    'pseudo_labels/searched.py:search_thresholds': SEARCH,
    'refiners/affinity.py:affinity_label_map': HOST,
    'refiners/cpu_lattice.py:CpuLattice.__init__': COMPILED,
    'refiners/cpu_lattice.py:cpu_mean_field': COMPILED,
    'refiners/dense_crf.py:_solve_numba': COMPILED,
    'refiners/par.py:_affinity_numba.build': COMPILED,
    'refiners/par.py:_propagate_numba.run': COMPILED,
    'refiners/permutohedral.py:PermutohedralLattice.filter': COMPILED,
    'refiners/permutohedral.py:TorchLattice.__init__': LATTICE,
    'refiners/permutohedral.py:code_layout': LATTICE,
    'refiners/random_walk.py:RandomWalk._walk': OFFLINE,
}
# ... and what only running it tells.
KNOWN_IN_STEPS = {
    'ops/sampling.py:sampling_matrices': ONCE,
    'refiners/par.py:propagate': 'gathers the present classes, one wait for each image',
    'refiners/permutohedral.py:code_layout': LATTICE,
    'refiners/permutohedral.py:__init__': LATTICE,
    'pseudo_labels/searched.py:fit_gaussian_mixture': SEARCH,
    'pseudo_labels/searched.py:search_thresholds': SEARCH,
    'losses/accuracy.py:accuracy': "mmseg's accuracy for the log",
}
