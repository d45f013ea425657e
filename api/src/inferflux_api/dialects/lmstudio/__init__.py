"""LM Studio's dialects: two of REST, and the protocol of its SDKs."""
