"""Convert a segmentation checkpoint of PMM, or ImageNet weights of its backbones, into one that our configs load."""

from mmwsss.apis import run_cli
from mmwsss.apis.converting import convert_command
from mmwsss.models.utils.official_checkpoints import read_pmm_checkpoint
from mmwsss.models.utils.pmm_seg_weights import convert_pmm_seg


def main() -> None:
    """Read the arguments, convert."""
    convert_command(__doc__, lambda path: convert_pmm_seg(read_pmm_checkpoint(path)))


if __name__ == '__main__':
    run_cli(main)
