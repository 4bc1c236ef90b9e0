"""The scripts train, sweep and collect_results."""
