"""Convert a released Keras checkpoint of ViT-PCM (.h5) into a checkpoint that our configs load."""

from mmwsss.apis import run_cli
from mmwsss.apis.converting import convert_command
from mmwsss.models.utils.keras_vitpcm import convert_vitpcm_keras, read_keras_h5


def main() -> None:
    """Read the arguments, convert."""
    convert_command(__doc__, lambda path: convert_vitpcm_keras(read_keras_h5(path)), '.h5 file of the official release')


if __name__ == '__main__':
    run_cli(main)
