"""The vocabulary of a GGUF model."""

from __future__ import annotations

import ctypes
import re

import llama_cpp

from inferflux_core.errors import InvalidRequestError

__all__ = ["LlamaTokenizer"]

_PIECE_BYTES = 256


class LlamaTokenizer:
    """Tokenizes with llama.cpp. Its functions only read the vocabulary, so any thread may call them."""

    def __init__(self, model: llama_cpp.llama_model_p) -> None:
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.vocab_size: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.end_of_generation_ids = frozenset(
            i for i in range(self.vocab_size) if llama_cpp.llama_vocab_is_eog(self._vocab, i)
        )
        self.bos_text = self._text(llama_cpp.llama_vocab_bos(self._vocab))
        self.eos_text = self._text(llama_cpp.llama_vocab_eos(self._vocab))
        template = llama_cpp.llama_model_chat_template(model, None)
        self.chat_template: str | None = template.decode("utf-8", "replace") if template else None
        pair = llama_cpp.llama_model_chat_template(model, b"rerank")
        self._pair_template: str | None = pair.decode("utf-8", "replace") if pair else None
        self._pieces: list[bytes | None] = [None] * self.vocab_size

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokenize.

        Raises:
            InvalidRequestError: the text cannot be represented.
        """
        data = text.encode()
        capacity = len(data) + 8
        tokens = (ctypes.c_int32 * capacity)()
        count = llama_cpp.llama_tokenize(
            self._vocab, data, len(data), tokens, capacity, add_special, parse_special
        )
        if count < 0:
            raise InvalidRequestError("the prompt cannot be tokenized by this model")
        return list(tokens[:count])

    def encode_pair(self, query: str, document: str) -> list[int]:
        """A query and a document as models that rank want them: by their template, or with separators."""
        if self._pair_template is not None:
            # One pass over the template: what a caller wrote is not searched for placeholders.
            parts = re.split(r"(\{query\}|\{document\})", self._pair_template)
            values = {"{query}": query, "{document}": document}
            text = "".join(values.get(part, part) for part in parts)
            return self.encode(text, add_special=True, parse_special=True)
        vocab = self._vocab
        begin = end = separator = []
        if llama_cpp.llama_vocab_get_add_bos(vocab):
            begin = [llama_cpp.llama_vocab_bos(vocab)]
        if llama_cpp.llama_vocab_get_add_eos(vocab):
            end = [llama_cpp.llama_vocab_eos(vocab)]
        if llama_cpp.llama_vocab_get_add_sep(vocab):
            separator = [llama_cpp.llama_vocab_sep(vocab)]
        first = self.encode(query, add_special=False, parse_special=False)
        second = self.encode(document, add_special=False, parse_special=False)
        # As in BERT, `[CLS] query [SEP] document [SEP]`, and RoBERTa, `<s> query </s></s> document </s>`.
        return [*begin, *first, *end, *separator, *second, *(end or separator)]

    def piece(self, token_id: int) -> bytes:
        """The bytes of a token; control tokens have none."""
        piece = self._pieces[token_id]
        if piece is None:
            piece = self._pieces[token_id] = self._render(token_id, special=False)
        return piece

    def _text(self, token_id: int) -> str:
        # LLAMA_TOKEN_NULL: the vocabulary has no such token.
        return (
            "" if token_id < 0 else self._render(token_id, special=True).decode("utf-8", "replace")
        )

    def _render(self, token_id: int, *, special: bool) -> bytes:
        size = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_token_to_piece(self._vocab, token_id, buffer, size, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            size = -length
