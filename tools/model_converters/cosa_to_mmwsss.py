"""Convert a released checkpoint of CoSA (.pth, one network) into a checkpoint that our configs load."""

import sys

import mmwsss  # noqa: F401  (first, it closes version gaps)
from mmwsss.apis.converting import converter_parser, save_converted
from mmwsss.models.utils.cosa_weights import STREAMS, convert_cosa, read_cosa_checkpoint, with_streams


def main() -> int:
    """Convert; returns the exit status."""
    parser = converter_parser(__doc__)
    parser.add_argument(
        '--stream', choices=STREAMS, default='both', help='network(s) of ours that get the weights (default: both)'
    )
    args = parser.parse_args()
    try:
        official, details = read_cosa_checkpoint(args.source)
        state = with_streams(convert_cosa(official), args.stream)
    except (OSError, RuntimeError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    save_converted(state, args.source, args.target, **details)
    return 0


if __name__ == '__main__':
    sys.exit(main())
