"""Put the records of a sweep into one file, or make the folders of its runs again.

    python tools/records.py pack SWEEP FILE.jsonl
    python tools/records.py unpack FILE.jsonl SWEEP

Commands of this package read either. DomainBed's own collect_results needs the folders: their
results.jsonl files come back byte for byte. Models, checkpoints, out.txt and err.txt are not
packed.
"""

import argparse

from domainbed_carft.records import packed


def main(argv=None):
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("pack", help="folders of runs into one file")
    one.add_argument("sweep", help="the folder that holds the folders of the runs")
    one.add_argument("file", help="to write, *.jsonl")
    other = commands.add_parser("unpack", help="one file into folders of runs")
    other.add_argument("file", help="as `pack` writes it, *.jsonl")
    other.add_argument("sweep", help="the folder to make the folders of the runs in")
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
