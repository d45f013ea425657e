"""Backend `rocm`: runs GGUF models on AMD GPUs."""
