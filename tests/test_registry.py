import mmseg.registry
import pytest
from mmengine.registry import DefaultScope, init_default_scope

from mmwsss import registry

NAMES = ['MODELS', 'DATASETS', 'DATA_SAMPLERS', 'TRANSFORMS', 'METRICS', 'HOOKS', 'LOOPS', 'VISUALIZERS', 'TASK_UTILS']


@pytest.fixture
def scope():
    """Scope ``mmwsss`` as a runner sets it, taken back afterwards."""
    before = DefaultScope.get_current_instance()
    yield init_default_scope('mmwsss')
    init_default_scope(before.scope_name if before else 'mmengine')


@pytest.mark.parametrize('name', [*NAMES, 'OPTIM_WRAPPER_CONSTRUCTORS'])
def test_registry_is_child_of_mmseg(name):
    own = getattr(registry, name)
    assert own.parent is getattr(mmseg.registry, name)
    assert own.scope == 'mmwsss'


@pytest.mark.usefixtures('scope')
@pytest.mark.parametrize(
    ('kind', 'name', 'package'),
    [
        ('DATASETS', 'WeakVOCDataset', 'mmwsss'),
        ('METRICS', 'WSSSMetric', 'mmwsss'),
        ('METRICS', 'IoUMetric', 'mmseg'),
        ('TRANSFORMS', 'PackSegInputs', 'mmseg'),
        ('DATASETS', 'PascalVOCDataset', 'mmseg'),
        ('HOOKS', 'LoggerHook', 'mmengine'),
        ('MODELS', 'mmpretrain.VisionTransformer', 'mmpretrain'),
    ],
)
def test_default_scope_finds_class(kind, name, package):
    found = getattr(registry, kind).get(name)
    assert found is not None
    assert found.__module__.split('.')[0] == package


@pytest.mark.usefixtures('scope')
def test_root_registry_builds_our_class():
    # A runner builds through the root registry of mmengine and the scope alone.
    from mmengine.registry import METRICS

    metric = METRICS.build({'type': 'WSSSMetric'})
    assert type(metric).__module__.startswith('mmwsss.')


def test_unknown_class_is_refused():
    with pytest.raises(KeyError, match='NoSuchClass'):
        registry.MODELS.build({'type': 'NoSuchClass'})


def test_classes_are_found_in_the_scope_of_mmseg_too():
    import mmwsss.register_all

    assert mmwsss.register_all.models is not None
    before = DefaultScope.get_current_instance()
    init_default_scope('mmseg')
    try:
        for kind, name in (('MODELS', 'ViTPCM'), ('TRANSFORMS', 'PackWeakInputs'), ('TASK_UTILS', 'ColourAffinity')):
            assert getattr(mmseg.registry, kind).get(name) is getattr(registry, kind).get(name) is not None
        assert mmseg.registry.MODELS.get('EncoderDecoder').__module__.startswith('mmseg.')
    finally:
        init_default_scope(before.scope_name if before else 'mmengine')
