"""``volo data check``: report the content and the faults of a data set."""
