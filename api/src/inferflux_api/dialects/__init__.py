"""One folder per dialect: each translates its requests to ours and our answers to its own."""
