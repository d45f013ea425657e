"""A chat of many turns, at a terminal or fed by a script."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from inferflux_cli.answer import Answer
from inferflux_cli.chat_session import Transcript
from inferflux_cli.client import Client
from inferflux_cli.errors import CliError
from inferflux_cli.generation import Generation, explain_finish
from inferflux_cli.prompt import Reader
from inferflux_cli.render import Output

__all__ = ["Chat", "one_interrupt"]

_BANNER = """\
Chat with {model} at {url}
Enter sends; Alt-Enter or a \\ at the end of the line starts a new line. Ctrl-C stops an answer,
Ctrl-D leaves, /help lists the commands."""

_HELP = """\
/save FILE    keep the conversation in FILE
/load FILE    continue the conversation in FILE
/clear        forget the conversation, but not the system message
/system TEXT  set the system message; without TEXT, remove it
/model NAME   talk to another model
/help         this list
/exit         leave (so does Ctrl-D)
//TEXT        send a message that begins with a slash"""


class Chat:
    """Reads messages, shows the answers and keeps the transcript.

    At a terminal a failed turn is reported and the chat goes on; a script stops at the first
    failure, as what follows in it may rest on what failed.
    """

    def __init__(
        self,
        client: Client,
        output: Output,
        reader: Reader,
        generation: Generation,
        transcript: Transcript,
    ) -> None:
        self._client = client
        self._output = output
        self._reader = reader
        self._generation = generation
        self._transcript = transcript
        self._commands: dict[str, Callable[[str], None]] = {
            "/save": self._save,
            "/load": self._load,
            "/clear": self._clear,
            "/system": self._system,
            "/model": self._model,
            "/help": self._help,
        }

    def run(self) -> None:
        """Talk until the input ends or asks to leave.

        Raises:
            CliError: a turn failed and nobody sits at a terminal to decide what to do.
        """
        if not self._generation.model:
            self._generation.model = self._client.default_model()
        if self._reader.at_terminal:
            model = self._generation.model or "the server's model"
            self._output.note(_BANNER.format(model=model, url=self._client.url))
        with self._survive():
            if self._transcript.messages and self._transcript.messages[-1].role == "user":
                self._answer_once()
        while (text := self._reader.read()) is not None and text.strip() != "/exit":
            with self._survive():
                self._handle(text)

    def _handle(self, text: str) -> None:
        word, _, argument = text.strip().partition(" ")
        if not word:
            return
        if word.startswith("/") and not word.startswith("//"):
            self._command(word, argument.strip())
            return
        self._transcript.add("user", text[1:] if text.startswith("//") else text)
        self._answer_once()

    def _command(self, word: str, argument: str) -> None:
        command = self._commands.get(word)
        if command is None:
            raise CliError(f"unknown command {word}", hint="/help lists the commands")
        command(argument)

    @contextmanager
    def _survive(self) -> Iterator[None]:
        try:
            yield
        except CliError as error:
            if not self._reader.at_terminal:
                raise
            self._output.error(error)
        except KeyboardInterrupt:
            # Ctrl-C between two turns has nothing left to stop.
            if not self._reader.at_terminal:
                raise

    def _answer_once(self) -> None:
        with one_interrupt():
            self._answer()

    def _answer(self) -> None:
        """Stream the answer to the last message and record as much of it as came."""
        body = {**self._generation.to_body(), "messages": self._transcript.to_request()}
        answer = Answer()
        stopped = complete = False
        try:
            with self._client.stream("/v1/chat/completions", body) as chunks:
                for chunk in chunks:
                    self._output.text(answer.add(chunk))
            complete = True
        except KeyboardInterrupt:
            stopped = True
        finally:
            self._output.end()
            self._record(answer.text, answer.finish, interrupted=not complete)
        explain_finish(self._output, answer.finish)
        if stopped:
            kept = "the part above is kept" if answer.text else "your message was taken back"
            self._output.note(f"[stopped; {kept}]")

    def _record(self, text: str, finish: str | None, *, interrupted: bool) -> None:
        if interrupted and not text:
            # Two user turns in a row would break many chat templates.
            self._transcript.withdraw()
        else:
            self._transcript.add("assistant", text, interrupted=interrupted)
            message = self._transcript.messages[-1].to_json()
            self._output.json({**message, "finish_reason": finish})

    def _save(self, argument: str) -> None:
        path = _path(argument, "/save")
        self._transcript.save(path, model=self._generation.model)
        self._output.note(f"saved to {path}")

    def _load(self, argument: str) -> None:
        path = _path(argument, "/load")
        self._transcript, model = Transcript.load(path)
        self._generation.model = model or self._generation.model
        count = len(self._transcript.messages)
        self._output.note(f"loaded {count} messages; model {self._generation.model or 'not set'}")

    def _clear(self, _: str) -> None:
        self._transcript.clear()
        self._output.note("conversation forgotten")

    def _system(self, argument: str) -> None:
        self._transcript.set_system(argument)
        self._output.note("system message " + ("set" if argument else "removed"))

    def _model(self, argument: str) -> None:
        self._generation.model = argument or self._generation.model
        self._output.note(f"model {self._generation.model or 'not set'}")

    def _help(self, _: str) -> None:
        self._output.note(_HELP)


def _path(argument: str, command: str) -> Path:
    if not argument:
        raise CliError(f"{command} needs a file name", hint=f"{command} FILE")
    return Path(argument).expanduser()


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Let one Ctrl-C through and swallow the impatient ones that follow it."""
    fired = False

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        nonlocal fired
        if not fired:
            fired = True
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
