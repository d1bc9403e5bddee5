"""Short ways to export in tests."""

from mmwsss.pseudo_labels.export import export_pseudo_labels
from mmwsss.pseudo_labels.manifest import ExportSource


def source(**changes):
    return ExportSource(**{'config': 'a.py', 'config_sha256': 'c0', 'split': 'train', **changes})


def run(model, dataset, out, *, src=None, **options):
    return export_pseudo_labels(model, dataset, out, src or source(), progress=False, **options)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*.png')}
