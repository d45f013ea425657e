"""The OpenAI REST dialect."""
