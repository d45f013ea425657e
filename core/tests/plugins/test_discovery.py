from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inferflux_core.plugins import KINDS
from inferflux_core.plugins.discovery import discover, refresh

Install = Callable[..., None]


def test_plugins_are_found_without_importing_them(install: Install) -> None:
    install("idle", "raise AssertionError")

    (provider,) = discover().providers["scheduler", "idle"]

    assert (provider.distribution, provider.version) == ("acme-idle", "0.3")
    assert "fake_idle" not in sys.modules


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_has_a_group(install: Install, kind) -> None:
    install("idle", "", group=kind.group)

    assert "idle" in discover().names(kind.name)


def test_the_scan_runs_once_until_refreshed(install: Install) -> None:
    install("first", "")
    scan = discover()

    assert discover() is scan
    refresh()
    assert discover() is not scan


def test_other_groups_are_left_alone(install: Install) -> None:
    install("idle", "", group="console_scripts")

    assert all(name != "idle" for _, name in discover().providers)


def test_both_providers_of_one_name_are_kept(install: Install) -> None:
    install("twin", "", distribution="acme-one", version="1.0")
    install("twin", "", distribution="acme-two", version="2.1")

    providers = discover().providers["scheduler", "twin"]

    assert [str(provider) for provider in providers] == ["acme-one 1.0", "acme-two 2.1"]


def test_a_distribution_that_is_on_the_path_twice_counts_once(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("idle", "", version="1.0")
    copy = tmp_path / "copy" / "ACME.idle-0.9.dist-info"
    copy.mkdir(parents=True)
    (copy / "METADATA").write_text("Metadata-Version: 2.1\nName: ACME.idle\nVersion: 0.9\n")
    (copy / "entry_points.txt").write_text("[inferflux.schedulers]\nidle = fake_idle\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(copy.parent)])
    refresh()

    (provider,) = discover().providers["scheduler", "idle"]

    assert provider.version == "1.0"


def test_malformed_metadata_of_one_distribution_hides_no_other(install: Install) -> None:
    install("broken", "", also="this line has no equals sign\n")
    install("good", "")

    discovery = discover()

    assert "good" in discovery.names("scheduler")
    assert [broken.distribution for broken in discovery.unreadable] == ["acme-broken"]


def test_a_distribution_without_a_name_is_still_reported(install: Install, tmp_path: Path) -> None:
    install("broken", "", also="this line has no equals sign\n")
    (tmp_path / "site" / "acme_broken-0.3.dist-info" / "METADATA").unlink()
    refresh()

    assert [broken.distribution for broken in discover().unreadable] == ["unknown"]
