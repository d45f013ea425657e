"""Backend `mps`: runs GGUF models on Apple silicon GPUs."""
