"""What runs left: their attempts, what they printed, their files and results."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jobkit.cells import Cell, read_cells
from jobkit.errors import BadInput, NotFound
from jobkit.handles import Artifact, Attempt, Output, artifact_of, attempt_of
from jobkit.store import history, keepsakes, manifest
from jobkit.terminal import without_sequences
from jobkit.tracebacks import last_traceback

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from jobkit.analytics.comparison import Changes
    from jobkit.kit import Kit

FIRST = "1970-01-01T00:00:00Z"
RESULT_FILE = "result.parquet"
TRACEBACK_LENGTH = 100_000
"""So many last characters of an output are searched for a traceback."""


class Traces:
    """What runs left, by their number."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def attempts(self, run_id: int) -> list[Attempt]:
        """Return the attempts of a run that have ended."""
        with self._kit.database.read() as connection:
            run = history.run(connection, run_id)
            return [attempt_of(row) for row in history.attempts_of(connection, run)]

    def output(self, run_id: int, attempt: int | None = None, after: int = -1) -> Output:
        """Return what an attempt, the last one by default, printed after a numbered chunk."""
        with self._kit.database.read() as connection:
            run = history.run(connection, run_id)
            number = run.attempt if attempt is None else attempt
            chunks = history.output_of(connection, run, number, after=after)
            ended = {row.attempt: row for row in history.attempts_of(connection, run)}
        mine = ended.get(number)
        return Output(
            text="".join(chunk.text for chunk in chunks),
            last_seq=chunks[-1].seq if chunks else after,
            attempt=number,
            is_complete=mine is not None or run.status not in ("PENDING", "IN_PROGRESS"),
            omitted_bytes=(mine.omitted_bytes or 0) if mine is not None else 0,
        )

    def cells(self, run_id: int, attempt: int | None = None) -> list[Cell]:
        """Return the cells of a notebook that an attempt, the last one by default, executes."""
        with self._kit.database.read() as connection:
            run = history.run(connection, run_id)
            number = run.attempt if attempt is None else attempt
            chunks = history.output_of(connection, run, number, after=-1, stream="cell")
        has_ended = run.status not in ("PENDING", "IN_PROGRESS") or number < run.attempt
        cells = read_cells([(chunk.at, chunk.text) for chunk in chunks], has_ended=has_ended)
        usual = self._kit.usual_cells(run.job_id, run_id, has_ended=has_ended) if cells else {}
        for cell in cells:
            if cell.state != "skipped":
                cell.usual = usual.get(cell.source)
        return cells

    def artifacts(self, run_id: int, attempt: int | None = None) -> list[Artifact]:
        """Return the files that a run's attempts left, or one of them; NotFound without the run."""
        with self._kit.database.read() as connection:
            history.run(connection, run_id)
            rows = keepsakes.artifacts_of(connection, run_id, attempt)
        return [artifact_of(self._kit, row) for row in rows]

    def artifact(self, run_id: int, name: str, attempt: int | None = None) -> Artifact:
        """Return a file that an attempt left, by default the last one that left it; NotFound."""
        with self._kit.database.read() as connection:
            history.run(connection, run_id)
            return artifact_of(self._kit, keepsakes.artifact(connection, run_id, name, attempt))

    def result(self, run_id: int) -> Any:
        """Return the result of a run's last attempt: JSON, or a DataFrame of `result.parquet`.

        BadInput when it has none.
        """
        ended = self.attempts(run_id)
        if ended and ended[-1].result is not None:
            return ended[-1].result
        try:
            return self.artifact(run_id, RESULT_FILE, ended[-1].attempt if ended else 0).df()
        except NotFound:
            raise BadInput(
                f"Run {run_id} has no result.",
                "A script prints `::result {json}`, or leaves result.parquet.",
            ) from None

    def packages(self, sha256: str) -> dict[str, str]:
        """Return the versions, by name, that a hash in a provenance stands for; NotFound."""
        with self._kit.database.read() as connection:
            return keepsakes.packages(connection, sha256)

    def changes(self, run_id: int, attempt: int | None = None) -> Changes:
        """Say what changed since the job last worked before an attempt, by default the last one."""
        from jobkit.analytics.comparison import archived_success, compare

        with self._kit.database.read() as connection:
            found = compare(connection, run_id, attempt)
            has_archive = found.worked_at is None and manifest.is_used(connection)
        if not has_archive:
            return found
        with suppress(BadInput):  # without the extra analytics nothing reads the archive
            worked = archived_success(self._kit.log((FIRST, found.began_at)), found.job_id)
            with self._kit.database.read() as connection:
                return compare(connection, run_id, attempt, worked)
        return found

    def traceback(self, run_id: int) -> str | None:
        """Return the last traceback of a run's last attempt: of a cell, or in what it printed."""
        with self._kit.database.read() as connection:
            run = history.run(connection, run_id)
            printed = history.tail_of(connection, run, run.attempt, TRACEBACK_LENGTH)
        failed = [cell.error for cell in self.cells(run_id) if cell.error]
        if failed:
            return without_sequences(failed[-1])
        return last_traceback(without_sequences(printed))

    def notebook(self, run_id: int, attempt: int | None = None) -> NotebookNode:
        """Return the notebook that an attempt executed; BadInput when there is none."""
        try:
            import nbformat
        except ImportError:
            raise BadInput(
                "This needs the extra notebook.", "Install it: pip install 'jobkit[notebook]'."
            ) from None
        left = [it for it in self.artifacts(run_id, attempt) if it.name.endswith(".ipynb")]
        if not left:
            raise BadInput(
                f"Run {run_id} left no notebook.",
                "Runs of an .ipynb do once they have ended; see run.artifacts().",
            )
        newest = max(left, key=lambda it: it.attempt)
        node: NotebookNode = nbformat.reads(newest.text(), as_version=4)
        return node
