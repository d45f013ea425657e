"""Model folders as Hugging Face lays them out: safetensors, and JSON files that say what they mean."""
