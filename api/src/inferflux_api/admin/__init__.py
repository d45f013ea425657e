"""The API of administrators: the policy over REST, in the manner of OpenAI's."""
