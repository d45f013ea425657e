"""The protocol of LM Studio's SDKs: calls and channels over one WebSocket per namespace."""
