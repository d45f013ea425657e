"""The `oidc` auth provider: accepts access tokens of an OpenID Connect issuer."""
