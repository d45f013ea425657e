"""The template that makes a prompt of a conversation."""

from __future__ import annotations

from pathlib import Path

from inferflux_core.models.folder.fields import Fields, read_fields, read_text

__all__ = ["read_chat_template"]


def read_chat_template(folder: Path) -> str:
    """The template of a model, from wherever its version of Hugging Face's library put it, or "".

    Raises:
        ModelLoadError: it is malformed.
    """
    name = "chat_template.jinja"
    template = read_text(folder / name) or ""
    if not template:
        for file in ("tokenizer_config.json", "chat_template.json"):
            template = template or _in_json(read_fields(folder / file))
    if "\0" in template:
        raise Fields(name, {}).error("the chat template holds a NUL")
    return template


def _in_json(file: Fields) -> str:
    """A single template, or the default one of several."""
    if not isinstance(file.get("chat_template"), list):
        return file.text("chat_template")
    for entry in file.objects("chat_template"):
        if entry.text("name") == "default":
            return entry.text("template")
    raise file.error("none of its chat templates is called 'default'")
