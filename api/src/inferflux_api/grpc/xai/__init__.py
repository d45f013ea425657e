"""The protocol of xAI's API: chats, models, tokens, embeddings."""
