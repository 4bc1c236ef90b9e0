"""Data sets, their images, and early checks of both."""
