"""What the documentation shows is true: links lead somewhere, code runs, configurations are valid."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
import yaml

from inferflux_core.config import load_config

if TYPE_CHECKING:
    from tests.docs.pages import Block

