"""The records of a sweep: read, judged, and what is missing."""
