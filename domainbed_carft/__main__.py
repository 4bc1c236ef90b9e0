"""``python -m domainbed_carft``: the commands there are."""

from . import __version__

COMMANDS = {
    "train": "DomainBed's train, registered",
    "sweep": "DomainBed's sweep, registered",
    "collect_results": "DomainBed's tables of a sweep",
    "report": "tables and plots of a sweep, with intervals, in one page",
    "leaderboard": "published results, and yours among them",
    "wise_ft": "WiSE-FT for the runs of a sweep",
    "probe": "what a sweep's models see: contexts before and after fine-tuning",
    "evaluate": "one model on suites, data sets, folders",
    "doctor": "the state of an installation, a sweep, a data folder",
}

if __name__ == "__main__":
    print(f"domainbed_carft {__version__}. Commands, each with --help:")
    for name, what in COMMANDS.items():
        print(f"  {'python -m domainbed_carft.' + name:<42} {what}")
