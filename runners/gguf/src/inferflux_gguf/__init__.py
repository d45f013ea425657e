"""GGUF files without llama.cpp: checked, read, made of model folders, and turned into them."""
