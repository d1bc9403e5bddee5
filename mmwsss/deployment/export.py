"""Files of a segmentation network for onnxruntime and for ``torch.export.load``."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from mmwsss.apis.errors import UsageError
from mmwsss.utils.files import replacing

from .metadata import file_metadata
from .recurrent import onnx_translations
from .segmentation import SegmentationPath

OPSET = 18
TOLERANCE = 1e-4
_SIDES = (160, 224)  # of the example of a network without a grid of patches
AXES = {0: 'batch', 2: 'height', 3: 'width'}  # that may have any length
_NEEDED = ('onnx', 'onnxscript')


def export_program(path: SegmentationPath) -> ExportedProgram:
    """``path`` as a program for batches and images of any size.

    Raises:
        UsageError: this torch cannot, or the network has a part that depends on the size of the image.
    """
    if not hasattr(torch.export.Dim, 'DYNAMIC'):
        raise UsageError(f'exporting needs torch 2.6 or newer, this is {torch.__version__}')
    images = torch.rand(2, 3, *example_size(path.model)) * 255
    sizes = dict.fromkeys(AXES, torch.export.Dim.DYNAMIC)
    try:
        with _quiet():
            # Strict: only it follows len() of a tensor, which otherwise fixes the size of the batch.
            program = torch.export.export(path, (images,), dynamic_shapes=(sizes,), strict=True)
    except Exception as error:  # of many kinds, each with pages of text
        raise UsageError(
            f'{type(path.model).__name__} cannot be exported for images of any size: {_first_line(error)}'
        ) from error
    _drop_unread(program)
    return program


def _drop_unread(program: ExportedProgram) -> None:
    """Take out of ``program`` what no output depends on, such as the pooling of image scores.

    The exporter asserts the type of every tensor that changes it, and these assertions keep dead ends alive.
    """
    graph = program.graph_module.graph
    for node in graph.find_nodes(op='call_function', target=torch.ops.aten._assert_tensor_metadata.default):
        graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def example_size(model: nn.Module) -> tuple[int, int]:
    """Height and width of images to export ``model`` with.

    At the grid of its position embeddings a ViT would leave their interpolation out.
    """
    network = getattr(model, getattr(model, 'stream', ''), model)
    grid = getattr(network.backbone, 'patch_resolution', None)
    if grid is None:
        return _SIDES
    patch = network.backbone.patch_size
    return patch * (grid[0] + 1), patch * (grid[1] + 2)


def export_onnx(
    model: nn.Module,
    file: str | os.PathLike,
    classes: Sequence[str] = (),
    pipeline: Sequence[Mapping[str, Any]] | None = None,
) -> float | None:
    """Write the :class:`SegmentationPath` of ``model`` as ONNX file: ``images`` to ``logits``, both of any size.

    The names of the ``classes`` and how the test ``pipeline`` resizes images stand in the metadata of the file, see
    :func:`~mmwsss.deployment.metadata.file_metadata`. Where onnxruntime is installed, its results are compared with
    torch's at two sizes before the file gets its name.

    Returns:
        The largest difference, None where nothing was compared.

    Raises:
        UsageError: onnx or onnxscript is not installed, the network cannot be exported, or the results differ by more
            than :data:`TOLERANCE`.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise UsageError(f'{missing[0]} is not installed; run: pip install onnx onnxscript onnxruntime')
    path = SegmentationPath(model).cpu()
    program = export_program(path)
    with _quiet():
        onnx_program = torch.onnx.export(
            program,
            input_names=['images'],
            output_names=['logits'],
            opset_version=OPSET,
            dynamic_shapes=dict(images=AXES),  # only names them, as the program has them free
            dynamo=True,
            custom_translation_table=onnx_translations(),
            verbose=False,
        )
    onnx_program.model.metadata_props.update(file_metadata(model, classes, pipeline))
    with replacing(file) as temporary:
        onnx_program.save(str(temporary), external_data=False)
        difference = None
        if importlib.util.find_spec('onnxruntime') is not None:
            difference = largest_difference(path, temporary)
            if difference > TOLERANCE:
                raise UsageError(f'onnxruntime differs from torch by {difference:.1e}, more than {TOLERANCE}')
    return difference


def save_program(
    model: nn.Module,
    file: str | os.PathLike,
    classes: Sequence[str] = (),
    pipeline: Sequence[Mapping[str, Any]] | None = None,
) -> float:
    """Write the :class:`SegmentationPath` of ``model`` as ``.pt2`` file of ``torch.export``, with the same metadata.

    ``torch.export.load(file).module(check_guards=False)`` runs it; the guards would refuse images at the very size of
    the position embeddings. A network with an LSTM (the neck of ViT-PCM) needs ``import mmwsss.deployment`` before.

    Returns:
        The largest difference to the network, at two sizes.

    Raises:
        UsageError: see :func:`export_program`.
    """
    path = SegmentationPath(model).cpu()
    program = export_program(path)
    with replacing(file) as temporary, open(temporary, 'wb') as stream:
        torch.export.save(program, stream, extra_files=file_metadata(model, classes, pipeline))
    runs = torch.export.load(file).module(check_guards=False)
    return max(float((runs(images) - path(images)).abs().max()) for images in example_images(path.model))


def example_images(model: nn.Module) -> Iterator[torch.Tensor]:
    """Two batches of other sizes than that of the export, the first at the size of the position embeddings."""
    generator = torch.Generator().manual_seed(0)
    height, width = example_size(model)
    patch = getattr(getattr(model, getattr(model, 'stream', ''), model).backbone, 'patch_size', 32)
    for shape in ((1, 3, height - patch, width - 2 * patch), (3, 3, height + patch, width - patch)):
        yield torch.rand(shape, generator=generator) * 255


@torch.no_grad()
def largest_difference(path: SegmentationPath, file: str | os.PathLike) -> float:
    """Largest difference between onnxruntime on the ONNX ``file`` and ``path`` in torch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(Path(file).read_bytes(), providers=['CPUExecutionProvider'])
    differences = []
    for images in example_images(path.model):
        (logits,) = session.run(['logits'], {'images': images.numpy()})
        differences.append(float((torch.from_numpy(logits) - path(images)).abs().max()))
    return max(differences)


def _first_line(error: BaseException) -> str:
    lines = [' '.join(line.split()) for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {lines[0] if lines else ""}'[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
