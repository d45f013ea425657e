"""OpenAI's Responses: over HTTP whole, streamed and in the background, and over WebSockets."""
