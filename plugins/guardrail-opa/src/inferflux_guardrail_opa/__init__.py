"""The `opa` guardrail: asks an Open Policy Agent, or an AuthZEN server, about prompts and answers."""
