"""Where the numbers of a sweep come from: the provenance of its runs, compared."""

from ..contract.provenance import SHARED, read


def origin(job):
    """Return the provenance of a records.Job, {} where it is not known."""
    return read(job.path) if job.origin is None else job.origin


def mixed(jobs):
    """Return a sentence for each fact in which runs differ that must be the same.

    Args:
        jobs: records.Job, with args. A fact that some runs do not have counts as a difference only
            among those that have it.
    """
    groups = {}
    for job in jobs:
        args, found = job.args, origin(job)
        where = ((), (args["dataset"],), (args["dataset"], tuple(args["test_envs"])))
        while found:
            for names, group in zip(SHARED, where):
                for name in names:
                    if found.get(name) is not None:
                        values = groups.setdefault((name, group), {})
                        values.setdefault(str(found[name]), set()).add(job.folder)
            found = found.get("resumed_from")
            found = found if isinstance(found, dict) else None
    sentences = []
    for (name, group), values in groups.items():
        if len(values) > 1:
            of = f" of {', '.join(map(str, group))}" if group else ""
            shown = ", ".join(f"{v[:40]} ({len(f)} runs)" for v, f in sorted(values.items()))
            sentences.append(f"the runs{of} differ in {name}: {shown}")
    return sentences


def table(jobs):
    """Return [(fact, value, how many runs have it)], without facts that no run has."""
    found = [origin(job) for job in jobs]
    names = dict.fromkeys(name for one in found for name in one if name != "resumed_from")
    rows = []
    for name in names:
        values = {}
        # most runs are not made by wise_ft; of all else each run should tell
        for one in (one for one in found if name != "wise_ft" or name in one):
            shown = str(one.get(name, "not recorded"))
            values[shown] = values.get(shown, 0) + 1
        rows += [(name, value, n) for value, n in sorted(values.items())]
    return rows
