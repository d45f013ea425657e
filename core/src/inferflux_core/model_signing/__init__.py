"""Signed models: OpenSSF's model-signing format, verified before anything is loaded, and written."""

from __future__ import annotations

from inferflux_core.model_signing.gate import Admission, SignatureGate, adapter_check
from inferflux_core.model_signing.rules import SignatureReport, SigningRules

__all__ = ["Admission", "SignatureGate", "SignatureReport", "SigningRules", "adapter_check"]
