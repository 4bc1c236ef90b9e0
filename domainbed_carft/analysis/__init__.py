"""Evaluation, interpolation, probing, prediction and export of saved runs."""
