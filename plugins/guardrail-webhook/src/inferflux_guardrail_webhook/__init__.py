"""The `webhook` guardrail: asks an endpoint of the operator, or a moderation service."""
