"""Reading the records of a sweep, checking its runs, and listing the runs that are missing."""
