"""CLIP models: loading, precision, frozen copies, and caches of features and prompt weights."""
