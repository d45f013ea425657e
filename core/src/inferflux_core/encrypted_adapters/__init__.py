"""LoRA adapters at rest: encrypted in files, and decrypted only into memory."""

from __future__ import annotations

from inferflux_core.encrypted_adapters.files import encrypt_file, reencrypt_file
from inferflux_core.encrypted_adapters.header import MAGIC, SUFFIX, adapter_name
from inferflux_core.encrypted_adapters.keyset import Keyset, new_keyset
from inferflux_core.encrypted_adapters.memory import decrypted_in_memory

__all__ = [
    "MAGIC",
    "SUFFIX",
    "Keyset",
    "adapter_name",
    "decrypted_in_memory",
    "encrypt_file",
    "new_keyset",
    "reencrypt_file",
]
