"""How DomainBed's tables group records into cells."""


def get_grouped_records(records):
    """Group records into the cells of a table.

    A record with several test environments belongs to the group of each.

    Returns:
        [{"trial_seed", "dataset", "algorithm", "test_env", "records"}], in order of appearance.
    """
    groups = {}
    for record in records:
        args = record["args"]
        for test_env in args["test_envs"]:
            key = (args["trial_seed"], args["dataset"], args["algorithm"], test_env)
            groups.setdefault(key, []).append(record)
    names = ("trial_seed", "dataset", "algorithm", "test_env")
    return [{**dict(zip(names, key)), "records": group} for key, group in groups.items()]
