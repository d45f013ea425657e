"""The `pii` guardrail: masks or blocks personal data, exactly, also in streams."""
