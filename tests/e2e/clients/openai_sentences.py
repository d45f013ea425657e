"""Runs in the clients' own environment: a model that only embeds, as a user of the openai package has it."""

from __future__ import annotations

import json
import sys

import openai

url, key, model = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
texts = ["The cat sat on the mat.", "A cat lay on a rug.", "Revenue rose by ten percent."]

# Unless told otherwise the package asks for base64, and decodes it.
by_default = client.embeddings.create(model=model, input=texts)
as_numbers = client.embeddings.create(model=model, input=texts, encoding_format="float")
short = client.embeddings.create(model=model, input=texts[0], dimensions=64)
refused = []
for call in (
    lambda: client.embeddings.create(model=model, input="word " * 300),
    lambda: client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": texts[0]}]
    ),
):
    try:
        call()
    except openai.BadRequestError as error:
        refused.append(str(error))

print(
    json.dumps(
        {
            "texts": texts,
            "by_default": [entry.embedding for entry in by_default.data],
            "as_numbers": [entry.embedding for entry in as_numbers.data],
            "short": short.data[0].embedding,
            "tokens": by_default.usage.prompt_tokens,
            "refused": refused,
        }
    )
)
