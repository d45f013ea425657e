"""Backend `cuda`: runs GGUF models on NVIDIA GPUs."""
