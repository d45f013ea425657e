from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inferflux_core.engine.kv.block_file import (
    BlockFileError,
    file_size,
    read_block,
    write_block,
)
from inferflux_core.engine.kv.disk_tier import DiskTier, Loaded
from inferflux_core.engine.kv.loads import Loads
from inferflux_core.engine.request import Request
from inferflux_core.errors import StartupError
from inferflux_core.testing import make_request

MODEL = "model-a|f16"
CONTENT = bytes(range(256)) * 64
ROOMY = 1 << 30


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def open_tier(tmp_path: Path) -> Iterator[Callable[..., DiskTier]]:
    tiers: list[DiskTier] = []

    def start(fingerprint: str = MODEL, max_bytes: int = ROOMY) -> DiskTier:
        tiers.append(DiskTier(tmp_path / "kv", fingerprint, max_bytes))
        return tiers[-1]

    yield start
    for tier in tiers:
        tier.close()


def load(tier: DiskTier, *numbers: int) -> list[bytes]:
    tier.load(7, [name(number) for number in numbers])
    deadline = time.monotonic() + 10
    while not (arrived := tier.poll()):
        assert time.monotonic() < deadline
        tier.wait(1)
    (loaded,) = arrived
    assert loaded.request_id == 7
    return loaded.contents


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "kv").glob("*/*.kv"))


def fill(open_tier: Callable[..., DiskTier], count: int) -> None:
    tier = open_tier()
    for number in range(count):
        tier.store(name(number), CONTENT + name(number))
    tier.close()


def test_blocks_outlive_the_process(open_tier: Callable[..., DiskTier]) -> None:
    fill(open_tier, 3)

    tier = open_tier()

    assert name(2) in tier
    assert load(tier, 0, 1, 2) == [CONTENT + name(number) for number in range(3)]
    assert (tier.hits, tier.errors) == (3, 0)
    assert tier.size == 3 * file_size(CONTENT + name(0))


def test_files_are_for_the_owner_only(open_tier: Callable[..., DiskTier], tmp_path: Path) -> None:
    fill(open_tier, 1)

    (file,) = files(tmp_path)
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0
    assert file.parent.parent.stat().st_mode & 0o077 == 0


def test_a_folder_that_others_may_write_to_is_closed(
    open_tier: Callable[..., DiskTier], tmp_path: Path
) -> None:
    fill(open_tier, 1)
    own = files(tmp_path)[0].parent
    own.chmod(0o777)

    open_tier()

    assert own.stat().st_mode & 0o777 == 0o700


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


