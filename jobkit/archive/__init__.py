"""The archive: final runs of past months as Parquet files, and the manifest that counts them in.

Light to import: DuckDB, polars and the store of a bucket are loaded where they are used.
"""

from jobkit.archive.archiver import Part, Passed
from jobkit.archive.checking import Checked, Fault
from jobkit.archive.face import Archive, Month, Restored

__all__ = ["Archive", "Checked", "Fault", "Month", "Part", "Passed", "Restored"]
