"""Convert weights of a ViT (timm or DeiT .pth or .safetensors, original .npz) into a file under mmpretrain's names.

Backbones also read these files as they are (``init_cfg``); the converted one is for other programs and for a look.
"""

import pickle
import zipfile

from torch import Tensor

from mmwsss.apis import run_cli
from mmwsss.apis.converting import convert_command
from mmwsss.models.utils import load_vit_weights


def convert(path: str) -> dict[str, Tensor]:
    """Weights under mmpretrain's names, see :func:`~mmwsss.models.utils.load_vit_weights`.

    Raises:
        ValueError: the file is broken or no ViT.
    """
    try:
        return load_vit_weights(path)
    except (RuntimeError, EOFError, KeyError, AttributeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} cannot be read ({type(error).__name__}); is it a whole file of weights?') from error


def main() -> None:
    """Read the arguments, convert."""
    convert_command(__doc__, convert, source='.pth or .safetensors file of timm or DeiT, .npz of the original release')


if __name__ == '__main__':
    run_cli(main)
