"""Presidio's analyzer, made so that it never reaches for the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from inferflux_core.errors import ConfigError, PluginError
from inferflux_guardrail_presidio.config import PresidioConfig

__all__ = ["Analyze", "make_analyzer"]

Analyze = Callable[[str], str | None]
"""The most certain kind of personal data in a text, if there is any."""

_OPTION: Final = "guardrails.options.presidio"


def make_analyzer(config: PresidioConfig) -> Analyze:
    """Load Presidio.

    Raises:
        PluginError: it is not installed.
        ConfigError: the language or model is not there, or an entity would never be found.
    """
    try:
        import spacy
        import tldextract
        from presidio_analyzer import AnalyzerEngine, pattern_recognizer
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        raise PluginError(
            f"guardrail plugin 'presidio' needs Presidio, which cannot be loaded: {error}",
            hint='pip install "inferflux[presidio]"',
        ) from error
    if config.timeout >= pattern_recognizer.REGEX_TIMEOUT_SECONDS:
        raise ConfigError(
            f"{_OPTION}.timeout is not below REGEX_TIMEOUT_SECONDS of the environment",
            hint="Presidio skips what takes longer than that, and would let the text pass.",
        )
    # By default it fetches the list of public suffixes at the first e-mail address.
    offline = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())
    tldextract.tldextract.TLD_EXTRACTOR = offline
    engine = SpacyNlpEngine([{"lang_code": config.language, "model_name": config.model or "blank"}])
    # Instead of `load()`, which downloads what is missing.
    engine.nlp = {config.language: _language(spacy, config)}
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=[config.language])
    if config.model is None:
        # It would promise names and places, and never find one.
        analyzer.registry.remove_recognizer("SpacyRecognizer", config.language)
    _check_entities(config, analyzer.get_supported_entities(config.language))

    def analyze(text: str) -> str | None:
        found = analyzer.analyze(
            text,
            language=config.language,
            entities=config.entities,
            score_threshold=config.threshold,
        )
        best = min(found, key=lambda finding: (-finding.score, finding.entity_type), default=None)
        return None if best is None else str(best.entity_type)

    return analyze


def _language(spacy: Any, config: PresidioConfig) -> Any:
    try:
        return spacy.load(config.model) if config.model else spacy.blank(config.language)
    except (ImportError, OSError, ValueError) as error:
        raise ConfigError(
            f"{_OPTION}: {error}".splitlines()[0],
            hint=f"pip install the spaCy model {config.model!r}; it is not downloaded by itself."
            if config.model
            else "Choose a language that spaCy knows.",
        ) from error


def _check_entities(config: PresidioConfig, supported: list[str]) -> None:
    unknown = set(config.entities or ()) - set(supported)
    if unknown or not supported:
        raise ConfigError(
            f"{_OPTION}.entities: nothing would ever find {', '.join(sorted(unknown)) or 'anything'}",
            hint=f"There is {', '.join(sorted(supported))}; others need a `model` of spaCy.",
        )
