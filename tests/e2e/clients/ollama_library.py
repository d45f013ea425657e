"""Managing models as a user of the ollama package would."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import ollama

url, key, model = sys.argv[1:]
client = ollama.Client(host=url, headers={"authorization": f"Bearer {key}"})
question = [{"role": "user", "content": "Name the capital of France in one sentence."}]

digest = client.create_blob(os.environ["MODEL_FILE"])
created = list(
    client.create(
        model="poet:tiny",
        files={"model.gguf": digest},
        system="You are a poet.",
        parameters={"temperature": 0, "num_predict": 12, "stop": ["\n\n"]},
        license="Apache-2.0",
        stream=True,
    )
)
answer = client.chat("poet:tiny", question)
copied = client.copy("poet:tiny", "bard").status
derived = client.create(model="critic", from_="bard", system="You are a critic.").status
shown = client.show("critic")
original = client.show(model)
adapter = client.create_blob(os.environ["ADAPTER_FILE"])
client.create(model="tuned", from_="poet:tiny", adapters={"adapter.gguf": adapter})
tuned = client.chat("tuned", question)
again = client.chat("poet:tiny", question)
try:
    client.create(model="smaller", from_=model, quantize="q4_K_M")
    twice = "quantized"
except ollama.ResponseError as error:
    twice = f"{error.status_code} {error.error}"
folder = Path(os.environ["MODEL_FOLDER"])
files = {path.name: client.create_blob(path) for path in folder.iterdir()}
converted = [
    step.status
    for step in client.create(model="converted", files=files, quantize="q8_0", stream=True)
]
plain = {"temperature": 0, "num_predict": 12}
from_safetensors = client.chat("converted", question, options=plain)
listed = {entry.model: entry for entry in client.list().models}
running = [entry.model for entry in client.ps().models]

deleted = [
    client.delete(name).status for name in ("critic", "bard", "tuned", "converted", "poet:tiny")
]
try:
    client.chat("poet:tiny", question)
    gone = "still there"
except ollama.ResponseError as error:
    gone = f"{error.status_code} {error.error}"
try:
    client.push(model)
    pushed = "pushed"
except ollama.ResponseError as error:
    pushed = f"{error.status_code} {error.error}"

print(
    json.dumps(
        {
            "created": [step.status for step in created],
            "answer": answer.message.content,
            "eval_count": answer.eval_count,
            "tuned": tuned.message.content,
            "again": again.message.content,
            "twice": twice,
            "converted": sorted(set(converted)),
            "from_safetensors": from_safetensors.message.content,
            "copied": copied,
            "derived": derived,
            "shown": shown.model_dump(mode="json"),
            "original": original.model_dump(mode="json"),
            "listed": {name: entry.model_dump(mode="json") for name, entry in listed.items()},
            "running": running,
            "deleted": deleted,
            "left": [entry.model for entry in client.list().models],
            "gone": gone,
            "pushed": pushed,
        }
    )
)