def extend(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")


def rubbish(file: Path) -> None:
    file.write_bytes(os.urandom(500))


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def link(file: Path) -> None:
    """To a sound block, but outside the folder."""
    file.symlink_to(file.rename(file.parent.parent / "elsewhere"))


def grow(file: Path) -> None:
    """To more than there is memory for, without taking room on disk."""
    os.truncate(file, 1 << 42)


@pytest.mark.parametrize("harm", [truncate, empty, flip, extend, rubbish, folder, pipe, link, grow])
def test_a_damaged_file_is_never_used(
    open_tier: Callable[..., DiskTier],
    tmp_path: Path,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(open_tier, 3)
    harm(files(tmp_path)[1])
    tier = open_tier()

    with caplog.at_level(logging.WARNING):
        assert load(tier, 0, 1, 2) == [CONTENT + name(0)]

    assert tier.errors >= 1
    assert name(1) not in tier
    assert "computed again" in caplog.text


def test_a_swapped_file_is_never_used(open_tier: Callable[..., DiskTier], tmp_path: Path) -> None:
    fill(open_tier, 2)
    first, second = files(tmp_path)
    first.write_bytes(second.read_bytes())

    tier = open_tier()

    assert load(tier, 0) == []
    assert tier.errors == 1
    assert load(tier, 1) == [CONTENT + name(1)]


def test_a_foreign_file_is_never_used(open_tier: Callable[..., DiskTier], tmp_path: Path) -> None:
    fill(open_tier, 1)
    other = open_tier("model-b|f16")
    assert name(0) not in other
    (file,) = files(tmp_path)
    mine = next(p for p in (tmp_path / "kv").iterdir() if p != file.parent)
    (mine / file.name).write_bytes(file.read_bytes())
    other.close()

    other = open_tier("model-b|f16")

    assert load(other, 0) == []
    assert other.errors == 1


def test_a_vanished_file_is_a_miss(open_tier: Callable[..., DiskTier], tmp_path: Path) -> None:
    fill(open_tier, 1)
    tier = open_tier()
    files(tmp_path)[0].unlink()

    assert load(tier, 0) == []
    assert (tier.errors, name(0) in tier) == (0, False)


def test_least_recently_used_blocks_make_room(
    open_tier: Callable[..., DiskTier], tmp_path: Path
) -> None:
    fill(open_tier, 4)
    for age, file in enumerate(files(tmp_path)):
        os.utime(file, (age, age))
    tier = open_tier(max_bytes=4 * file_size(CONTENT + name(0)))
    load(tier, 0)
    tier.store(name(9), CONTENT + name(9))
    tier.close()

    left = {file.stem for file in files(tmp_path)}

    assert name(0).hex() in left, "it was used just now"
    assert name(9).hex() in left
    assert name(1).hex() not in left
    assert sum(file.stat().st_size for file in files(tmp_path)) <= tier.size + 1


def test_the_limit_counts_what_others_keep(
    open_tier: Callable[..., DiskTier], tmp_path: Path
) -> None:
    fill(open_tier, 4)
    for file in files(tmp_path):
        os.utime(file, (1, 1))
    other = open_tier("model-b|f16", max_bytes=2 * file_size(CONTENT + name(0)))

    other.store(name(5), CONTENT + name(5))
    other.close()

    assert len(files(tmp_path)) == 1


def test_what_is_no_block_is_left_alone(open_tier: Callable[..., DiskTier], tmp_path: Path) -> None:
    fill(open_tier, 2)
    own = files(tmp_path)[0].parent
    notes, odd = own / "notes.kv", own / "abcd.kv"
    notes.write_text("mine")
    odd.write_text("mine")
    (own / f"{name(7).hex()}.kv").mkdir()
    tier = open_tier(max_bytes=1)

    tier.store(name(9), CONTENT)
    tier.close()

    assert (notes.exists(), odd.exists()) == (True, True)
    assert [file.stem for file in files(tmp_path) if file.is_file()] == ["abcd", "notes"]
    assert tier.errors == 0


def test_an_unforeseen_error_does_not_stop_the_thread(
    open_tier: Callable[..., DiskTier], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(open_tier, 2)
    tier = open_tier()

    def no_memory(*args: object) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("inferflux_core.engine.kv.disk_tier.read_block", no_memory)
        assert load(tier, 0) == []

    assert tier.errors == 1
    assert load(tier, 0, 1) == [CONTENT + name(0), CONTENT + name(1)]


def test_nothing_wakes_who_has_been_served(open_tier: Callable[..., DiskTier]) -> None:
    """An engine that waits for more would spin."""
    fill(open_tier, 1)
    tier = open_tier()
    load(tier, 0)
    # As if it had been set after its load was taken.
    tier._arrived.set()

    assert tier.poll() == []

    assert not tier._arrived.is_set()


def test_reading_ahead_stops_when_memory_is_full(open_tier: Callable[..., DiskTier]) -> None:
    fill(open_tier, 6)
    tier = open_tier()
    loads = Loads(tier, limit=len(CONTENT))
    requests = [make_request([1], max_tokens=1, context=9) for _ in range(6)]
    for number, request in enumerate(requests):
        loads.add(request, [name(number)])

    def drain() -> list[Request]:
        taken: list[Request] = []
        while loads._asked:
            loads.wait(10)
            taken += [arrival.request for arrival in loads.take()]
            loads.check_integrity()
        return taken

    first = drain()
    assert 2 <= len(first) <= 3, "what is being read when the limit is passed comes too"
    assert len(loads) == 6 - len(first)

    for request in first:
        loads.settle(request)
    assert loads.remove(requests[-1])
    second = drain()

    assert first + second == requests[: len(first) + len(second)]
    assert len(second) >= 2


def test_two_tiers_share_a_folder(open_tier: Callable[..., DiskTier]) -> None:
    one, two = open_tier(), open_tier()
    for number in range(20):
        one.store(name(number), CONTENT + name(number))
        two.store(name(number), CONTENT + name(number))
    one.close()
    two.close()

    third = open_tier()

    assert len(load(third, *range(20))) == 20
    assert (one.errors, two.errors, third.errors) == (0, 0, 0)


def test_a_full_disk_is_reported_and_survived(tmp_path: Path) -> None:
    """In a process that may write no file larger than 4 KiB, which fails as a full disk does."""
    program = f"""
        import signal, resource, sys
        from pathlib import Path
        from inferflux_core.engine.kv.disk_tier import DiskTier
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        tier = DiskTier(Path({str(tmp_path / "kv")!r}), "m", 1 << 30)
        tier.store(bytes(16), bytes(100_000))
        tier.close()
        print(tier.errors, bytes(16) in tier)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )

    assert result.stdout.split() == ["1", "False"]
    assert [p for p in (tmp_path / "kv").glob("*/*") if p.is_file()] == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_leftovers_of_a_crash_are_removed(
    open_tier: Callable[..., DiskTier], tmp_path: Path
) -> None:
    fill(open_tier, 1)
    old, young = (files(tmp_path)[0].parent / f"{n}.123.part" for n in ("old", "young"))
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (1, 1))

    open_tier()

    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "kv"
    if kind == "file":
        root.write_text("")
    else:
        root = Path("/proc/kv")

    with pytest.raises(StartupError, match="cannot keep keys and values") as caught:
        DiskTier(root, MODEL, ROOMY)

    assert "nvme_offload.path" in str(caught.value)


def test_a_block_file_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "block.kv"

    write_block(path, b"f" * 16, b"n" * 16, CONTENT)

    assert read_block(path, b"f" * 16, b"n" * 16) == CONTENT
    assert path.stat().st_size == file_size(CONTENT)
    with pytest.raises(BlockFileError, match="another model"):
        read_block(path, b"g" * 16, b"n" * 16)


def test_a_wish_nobody_waits_for_disturbs_nobody(open_tier: Callable[..., DiskTier]) -> None:
    fill(open_tier, 1)
    tier = open_tier()

    tier.load(1, [name(0)])
    tier.load(2, [name(0)])
    arrived: list[Loaded] = []
    while len(arrived) < 2:
        tier.wait(1)
        arrived += tier.poll()

    assert [loaded.request_id for loaded in arrived] == [1, 2]
