"""The database: all that differs between SQLite and PostgreSQL lives here."""

from jobkit.db.bulk import continue_ids, copy_rows, without_indexes
from jobkit.db.columns import BigId, JsonText, Utc
from jobkit.db.conditions import LaterBy, OneOf, Rarely
from jobkit.db.database import Database
from jobkit.db.inserts import insert_new, insert_once
from jobkit.db.postgres import (
    drop_month,
    ensure_partitions,
    horizon,
    lock_manifest,
    lock_schema,
)
from jobkit.db.prepared import Prepared
from jobkit.db.pulse import Pulse
from jobkit.db.sizes import stored_bytes
from jobkit.db.sqlite import refuse_shared_folder
from jobkit.db.vitals import (
    dead_rows,
    ids_left,
    is_pooled,
    log_bytes,
    oldest_transactions,
    server,
    touch,
)

__all__ = [
    "BigId",
    "Database",
    "JsonText",
    "LaterBy",
    "OneOf",
    "Prepared",
    "Pulse",
    "Rarely",
    "Utc",
    "continue_ids",
    "copy_rows",
    "dead_rows",
    "drop_month",
    "ensure_partitions",
    "horizon",
    "ids_left",
    "insert_new",
    "insert_once",
    "is_pooled",
    "lock_manifest",
    "lock_schema",
    "log_bytes",
    "oldest_transactions",
    "refuse_shared_folder",
    "server",
    "stored_bytes",
    "touch",
    "without_indexes",
]
