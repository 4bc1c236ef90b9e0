"""``carft export``: convert a trained model for other programs.

    carft export --run DIR --to open_clip --output_dir MODEL

hf           a folder for transformers' CLIPModel (ViTs in OpenAI's layout; needs safetensors)
open_clip    a folder for open_clip (local-dir:)
openai       a file for OpenAI's clip.load
onnx         files for ONNX runtimes (needs the extra `export`)
torchscript  files for torch.jit.load

Each folder has the fine-tuned image encoder, the text encoder, the head, the class names and a
model card (README.md). The first three formats can also be used as a clip_backbone.
"""

import os

from ..base.messages import refuse, unknown
from ..register import register
from . import flags

FORMS = ("hf", "open_clip", "openai", "onnx", "torchscript")


def parse_args(argv=None):
    """Return the parsed flags. Exit with 2 and a one-line message if they are invalid."""
    parser = flags.parser("export", __doc__)
    parser.add_argument(
        "--run",
        metavar="DIR",
        required=True,
        type=flags.file_or_folder,
        help="folder of a run, or its model.pkl",
    )
    parser.add_argument("--to", metavar="FORM", required=True, help=", ".join(FORMS))
    parser.add_argument("--output_dir", metavar="DIR", required=True, help="a new folder")
    parser.add_argument(
        "--alpha", type=float, default=1.0, help="(1 − α)·zero-shot + α·run (default: 1, the run)"
    )
    parser.add_argument("--class_names", metavar="FILE", help=flags.CLASS_NAMES)
    args = parser.parse_args(argv)
    if args.to not in FORMS:
        parser.error(unknown("form", args.to, FORMS))
    if not 0 <= args.alpha <= 1:
        parser.error(f"--alpha must be in [0, 1], got {args.alpha:g}")
    return args


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    flags.check_output("export", os.path.expanduser(args.output_dir))
    register()
    from ..analysis.open_run import open_run

    try:
        names = flags.lines_of(args.class_names)
        run = open_run(args.run, names, device="cpu", alpha=args.alpha)
        print(f"Written: {run.export(args.to, args.output_dir)} (for its use, see README.md there)")
    except (ValueError, OSError, ImportError) as error:
        refuse("export", error)


if __name__ == "__main__":
    main()
