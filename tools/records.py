"""Pack the records of a sweep into one file, or unpack them into run folders.

    python tools/records.py pack SWEEP FILE.jsonl
    python tools/records.py unpack FILE.jsonl SWEEP

The commands of this package read both. DomainBed's own collect_results needs the folders. Unpacking
restores results.jsonl byte for byte. Models, checkpoints, out.txt and err.txt are not packed.
"""

import argparse

from domainbed_carft.records import packed


def main(argv=None):
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="pack run folders into one file")
    pack.add_argument("sweep", help="the folder that contains the run folders")
    pack.add_argument("file", help="file to write, *.jsonl")
    unpack = commands.add_parser("unpack", help="unpack a file into run folders")
    unpack.add_argument("file", help="file written by `pack`, *.jsonl")
    unpack.add_argument("sweep", help="folder to create the run folders in")
    args = parser.parse_args(argv)
    try:
        if args.command == "pack":
            n, place = packed.pack(args.sweep, args.file), args.file
        else:
            n, place = packed.unpack(args.file, args.sweep), args.sweep
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"Written: {n} runs, {place}")


if __name__ == "__main__":
    main()
