"""What every model passes before an engine process may load it, and every adapter before a runner may."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from inferflux_core.config.schema import ModelConfig, ModelSigningConfig, RuntimeConfig
from inferflux_core.errors import InvalidRequestError, ModelLoadError, StartupError
from inferflux_core.model_signing.extra import require_cryptography
from inferflux_core.model_signing.files import Progress
from inferflux_core.model_signing.rules import SignatureReport, SigningRules
from inferflux_core.model_signing.verification import VerifiedModel, verify_adapter, verify_model
from inferflux_core.models import reference

if TYPE_CHECKING:
    from inferflux_core.model_signing.keys import TrustedKeys

__all__ = ["Admission", "SignatureGate", "adapter_check"]

logger = logging.getLogger("inferflux.signing")

_TOLD_FROM_BYTES: Final = 1 << 30
_TOLD_EACH_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Admission:
    """Files that may be loaded.

    Attributes:
        runtime: names the very files that were looked at.
        reports: on each model that was looked at.
    """

    runtime: RuntimeConfig
    reports: tuple[SignatureReport, ...]
    _mode: str
    _verified: tuple[VerifiedModel, ...]

    def confirm(self) -> None:
        """See, after a model was loaded, that it is still what was verified before.

        Raises:
            ModelLoadError: it is not, and the mode is `enforce`.
        """
        for model in self._verified:
            if not model.is_unchanged():
                error = ModelLoadError(
                    f"{model.path.name} changed while it was loaded, after its signature was verified",
                    hint="load it again when nobody writes to it any more",
                )
                _refuse(error, self._mode)


class SignatureGate:
    """Lets models pass that are signed by a trusted key, or all of them with a warning.

    Models that were verified once are not read again while size, times and place of their files on the
    disk stay the same: an engine that is restarted should not wait for that.

    Args:
        settings: by default nothing is looked at.

    Raises:
        ConfigError: a key cannot be read, or `cryptography` is missing.
    """

    def __init__(self, settings: ModelSigningConfig | None = None) -> None:
        settings = settings or ModelSigningConfig()
        self.rules = SigningRules()
        self._keys: TrustedKeys | None = None
        if settings.mode != "off":
            require_cryptography()
            from inferflux_core.model_signing.keys import TrustedKeys, read_public_key

            pems = [read_public_key(Path(path).expanduser()) for path in settings.public_keys]
            self.rules = SigningRules(settings.mode, tuple(pems))
            self._keys = TrustedKeys(pems)
        self._known: dict[tuple[Path, Path | None], VerifiedModel] = {}

    async def admit(self, model: ModelConfig, runtime: RuntimeConfig) -> Admission:
        """Verify a model, and its draft model, without holding up anything else.

        Args:
            model: its `path` is a file or folder on this machine.
            runtime: may name a draft model.

        Raises:
            ModelLoadError: one is not signed by a trusted key, and the mode is `enforce`; or there is no
                such draft model.
        """
        if self._keys is None or model.path is None:
            return Admission(runtime, (), self.rules.mode, ())
        path, signature = _place(model)
        found = [await self._look("model", path, signature, self._keys)]
        runtime, draft = _with_resolved_draft(runtime)
        if draft is not None:
            found.append(await self._look("draft_model", draft, None, self._keys))
        reports, verified = zip(*found, strict=True)
        return Admission(runtime, reports, self.rules.mode, tuple(filter(None, verified)))

    async def _look(
        self,
        role: Literal["model", "draft_model"],
        path: Path,
        signature: Path | None,
        keys: TrustedKeys,
    ) -> tuple[SignatureReport, VerifiedModel | None]:
        stopped = threading.Event()
        try:
            found = await asyncio.to_thread(self._verify, path, signature, keys, stopped)
        except asyncio.CancelledError:
            stopped.set()
            raise
        except Exception as error:
            # Whatever goes wrong, the model is not verified.
            problem = _refuse(error, self.rules.mode)
            return SignatureReport(role, path.name, problem=problem), None
        return SignatureReport(role, path.name, key_id=found.key_id), found

    def _verify(
        self, path: Path, signature: Path | None, keys: TrustedKeys, stopped: threading.Event
    ) -> VerifiedModel:
        known = self._known.get((path, signature))
        if known is not None and known.is_unchanged():
            return known

        def watch(total: int) -> Progress:
            return _LoggedProgress(path.name, total, stopped)

        found = self._known[path, signature] = verify_model(path, signature, keys, watch)
        logger.info("%s is signed with the key %s", path.name, found.key_id[:16])
        return found


def _place(model: ModelConfig) -> tuple[Path, Path | None]:
    assert model.path is not None
    return Path(model.path), Path(model.signature).expanduser() if model.signature else None


def _with_resolved_draft(runtime: RuntimeConfig) -> tuple[RuntimeConfig, Path | None]:
    """The draft model's file, if there is one, named in the configuration as it was found now."""
    drafting = runtime.speculative_decoding
    if not drafting.enabled or drafting.draft_model is None:
        return runtime, None
    path = reference.resolve(drafting.draft_model)
    drafting = msgspec.structs.replace(drafting, draft_model=str(path))
    return msgspec.structs.replace(runtime, speculative_decoding=drafting), path


def adapter_check(rules: SigningRules) -> Callable[[Path, Path], None]:
    """What an engine process does with the copy of an adapter, and its original, before it is loaded.

    It raises `InvalidRequestError` if the adapter is not signed by a trusted key and the mode is `enforce`.
    """
    if rules.mode == "off":
        return lambda copy, original: None
    require_cryptography()
    from inferflux_core.model_signing.keys import TrustedKeys

    keys = TrustedKeys(rules.public_keys)

    def check(copy: Path, original: Path) -> None:
        try:
            verify_adapter(copy, original, keys)
        except Exception as error:
            try:
                _refuse(error, rules.mode)
            except StartupError as refusal:
                raise InvalidRequestError(refusal.message, param="lora_path") from error

    return check


def _refuse(error: Exception, mode: str) -> str:
    """Say what is wrong with a file, and keep it from being loaded if that is wanted."""
    if isinstance(error, StartupError):
        problem, hint = error.message, error.hint
    else:
        problem, hint = f"its signature cannot be checked: {type(error).__name__}: {error}", None
    if mode == "enforce":
        raise ModelLoadError(problem, hint=hint) from error
    logger.warning("%s; it is loaded all the same, as `model_signing.mode` is warn", problem)
    return problem


class _LoggedProgress:
    """Says now and then how far a big model is, and ends the work when nobody waits for it any more."""

    def __init__(self, name: str, total: int, stopped: threading.Event) -> None:
        self._name, self._total, self._stopped = name, total, stopped
        self._done = 0
        self._told_at = time.monotonic()
        if total >= _TOLD_FROM_BYTES:
            logger.info("verifying the signature of %s, %.1f GB", name, total / 1e9)

    def __call__(self, num_bytes: int) -> None:
        if self._stopped.is_set():
            raise ModelLoadError(f"nobody waits for {self._name} any more")
        self._done += num_bytes
        now = time.monotonic()
        if now - self._told_at >= _TOLD_EACH_SECONDS:
            self._told_at = now
            logger.info(
                "verifying the signature of %s: %.1f of %.1f GB",
                *(self._name, self._done / 1e9, self._total / 1e9),
            )
