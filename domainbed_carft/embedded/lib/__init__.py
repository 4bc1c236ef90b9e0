"""Modules shared by the scripts of the embedded host."""
