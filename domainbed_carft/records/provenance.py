"""Where the numbers of a sweep come from: the provenance of its runs, compared."""

from ..contract.data_facts import KEYS
from ..contract.provenance import SHARED, read


def origin(job):
    """Return the provenance of a records.Job, {} where it is not known."""
    return read(job.path) if job.origin is None else job.origin


def as_recorded(jobs, known):
    """Return (known with the names that the runs recorded, [sentence per data set that differs]).

    A data set of a user's folder is named by the folders of today; its records are not.

    Args:
        jobs: scan.Job, those without args do not count.
        known: {data set: (names of its environments, steps)} of today, as the host knows it.
    """
    recorded = {}
    for job in jobs:
        if job.args and job.args["dataset"] in known:
            names = origin(job).get("environments")
            if isinstance(names, list):
                recorded.setdefault(job.args["dataset"], set()).add(tuple(map(str, names)))
    known, sentences = dict(known), []
    for name, found in recorded.items():
        today, steps = known[name]
        if found == {tuple(today)}:
            continue
        for then in sorted(found):
            sentences.append(
                f"the domains of {name} differ from those of its runs: {', '.join(then)} in the "
                f"records, {', '.join(today)} today (renamed, added or removed since)"
            )
        if len(found) == 1:
            known[name] = next(iter(found)), steps
            sentences[-1] += "; the tables have the names of the records"
    return known, sentences


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
    left_out = {"resumed_from", "class_names", *KEYS} - {"domains"}  # long lists
    names = dict.fromkeys(name for one in found for name in one if name not in left_out)
    rows = []
    for name in names:
        values = {}
        # most runs are not made by wise_ft; of all else each run should tell
        for one in (one for one in found if name != "wise_ft" or name in one):
            shown = str(one.get(name, "not recorded"))
            values[shown] = values.get(shown, 0) + 1
        rows += [(name, value, n) for value, n in sorted(values.items())]
    return rows
