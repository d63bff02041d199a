"""How much room a database takes."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection


def stored_bytes(connection: Connection) -> int:
    """Return the bytes of the database, without those of a WAL."""
    if connection.dialect.name == "postgresql":
        found = connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
        return int(found or 0)
    pages, size = (
        connection.scalar(sa.text(f"PRAGMA {name}")) or 0 for name in ("page_count", "page_size")
    )
    return int(pages * size)
