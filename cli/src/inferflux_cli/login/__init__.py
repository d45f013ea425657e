"""Logging in at an OpenID Connect provider, and staying logged in."""
