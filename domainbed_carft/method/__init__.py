"""CAR-FT and its relatives as pure functions: losses, prompts, images, averages, knobs."""
