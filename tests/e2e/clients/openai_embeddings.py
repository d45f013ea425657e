"""Runs in the clients' own environment: embeddings and choices, as a user of the openai package has them."""

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
try:
    client.embeddings.create(model=model, input="word " * 3000)
    too_long = ""
except openai.BadRequestError as error:
    too_long = str(error)

prompt = "The capital of France is Paris and the capital of Italy is"
echoed = client.completions.create(
    model=model, prompt=prompt, max_tokens=0, echo=True, logprobs=1, temperature=0
)
best = client.completions.create(
    model=model, prompt=prompt, max_tokens=6, n=2, best_of=4, temperature=1, seed=1
)

print(
    json.dumps(
        {
            "by_default": [entry.embedding for entry in by_default.data],
            "as_numbers": [entry.embedding for entry in as_numbers.data],
            "short": short.data[0].embedding,
            "usage": by_default.usage.model_dump(),
            "too_long": too_long,
            "echoed": echoed.choices[0].model_dump(),
            "best": [choice.text for choice in best.choices],
            "best_tokens": best.usage.completion_tokens,
        }
    )
)
