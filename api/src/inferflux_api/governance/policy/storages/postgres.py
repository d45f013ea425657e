"""A policy in PostgreSQL: the present document in one table, those it superseded in another."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import UndefinedTable

from inferflux_api.governance.policy.storages.storage import (
    KEPT,
    ChangedMeanwhileError,
    Entry,
    StorageError,
    UnsafeError,
)

__all__ = ["PostgresStorage"]

_T = TypeVar("_T")
_Row = tuple[Any, ...]
_SECONDS: Final = 2
# The server ends what it does for a client that has given up, or is gone.
_SETTINGS: Final = f"""
SET statement_timeout = '{_SECONDS}s';
SET idle_in_transaction_session_timeout = '{_SECONDS}s'
"""
_EXISTS: Final = "SELECT to_regclass('inferflux_policy') IS NOT NULL"
# Under a lock of our own: of two at the same time, one would fail in spite of IF NOT EXISTS.
_CREATE: Final = """
SELECT pg_advisory_xact_lock(1229344851);
CREATE TABLE IF NOT EXISTS inferflux_policy (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), -- so there is one row at most
    generation bigint NOT NULL,
    data bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS inferflux_policy_history (
    generation bigint PRIMARY KEY,
    data bytea NOT NULL
)
"""
_BEGIN: Final = """
INSERT INTO inferflux_policy (generation, data) VALUES (%s, %s) ON CONFLICT DO NOTHING
"""
_REPLACE: Final = "UPDATE inferflux_policy SET generation = %s, data = %s WHERE data = %s"
_KEEP: Final = """
INSERT INTO inferflux_policy_history (generation, data) VALUES (%s, %s)
ON CONFLICT (generation) DO UPDATE SET data = excluded.data
"""
_TRIM: Final = "DELETE FROM inferflux_policy_history WHERE generation < %s"
_SUPERSEDED: Final = "SELECT generation FROM inferflux_policy_history ORDER BY generation DESC"


class PostgresStorage:
    """Keeps a policy in the tables `inferflux_policy` and `inferflux_policy_history`.

    They are created with the first policy if they are not there. No question takes longer than 2 s, and 2
    more for each server of the address if it takes a new connection.

    Args:
        url: `postgresql://user:password@host:port/database`, with any parameter that libpq knows.

    Raises:
        ValueError: it makes no sense; the text may hold a part of it.
    """

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise ValueError(str(error)) from None
        self._url = url
        where = f"{given.get('host') or 'localhost'}:{given.get('port') or 5432}"
        self._label = f"postgresql://{where}/{given.get('dbname') or ''}"
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    @property
    def label(self) -> str:
        """The address, without user and password."""
        return self._label

    def revision(self) -> Hashable:
        """Generation of the policy, and the transaction that wrote it."""
        rows = self._rows("SELECT generation, xmin::text FROM inferflux_policy")
        return rows[0] if rows else None

    def load(self) -> bytes | None:
        """The policy.

        Raises:
            UnsafeError: there is only its history.
            StorageError: it cannot be had.
        """
        rows = self._rows("SELECT data FROM inferflux_policy")
        if not rows and (generations := self.superseded()):
            raise _missing(generations[0])
        return rows[0][0] if rows else None

    def replace(self, before: Entry | None, after: Entry) -> None:
        """Replace the policy in one transaction, which waits for another that does, and then fails."""
        with self._cursor() as cursor:
            try:
                if before is None:
                    _begin(cursor, after)
                else:
                    _replace(cursor, before, after)
            except UndefinedTable:
                raise ChangedMeanwhileError from None

    def superseded(self) -> list[int]:
        """The generations of the history."""
        return [row[0] for row in self._rows(_SUPERSEDED)]

    def load_superseded(self, generation: int) -> bytes | None:
        """One of them."""
        rows = self._rows(
            "SELECT data FROM inferflux_policy_history WHERE generation = %s", generation
        )
        return rows[0][0] if rows else None

    def rewrite_superseded(self, entry: Entry) -> None:
        """Write one of them anew."""
        with self._cursor() as cursor:
            cursor.execute(_KEEP, (entry.generation, entry.data))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _rows(self, query: LiteralString, *arguments: object) -> list[_Row]:
        """What a query gives; nothing as long as there are no tables."""
        with self._cursor() as cursor:
            try:
                return cursor.execute(query, arguments).fetchall()
            except UndefinedTable:
                return []

    @contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[_Row]]:
        """A cursor that nobody else uses meanwhile; each statement is a transaction of its own."""
        with self._lock:
            try:
                connection = self._connected()
                connection.deadline = time.monotonic() + _SECONDS
                with connection.cursor() as cursor:
                    yield cursor
            except psycopg.Error as error:
                # The connection may be of no use any more; the next question opens another.
                self._drop()
                raise StorageError(f"PostgreSQL: {str(error).strip()}") from None

    def _connected(self) -> _Connection:
        if self._connection is None or self._connection.closed:
            connection = _Connection.connect(
                self._url,
                autocommit=True,
                connect_timeout=_SECONDS,
                application_name="inferflux",
                prepare_threshold=None,  # poolers between us and the server may not know what was prepared
            )
            self._connection = connection
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            connection.deadline = time.monotonic() + _SECONDS
            connection.execute(_SETTINGS)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


class _Connection(psycopg.Connection[_Row]):
    """Gives up at a deadline: time-outs of the server are of no use while it is silent."""

    deadline = math.inf

    def wait(self, gen: PQGen[_T], *args: Any, **kwargs: Any) -> _T:
        return super().wait(self._impatient(gen), *args, **kwargs)

    def _impatient(self, gen: PQGen[_T]) -> PQGen[_T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > self.deadline:
                    self.close()
                    raise psycopg.OperationalError(f"no answer within {_SECONDS} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            value: _T = end.value
            return value


def _begin(cursor: psycopg.Cursor[_Row], after: Entry) -> None:
    # To create what exists takes a right, too, which not every account has.
    if cursor.execute(_EXISTS).fetchone() != (True,):
        with cursor.connection.transaction():
            cursor.execute(_CREATE)
    with cursor.connection.transaction():
        if cursor.execute(_BEGIN, (after.generation, after.data)).rowcount != 1:
            raise ChangedMeanwhileError
        if row := cursor.execute(_SUPERSEDED).fetchone():
            raise _missing(row[0])


def _replace(cursor: psycopg.Cursor[_Row], before: Entry, after: Entry) -> None:
    with cursor.connection.transaction():
        new = (after.generation, after.data)
        if cursor.execute(_REPLACE, (*new, before.data)).rowcount != 1:
            raise ChangedMeanwhileError
        cursor.execute(_KEEP, (before.generation, before.data))
        cursor.execute(_TRIM, (after.generation - KEPT,))


def _missing(generation: int) -> UnsafeError:
    return UnsafeError(
        f"the policy is missing, but its history has generation {generation}",
        "restore it from a backup; if the store is to begin anew, empty inferflux_policy_history",
    )
