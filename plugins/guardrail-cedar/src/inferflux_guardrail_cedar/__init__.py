"""The `cedar` guardrail: policies in Cedar, evaluated in the server's own process."""
