"""Backend `mlx-cpu`: runs model folders with MLX on the processor."""
