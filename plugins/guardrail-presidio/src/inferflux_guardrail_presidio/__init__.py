"""The `presidio` guardrail: personal data as Microsoft's Presidio finds it."""
