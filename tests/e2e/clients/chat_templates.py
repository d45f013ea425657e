"""Renders conversations as transformers does: a folder of templates, and cases as JSON on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

folder, cases = Path(sys.argv[1]), json.load(sys.stdin)
rendered: dict[str, dict[str, str | None]] = {}
for file in sorted(folder.glob("*.jinja")):
    source = file.read_text(encoding="utf-8")
    rendered[file.name] = {}
    for name, case in cases.items():
        try:
            (text,), _ = render_jinja_template(
                conversations=[case["messages"]],
                tools=case["tools"],
                chat_template=source,
                add_generation_prompt=case["add_generation_prompt"],
                bos_token="<s>",
                eos_token="</s>",
            )
        except Exception:
            text = None  # the template refuses it
        rendered[file.name][name] = text
print(json.dumps(rendered))
