"""Run the client with `python -m inferflux_cli`."""

from __future__ import annotations

from inferflux_cli.main import main

main()
