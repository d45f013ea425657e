"""Backend `cpu`: runs GGUF models on the processor."""
