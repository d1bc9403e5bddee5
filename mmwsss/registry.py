"""Registries of scope ``mmwsss``, each a child of the one of mmseg.

With ``default_scope = 'mmwsss'`` our classes and those of mmseg are found by their plain names; other libraries keep
their prefix (``mmpretrain.VisionTransformer``).
"""

from mmengine.registry import Registry
from mmseg import registry as mmseg_registry


class ChildRegistry(Registry):
    """Child of one of mmseg's registries that enters its classes in the parent too, where the name is free.

    mmseg's own inference API builds a config in mmseg's scope, from which a child is not visible.
    """

    def _register_module(self, module, module_name=None, force: bool = False) -> None:
        super()._register_module(module, module_name=module_name, force=force)
        names = [module_name] if isinstance(module_name, str) else module_name or [module.__name__]
        for name in names:
            if self.parent.module_dict.get(name) is None:
                self.parent.register_module(name=name, module=module)


def _child(name: str, parent: Registry, *rooms: str) -> ChildRegistry:
    """A registry that imports ``rooms`` of mmseg and, where we have it, of this package on the first look-up.

    A child looks into its parent's table but does not import the parent's locations, so both are listed.
    """
    return ChildRegistry(name, parent=parent, scope='mmwsss', locations=list(rooms))


MODELS = _child('model', mmseg_registry.MODELS, 'mmseg.models', 'mmwsss.models', 'mmwsss.pseudo_labels')
DATASETS = _child('dataset', mmseg_registry.DATASETS, 'mmseg.datasets', 'mmwsss.datasets')
DATA_SAMPLERS = _child('data sampler', mmseg_registry.DATA_SAMPLERS, 'mmwsss.datasets')
TRANSFORMS = _child('transform', mmseg_registry.TRANSFORMS, 'mmseg.datasets.transforms', 'mmwsss.datasets.transforms')
METRICS = _child('metric', mmseg_registry.METRICS, 'mmseg.evaluation', 'mmwsss.evaluation')
HOOKS = _child('hook', mmseg_registry.HOOKS, 'mmseg.engine.hooks', 'mmwsss.engine')
LOOPS = _child('loop', mmseg_registry.LOOPS, 'mmwsss.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor',
    mmseg_registry.OPTIM_WRAPPER_CONSTRUCTORS,
    'mmseg.engine.optimizers',
    'mmwsss.engine',
)
OPTIMIZERS = _child('optimizer', mmseg_registry.OPTIMIZERS, 'mmseg.engine.optimizers', 'mmwsss.engine')
OPTIM_WRAPPERS = _child('optim_wrapper', mmseg_registry.OPTIM_WRAPPERS, 'mmwsss.engine')
PARAM_SCHEDULERS = _child(
    'parameter scheduler', mmseg_registry.PARAM_SCHEDULERS, 'mmseg.engine.schedulers', 'mmwsss.engine'
)
VISUALIZERS = _child('visualizer', mmseg_registry.VISUALIZERS, 'mmseg.visualization', 'mmwsss.visualization')
TASK_UTILS = _child('task util', mmseg_registry.TASK_UTILS, 'mmseg.models', 'mmwsss.refiners', 'mmwsss.datasets')

# Nothing of ours lives in these yet; without them mmengine warns that it cannot find the scope.
RUNNERS = _child('runner', mmseg_registry.RUNNERS)
RUNNER_CONSTRUCTORS = _child('runner constructor', mmseg_registry.RUNNER_CONSTRUCTORS)
MODEL_WRAPPERS = _child('model_wrapper', mmseg_registry.MODEL_WRAPPERS)
WEIGHT_INITIALIZERS = _child('weight initializer', mmseg_registry.WEIGHT_INITIALIZERS)
EVALUATOR = _child('evaluator', mmseg_registry.EVALUATOR)
VISBACKENDS = _child('vis_backend', mmseg_registry.VISBACKENDS)
LOG_PROCESSORS = _child('log_processor', mmseg_registry.LOG_PROCESSORS)
INFERENCERS = _child('inferencer', mmseg_registry.INFERENCERS, 'mmseg.apis')

# Pooling of patch scores into image scores; one registry for every head of every method.
POOLINGS = Registry('pooling', scope='mmwsss', locations=['mmwsss.models.poolings'])

# Refiners of maps and the steps that lead from maps to masks; see mmwsss.refiners and mmwsss.pseudo_labels.
REFINERS = Registry('refiner', scope='mmwsss', locations=['mmwsss.refiners'])
PSEUDO_LABEL_STEPS = Registry('pseudo-label step', scope='mmwsss', locations=['mmwsss.pseudo_labels'])
