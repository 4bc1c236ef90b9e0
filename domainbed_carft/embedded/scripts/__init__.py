"""The commands: train, sweep, collect_results."""
