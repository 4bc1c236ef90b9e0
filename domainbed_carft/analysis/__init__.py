"""Saved runs opened again: scored, interpolated, and asked what contexts they see."""
