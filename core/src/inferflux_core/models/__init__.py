"""Model files: where they are."""
