"""The `rego` guardrail: policies in Rego, evaluated in the server's own process."""
