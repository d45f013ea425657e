"""A policy in PostgreSQL: the present document and those before it, in one table."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from inferflux_api.governance.policy.storages.storage import (
    KEPT,
    ChangedMeanwhileError,
    Entry,
    StorageError,
)

__all__ = ["PostgresStorage"]

_SECONDS: Final = 2
_NO_TABLE: Final = psycopg.errors.UndefinedTable
_CREATE: Final = """
CREATE TABLE IF NOT EXISTS inferflux_policy (
    generation bigint PRIMARY KEY,
    data bytea NOT NULL
)
"""
_NEWEST: Final = "SELECT generation, data FROM inferflux_policy ORDER BY generation DESC LIMIT 1"
_LOCK: Final = "LOCK TABLE inferflux_policy IN EXCLUSIVE MODE"
_SEQUENCE_OF_CHANGES: Final = (
    "SELECT generation, xmin::text FROM inferflux_policy ORDER BY generation DESC LIMIT 1"
)


class PostgresStorage:
    """Keeps a policy in the table `inferflux_policy`; the row of the highest generation is in force.

    Args:
        url: `postgresql://user:password@host:port/database`, with any parameter that libpq knows.

    Raises:
        ValueError: it makes no sense.
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
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    @property
    def label(self) -> str:
        """The address, without user and password."""
        return self._label

    def revision(self) -> Hashable:
        """Generation of the policy, and the transaction that wrote it."""
        with self._cursor() as cursor:
            try:
                return cursor.execute(_SEQUENCE_OF_CHANGES).fetchone()
            except _NO_TABLE:
                return None

    def load(self) -> bytes | None:
        """The policy."""
        with self._cursor() as cursor:
            try:
                row = cursor.execute(_NEWEST).fetchone()
            except _NO_TABLE:
                return None
        return None if row is None else _bytes(row[1])

    def replace(self, before: Entry | None, after: Entry) -> None:
        """Add a row in one transaction, in which nobody else writes."""
        with self._cursor() as cursor, cursor.connection.transaction():
            cursor.execute(_CREATE)
            cursor.execute(_LOCK)
            row = cursor.execute(_NEWEST).fetchone()
            if (None if row is None else _bytes(row[1])) != (before.data if before else None):
                raise ChangedMeanwhileError
            cursor.execute(
                "INSERT INTO inferflux_policy (generation, data) VALUES (%s, %s)",
                (after.generation, after.data),
            )
            cursor.execute(
                "DELETE FROM inferflux_policy WHERE generation < %s", (after.generation - KEPT,)
            )

    def superseded(self) -> list[int]:
        """All generations but the one in force."""
        with self._cursor() as cursor:
            try:
                rows = cursor.execute(
                    "SELECT generation FROM inferflux_policy ORDER BY generation DESC OFFSET 1"
                ).fetchall()
            except _NO_TABLE:
                return []
        return [int(str(row[0])) for row in rows]

    def load_superseded(self, generation: int) -> bytes | None:
        """One of them."""
        with self._cursor() as cursor:
            try:
                row = cursor.execute(
                    "SELECT data FROM inferflux_policy WHERE generation = %s", (generation,)
                ).fetchone()
            except _NO_TABLE:
                return None
        return None if row is None else _bytes(row[0])

    def rewrite_superseded(self, entry: Entry) -> None:
        """Write one of them anew."""
        with self._cursor() as cursor:
            cursor.execute(
                "UPDATE inferflux_policy SET data = %s WHERE generation = %s",
                (entry.data, entry.generation),
            )

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    @contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[tuple[object, ...]]]:
        """A cursor that nobody else uses meanwhile; each statement is a transaction of its own."""
        with self._lock:
            try:
                with self._connected().cursor() as cursor:
                    yield cursor
            except psycopg.Error as error:
                # The connection may be of no use any more; the next question opens another.
                self._drop()
                raise StorageError(f"PostgreSQL: {str(error).strip()}") from None

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        if self._connection is None or self._connection.closed:
            connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=_SECONDS, application_name="inferflux"
            )
            self._connection = connection
            connection.execute(f"SET statement_timeout = '{_SECONDS}s'")
            connection.execute(f"SET lock_timeout = '{_SECONDS}s'")
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes | memoryview)
    return bytes(value)
