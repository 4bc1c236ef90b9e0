"""Comparing the provenance of a sweep's runs."""

from ..contract.data_facts import KEYS
from ..contract.provenance import SHARED, read


def origin(job):
    """Return the provenance of a Job, or {} if it is unknown."""
    return read(job.path) if job.origin is None else job.origin


def as_recorded(jobs, known):
    """Return `known` with the environment names that the runs recorded, and a list of warnings.

    The environments of a user's data set are named after its folders, which may have changed since
    the runs were recorded. There is one warning for each data set whose names differ.

    Args:
        jobs: instances of sweep.Job. Those without args are ignored.
        known: {data set: (names of its environments, steps)}, as the host has them now.
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
                f"records, {', '.join(today)} now (renamed, added or removed since)"
            )
        if len(found) == 1:
            known[name] = next(iter(found)), steps
            sentences[-1] += "; the tables use the names in the records"
    return known, sentences


def mixed(jobs):
    """Return a warning for each fact that should be equal across runs but is not.

    Args:
        jobs: instances of sweep.Job with args. Runs that did not record a fact are ignored when it
            is compared.
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
            which = f" of {', '.join(map(str, group))}" if group else ""
            shown = ", ".join(f"{v[:40]} ({len(f)} runs)" for v, f in sorted(values.items()))
            sentences.append(f"the runs{which} differ in {name}: {shown}")
    return sentences


def table(jobs):
    """Return [(fact, value, number of runs)] for all facts that any run recorded."""
    found = [origin(job) for job in jobs]
    left_out = {"resumed_from", "class_names", *KEYS} - {"domains"}  # long lists
    left_out |= {"trained_parameters", "training_bytes"}  # of each method
    names = dict.fromkeys(name for one in found for name in one if name not in left_out)
    rows = []
    for name in names:
        values = {}
        # Only runs of wise_ft and soup record that fact; every run should record the others.
        for one in (one for one in found if name not in ("wise_ft", "soup") or name in one):
            shown = str(one.get(name, "not recorded"))
            values[shown] = values.get(shown, 0) + 1
        rows += [(name, value, n) for value, n in sorted(values.items())]
    return rows
