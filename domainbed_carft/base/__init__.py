"""What every other package may use: files, messages, processes, statistics. No CLIP."""
