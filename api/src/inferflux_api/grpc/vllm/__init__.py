"""The protocol between routers and vLLM engines: token ids in, token ids out."""
