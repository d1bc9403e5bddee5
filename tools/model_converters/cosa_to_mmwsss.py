"""Convert a released checkpoint of CoSA (.pth, one network) into a checkpoint that our configs load."""

from mmwsss.apis import run_cli
from mmwsss.apis.converting import converter_parser, reading, save_converted
from mmwsss.models.utils.cosa_weights import STREAMS, convert_cosa, read_cosa_checkpoint, with_streams


def main() -> None:
    """Read the arguments, convert."""
    parser = converter_parser(__doc__)
    parser.add_argument(
        '--stream', choices=STREAMS, default='both', help='network(s) of ours that get the weights (default: both)'
    )
    args = parser.parse_args()
    with reading():
        official, details = read_cosa_checkpoint(args.source)
        state = with_streams(convert_cosa(official), args.stream)
    save_converted(state, args.source, args.target, **details)


if __name__ == '__main__':
    run_cli(main)
