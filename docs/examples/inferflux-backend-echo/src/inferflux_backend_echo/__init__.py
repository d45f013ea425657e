"""The `echo` backend of InferFlux: answers every prompt with the prompt."""
