"""Many requests in one file, answered when there is nothing better to do."""
