"""Convert a checkpoint of a network of maps of PMM or SEAM (.pth) into a checkpoint that our configs load."""

from mmwsss.apis import run_cli
from mmwsss.apis.converting import convert_command
from mmwsss.models.utils.official_checkpoints import read_pmm_checkpoint
from mmwsss.models.utils.pmm_seam_weights import convert_pmm_seam


def main() -> None:
    """Read the arguments, convert."""
    convert_command(__doc__, lambda path: convert_pmm_seam(read_pmm_checkpoint(path)))


if __name__ == '__main__':
    run_cli(main)
