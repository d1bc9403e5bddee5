"""Convert a released checkpoint of ACR (.pth) into a checkpoint that our configs load."""

from mmwsss.apis import run_cli
from mmwsss.apis.converting import convert_command
from mmwsss.models.utils.acr_weights import convert_acr, read_acr_checkpoint


def main() -> None:
    """Read the arguments, convert."""
    convert_command(__doc__, lambda path: convert_acr(read_acr_checkpoint(path)))


if __name__ == '__main__':
    run_cli(main)
