"""Chat templates of many models, rendered as transformers renders them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from inferflux_core.engine.chat_template import ChatTemplate
from inferflux_core.errors import InvalidRequestError
from inferflux_core.tool_calls.formats import detect_format, detect_reasoning

ROOT = Path(__file__).parents[2]
CLIENTS = Path(os.environ.get("CLIENTS_PYTHON", ROOT / ".venv-clients/bin/python"))
FOLDER = ROOT / ".venv/chat-templates"
TEMPLATES = sorted(FOLDER.glob("*.jinja"))

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city \u2014 today's, in <b>short</b>.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
QUESTION = {"role": "user", "content": 'Hello, <b>&"quoted"</b> \u00fcn\u00efcode \U0001f642 '}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "abcdefghi",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": "Paris"}},
        }
    ],
}
RESULT = {
    "role": "tool",
    "name": "get_weather",
    "tool_call_id": "abcdefghi",
    "content": "Rain",
}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "Yes."}
AGAIN = {"role": "user", "content": "And?"}


def case(*messages: dict[str, Any], tools: Any = None, opened: bool = True) -> dict[str, Any]:
    return {"messages": messages, "tools": tools, "add_generation_prompt": opened}


CASES = {
    "plain": case(QUESTION),
    "system": case(SYSTEM, QUESTION, ANSWER, AGAIN),
    "closed": case(QUESTION, ANSWER, opened=False),
    "tools": case(SYSTEM, QUESTION, tools=[WEATHER]),
    "result": case(QUESTION, CALL, RESULT, tools=[WEATHER]),
    "reasoning": case(QUESTION, ANSWER | {"reasoning_content": "Let me see."}, AGAIN),
}


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, str | None]]:
    done = subprocess.run(
        [CLIENTS, Path(__file__).parent / "clients/chat_templates.py", FOLDER],
        input=json.dumps(CASES),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, dict[str, str | None]] = json.loads(done.stdout)
    return seen


def test_the_templates_are_there() -> None:
    assert len(TEMPLATES) >= 70, "run ./scripts/test.sh, which fetches them"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_conversation_is_rendered_as_by_transformers(
    path: Path, name: str, expected: dict[str, dict[str, str | None]]
) -> None:
    wanted, given = expected[path.name][name], CASES[name]
    template = ChatTemplate(path.read_text(encoding="utf-8"), bos_text="<s>", eos_text="</s>")
    options = {"add_generation_prompt": given["add_generation_prompt"]}
    if wanted is None:
        with pytest.raises(InvalidRequestError):
            template.render(given["messages"], tools=given["tools"], options=options)
    else:
        assert template.render(given["messages"], tools=given["tools"], options=options) == wanted


def test_most_templates_take_most_conversations(
    expected: dict[str, dict[str, str | None]],
) -> None:
    refused = sum(text is None for texts in expected.values() for text in texts.values())
    assert refused < len(TEMPLATES) * len(CASES) / 10


@pytest.mark.parametrize(
    ("name", "tool_format", "reasons"),
    [
        ("Qwen-Qwen2.5-7B-Instruct", "hermes", False),
        ("Qwen-Qwen3-0.6B", "hermes", True),
        ("Qwen3-Coder", "qwen-coder", False),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "hermes", False),
        ("ibm-granite-granite-4.0", "hermes", False),
        ("meta-llama-Llama-3.1-8B-Instruct", "llama3", False),
        ("meta-llama-Llama-3.2-3B-Instruct", "llama3", False),
        ("mistralai-Mistral-Nemo-Instruct-2407", "mistral", False),
        ("unsloth-mistral-Devstral-Small-2507", "mistral-named", False),
        ("mistralai-Ministral-3-14B-Reasoning-2512", "mistral-named", True),
        ("google-gemma-4-31B-it", "gemma4", False),
        ("google-gemma-2-2b-it", "generic", False),
        ("microsoft-Phi-3.5-mini-instruct", "generic", False),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "generic", True),
        ("GLM-4.6", "generic", True),
        ("MiniMax-M3", "generic", False),
        ("meetkai-functionary-medium-v3.1", "generic", False),
    ],
)
def test_a_template_tells_how_its_model_calls_tools(
    name: str, tool_format: str, reasons: bool
) -> None:
    source = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    assert detect_format(source).name == tool_format
    assert (detect_reasoning(source) is not None) == reasons
