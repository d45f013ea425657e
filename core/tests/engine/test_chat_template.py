from __future__ import annotations

import pytest

from inferflux_core.engine.chat_template import ChatTemplate
from inferflux_core.errors import InvalidRequestError, ModelLoadError

MESSAGES = [{"role": "user", "content": "Hi <there>"}]


def test_renders_with_the_settings_of_hugging_face() -> None:
    template = ChatTemplate(
        "{{ bos_token }}{% for m in messages %}\n  <|{{ m.role }}|>{{ m.content }}\n"
        "{% endfor %}\n{% if add_generation_prompt %}<|assistant|>{% endif %}",
        bos_text="<s>",
    )
    assert template.render(MESSAGES) == "<s>  <|user|>Hi <there>\n<|assistant|>"


def test_tojson_does_not_escape_html() -> None:
    assert ChatTemplate("{{ messages|tojson }}").render(MESSAGES) == (
        '[{"role": "user", "content": "Hi <there>"}]'
    )


def test_options_reach_the_template() -> None:
    template = ChatTemplate("{{ 'think' if enable_thinking else 'no' }}")
    assert template.render(MESSAGES, options={"enable_thinking": True}) == "think"


def test_raise_exception_is_the_callers_error() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequestError, match="roles must alternate"):
        template.render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages.__init__.__globals__ }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ messages[5].content.x }}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    ],
)
def test_hostile_templates_fail_on_the_request_alone(source: str) -> None:
    with pytest.raises(InvalidRequestError):
        ChatTemplate(source).render(MESSAGES)


def test_a_template_that_does_not_compile_fails_the_load() -> None:
    with pytest.raises(ModelLoadError, match="does not compile"):
        ChatTemplate("{% for %}")
