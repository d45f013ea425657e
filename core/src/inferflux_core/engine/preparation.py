"""From what a client sent to a request that the engine can run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inferflux_core.engine.adapters import AdapterRegistry
from inferflux_core.engine.chat_template import ChatTemplate
from inferflux_core.engine.constraints.after_reasoning import AfterReasoning
from inferflux_core.engine.constraints.compiler import ConstraintCompiler
from inferflux_core.engine.constraints.state import ConstraintState
from inferflux_core.engine.detokenizer import Detokenizer
from inferflux_core.engine.infill import detect_infill
from inferflux_core.engine.protocol import (
    AdapterUse,
    ChatPrompt,
    Generate,
    InfillPrompt,
    Prompt,
    TextPrompt,
)
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import RunnerCapabilities, Tokenizer
from inferflux_core.engine.sampling_params import Constraint
from inferflux_core.errors import (
    ContextLengthExceededError,
    InvalidRequestError,
    ModelLoadError,
)
from inferflux_core.tool_calls.formats import detect_format, detect_reasoning
from inferflux_core.tool_calls.marked_tokenizer import MarkedTokenizer, markers_of
from inferflux_core.tool_calls.prompting import for_template

__all__ = ["RequestFactory"]


class RequestFactory:
    """Renders, tokenizes and checks prompts for one model.

    Args:
        tokenizer: of the model.
        capabilities: of the runner.
        chat_template: file that replaces the model's own template.
        adapters: those that requests may name.

    Attributes:
        chat_template: source of the template, if there is one.
        tool_format: how the model spells tool calls.
        reasoning: what it writes around its reasoning, if it reasons.
        infill: how it is asked to write between two texts, if it can.

    Raises:
        ModelLoadError: the template cannot be read or compiled.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        capabilities: RunnerCapabilities,
        chat_template: str | None = None,
        adapters: AdapterRegistry | None = None,
    ) -> None:
        self._capabilities = capabilities
        self._adapters = adapters
        source = tokenizer.chat_template
        if chat_template is not None:
            try:
                source = Path(chat_template).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ModelLoadError(
                    f"cannot read chat template {chat_template}: {error}"
                ) from error
        self._template = (
            ChatTemplate(source, bos_text=tokenizer.bos_text, eos_text=tokenizer.eos_text)
            if source
            else None
        )
        self.chat_template = source
        self.tool_format = detect_format(source)
        self.reasoning = detect_reasoning(source)
        self.infill = detect_infill(tokenizer)
        markers = markers_of(self.tool_format, self.reasoning)
        self._unmarked = tokenizer
        self._tokenizer: Tokenizer = MarkedTokenizer(tokenizer, markers)
        self._constraints = ConstraintCompiler(self._tokenizer, self.tool_format)

    def build(self, command: Generate) -> Request:
        """Turn a command into a request, which holds its adapters until it has ended.

        Raises:
            InvalidRequestError: prompt or parameters cannot be used with this model.
            ModelNotFoundError: an adapter is not loaded.
            ContextLengthExceededError: the prompt fills the whole context.
            QueueFullError: there is no time for another constraint just now.
        """
        if not self._capabilities.generates:
            raise InvalidRequestError(
                "this model only embeds; use /v1/embeddings or /v1/rerank", param="model"
            )
        command.params.validate(self._capabilities.vocab_size)
        token_ids, in_reasoning = self._prepared(command.prompt)
        context = self._capabilities.max_model_len
        if not token_ids:
            raise InvalidRequestError("the prompt is empty", param="prompt")
        if len(token_ids) >= context:
            raise ContextLengthExceededError(
                f"the prompt has {len(token_ids)} tokens and the context of this model has {context}; "
                f"shorten the prompt to at most {context - 1} tokens"
            )
        limit, constraint = command.params.max_tokens, command.params.constraint
        request = Request(
            request_id=command.request_id,
            token_ids=token_ids,
            params=command.params,
            detokenizer=Detokenizer(self._tokenizer.piece, command.params.stop),
            cache_salt=command.cache_salt.encode(),
            tenant=command.tenant,
            priority=command.priority,
            in_reasoning=in_reasoning,
            constraint=self._constrained(constraint, in_reasoning=in_reasoning),
            max_total_tokens=context if limit is None else min(context, len(token_ids) + limit),
        )
        self._apply_adapters(request, command.adapters)
        return request

    def _apply_adapters(self, request: Request, uses: Sequence[AdapterUse]) -> None:
        """The last thing that may fail: what is held from here on is released with the request."""
        if not uses:
            return
        if self._adapters is None:
            raise InvalidRequestError("this model does not take adapters", param="adapters")
        request.adapters, salt = self._adapters.acquire(uses)
        request.cache_salt += salt

    def token_ids(self, prompt: Prompt) -> list[int]:
        """Render and tokenize a prompt.

        Raises:
            InvalidRequestError: it cannot be used with this model.
        """
        return self._prepared(prompt)[0]

    def _prepared(self, prompt: Prompt) -> tuple[list[int], bool]:
        """The tokens of a prompt, and whether it ends within the model's reasoning."""
        if isinstance(prompt, ChatPrompt):
            text = self.rendered(prompt)
            bos = self._tokenizer.bos_text
            # Most templates spell BOS themselves; twice would be one too many.
            add_special = not (bos and text.startswith(bos))
            ids = self._tokenizer.encode(text, add_special=add_special, parse_special=True)
            opens = self.reasoning is not None and text.rstrip().endswith(self.reasoning.opening)
            return ids, opens
        if isinstance(prompt, TextPrompt):
            return self._tokenizer.encode(
                prompt.text, add_special=prompt.add_special, parse_special=True
            ), False
        if isinstance(prompt, InfillPrompt):
            return self._infilled(prompt), False
        self.check_token_ids(prompt.token_ids)
        return list(prompt.token_ids), False

    def _infilled(self, prompt: InfillPrompt) -> list[int]:
        if self.infill is None:
            raise InvalidRequestError(
                "this model cannot fill in the middle: its vocabulary has no tokens for it; leave "
                "out `suffix`",
                param="suffix",
            )
        texts = (prompt.prefix, prompt.suffix)
        # What the caller wrote is text, even if it looks like a control token.
        return self.infill.prompt(
            *(self._unmarked.encode(t, add_special=False, parse_special=False) for t in texts)
        )

    def _constrained(
        self, constraint: Constraint | None, *, in_reasoning: bool
    ) -> ConstraintState | None:
        if constraint is None:
            return None
        state: ConstraintState = self._constraints.start(constraint)
        if in_reasoning:
            assert self.reasoning is not None
            state = AfterReasoning(state, self._tokenizer.piece, self.reasoning.closing.encode())
        return state

    def check_token_ids(self, token_ids: Sequence[int]) -> None:
        """Check that all of them are in the vocabulary.

        Raises:
            InvalidRequestError: one is not.
        """
        for token_id in token_ids:
            if not 0 <= token_id < self._capabilities.vocab_size:
                raise InvalidRequestError(
                    f"token id {token_id} is not in the vocabulary of "
                    f"{self._capabilities.vocab_size}",
                    param="prompt",
                )

    def rendered(self, prompt: ChatPrompt) -> str:
        """A conversation as the model sees it.

        Raises:
            InvalidRequestError: the model has no template, or it refuses the conversation.
        """
        if self._template is None:
            raise InvalidRequestError(
                "this model has no chat template; use /v1/completions, or set `chat_template` "
                "of the model to a template file",
                param="messages",
            )
        messages, tools = for_template(prompt.messages, prompt.tools, self.tool_format)
        return self._template.render(
            messages, tools=tools, options=prompt.options, continue_last=prompt.continue_last
        )
