"""Data sets, their images, and the checks before any long work starts."""
