"""Places where a policy can be kept: a file, Redis, PostgreSQL. None of them sees more than sealed bytes."""
