"""The jobs of a database: what they are, and what is asked of them by name."""

from __future__ import annotations

import json
import random
import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, overload

from sqlalchemy.engine import Connection, Row

from jobkit import alerting, definition, parameters, portraits, text
from jobkit.cards import Card
from jobkit.errors import BadInput, CannotStart, Conflict, JobkitError, NotFound
from jobkit.executors.target import resolve, split_function
from jobkit.expectation import Expectation
from jobkit.handles import (
    Backfill,
    Given,
    Job,
    Run,
    Slot,
    Version,
    job_of,
    run_of,
    version_of,
)
from jobkit.listings import author, deployment
from jobkit.listings.deployment import Deployment
from jobkit.listings.listing import Collection, Listing
from jobkit.schedule import clocks
from jobkit.states import EXTERNAL
from jobkit.store import definitions, history, paging, pings, requests, successes
from jobkit.store.definitions import schedule_of
from jobkit.text import clean
from jobkit.wakeups import notify

if TYPE_CHECKING:
    from polars import DataFrame

    from jobkit.analytics.filling import Filled

MOST_BACKFILLED = 10_000
MOST_LOOKED_AT = 500
SHOWN_SLOTS = 5
MOST_SAID = 50_000
"""Characters of a ping's message that are kept: one chunk of output at most."""


class JobList(Listing[Job]):
    """Jobs as they were when they were asked for, by name."""

    handle = Job

    def card(self) -> Card:
        return portraits.of_jobs(self)


class Jobs(Collection):
    """The jobs of a database, by name.

    `kit.jobs.load` and `kit.jobs["load"]` are one of them, `kit.jobs[:5]` the first;
    `kit.jobs(tag="sales", queue="gpu", active=True)` lists some.
    """

    def __call__(
        self, *, tag: str | None = None, queue: str | None = None, active: bool | None = None
    ) -> JobList:
        """Return the jobs that have a tag, are of a queue, are active or paused."""
        with self._kit.database.read() as connection:
            rows = definitions.listed(connection)
        jobs = [self.picture(row) for row in rows]
        return JobList(
            job
            for job in jobs
            if (tag is None or tag in job.tags)
            and queue in (None, job.queue)
            and active in (None, job.is_active)
        )

    def __iter__(self) -> Iterator[Job]:
        return iter(self())

    def __len__(self) -> int:
        with self._kit.database.read() as connection:
            return len(definitions.names(connection))

    @overload
    def __getitem__(self, asked: str) -> Job: ...
    @overload
    def __getitem__(self, asked: slice) -> JobList: ...
    def __getitem__(self, asked: str | slice) -> Job | JobList:
        """Return a job by its name, or a slice of all; NotFound without such a job."""
        if isinstance(asked, slice):
            return JobList(list(self())[asked])
        with self._kit.database.read() as connection:
            return self.picture(definitions.by_name(connection, asked))

    def __getattr__(self, name: str) -> Job:
        if name.startswith("_"):  # what Python and IPython ask of everything
            raise AttributeError(name)
        try:
            return self[name]
        except NotFound as error:
            raise AttributeError(str(error)) from None

    def __dir__(self) -> list[str]:
        with suppress(JobkitError):
            named = [name for name in self._ipython_key_completions_() if name.isidentifier()]
            return [*super().__dir__(), *named]
        return list(super().__dir__())

    def _ipython_key_completions_(self) -> list[str]:
        with self._kit.database.read() as connection:
            return definitions.names(connection)

    def __contains__(self, name: object) -> bool:
        return name in self._ipython_key_completions_()

    @property
    def df(self) -> DataFrame:
        """The jobs as a polars DataFrame, a row for each; documents are JSON text."""
        return self().df

    def overview(self) -> Card:
        """Return what is shown of all."""
        return self().card()

    def card(self, job: Job) -> Card:
        """Return what is shown of a job; without a database, as it was when it was read."""
        try:
            with self._kit.database.read() as connection:
                usual = successes.usual(connection, job.id)
                made = definitions.version(connection, job.id, job.version)
                rows = history.listed(connection, job_ids=[job.id], limit=portraits.SHOWN_RUNS)
            last = [run_of(self._kit, row) for row in rows]
            slots = self.next(job.name, SHOWN_SLOTS) if job.is_active else []
        except JobkitError as error:
            notes = [f"As it was when it was read. {error.message}"]
            upcoming = [job.next_run] if job.next_run is not None else []
            return portraits.of_job(job, upcoming, [], None, None, notes)
        version = None if made is None else version_of(made)
        return portraits.of_job(job, slots, last, usual, version)

    def page(
        self,
        words: str | None = None,
        is_active: bool | None = None,
        *,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[list[Job], str | None]:
        """Return jobs by name, those whose name holds some words, and the last name if more come.

        `after`: only names that come after this one.
        """
        with self._kit.database.read() as connection:
            rows = paging.jobs(
                connection, words=words, is_active=is_active, after=after, limit=limit + 1
            )
        more = rows[limit - 1].name if len(rows) > limit else None
        return [self.picture(row) for row in rows[:limit]], more

    def add(self, name: str, target: str, *args: str, **given: Any) -> Job:
        """Add a job whose schedule starts now; `Kit.add_job` says what is given."""
        definition.check_keywords(given)
        now = self._kit.clock.now()
        values = {
            "name": definition.name_column(name),
            "script_path": self._checked_target(target, given),
            "script_args": definition.arguments_column(args),
            "created_at": now,
            "is_active": True,
            "max_retries": self._kit.settings.max_retry_attempts,
            **(definition.external_columns(given, args) if _is_external(given) else {}),
            **definition.schedule_columns(given, self._kit.settings, now),
            **definition.other_columns(given),
        }
        values |= _checked_params(values)
        alerting.check(values.get("alerts"), values["schedule_type"])
        with self._kit.database.write() as connection:
            row = definitions.insert(
                connection, values, now, author.of(self._kit.user, self._kit.source)
            )
            author.note(self._kit, connection, "added a job", f"{row.name}, version 1")
            notify(connection)
        return self.picture(row)

    def edit(self, name: str, **given: Any) -> Job:
        """Change a job; what is not given stays. A changed schedule starts from now.

        `if_version`: only while that is its version; Conflict otherwise.
        """
        if_version = given.pop("if_version", None)
        target, args = given.pop("target", None), given.pop("args", None)
        definition.check_keywords(given)
        values = definition.other_columns(given)
        if target is not None:
            known = {"kind": self[name].kind}
            values["script_path"] = self._checked_target(target, known | given)
            values.setdefault("source", None)
        if args is not None:
            values["script_args"] = definition.arguments_column(args)
        now = self._kit.clock.now()
        timed = definition.SCHEDULE_KEYWORDS + definition.BOUND_KEYWORDS
        with self._kit.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            if if_version not in (None, job.version):
                raise Conflict(
                    f"The job {name!r} is at version {job.version}, not {if_version}.",
                    "Somebody changed it: look, and try again.",
                )
            _check_edit_of_external(job, given, args)
            if any(given.get(word) is not None for word in timed):
                values |= definition.schedule_columns(given, self._kit.settings, now, current=job)
            if not values:
                raise BadInput(f"Nothing to change in {name!r}.", "Give what is to be different.")
            wanted = {**job._asdict(), **values}
            values |= _checked_params(wanted)
            alerting.check(wanted["alerts"], wanted["schedule_type"])
            return self.picture(self._change(connection, job, values, "edited"))

    def deploy(self, name: str, target: str, **given: Any) -> Deployment:
        """Make a job be what is given, and as a new job in all else; unchanged is no version.

        A job that is paused stays so.
        """
        definition.check_keywords(given)
        now, settings = self._kit.clock.now(), self._kit.settings
        if name not in self:
            return Deployment("created", self.add(name, target, **given), "")
        with self._kit.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            target = self._checked_target(target, given)
            columns = deployment.wanted(target, given, settings, now, job)
            columns |= _checked_params({**columns, "name": name})
            alerting.check(columns["alerts"], columns["schedule_type"])
            values = deployment.changes(columns, job)
            if not values:
                return Deployment("unchanged", self.picture(job), "")
            said = deployment.diff(columns, job)
            values["defined_in"] = given.get("defined_in")
            changed = self._change(connection, job, values, "edited")
        return Deployment("changed", self.picture(changed), said)

    def notebook(self, path: str, *, name: str | None, pin: bool, **given: Any) -> Job:
        """Make a notebook a job; `Kit.notebook` says how."""
        if "source" in given or "kind" in given:
            raise BadInput("A notebook says itself what it is.", "Leave source= and kind= out.")
        if pin:
            given["source"] = _pinned(path, self._kit.settings.script_roots)
        return self.deploy(name or PurePath(path).stem, path, kind="notebook", **given).job

    def pause(self, name: str) -> Job:
        """Stop a schedule: its slots pass without a row until it is resumed."""
        with self._kit.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            if not job.is_active:
                return self.picture(job)
            return self.picture(self._change(connection, job, {"is_active": False}, "paused"))

    def resume(self, name: str, *, catch_up: bool = False) -> Job:
        """Start a schedule again from now; with `catch_up` the misfire policy gets what passed."""
        now = self._kit.clock.now()
        with self._kit.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            if job.is_active:
                return self.picture(job)
            values: dict[str, Any] = {"is_active": True}
            if not catch_up:
                values |= {"slots_until": now, "next_run": schedule_of(job).next_after(now)}
            return self.picture(self._change(connection, job, values, "resumed"))

    def delete(self, name: str) -> None:
        """Delete a job and end its unfinished runs; its history stays."""
        now = self._kit.clock.now()
        with self._kit.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            self._change(connection, job, {"is_active": False, "deleted_at": now}, "deleted")
            requests.abandon(connection, job.id, now)

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a job's definition, the newest first."""
        with self._kit.database.read() as connection:
            job = definitions.by_name(connection, name)
            return [version_of(row) for row in definitions.history(connection, job.id)]

    def next(self, name: str, count: int = 5) -> list[datetime]:
        """Return the next slots of a job, whether it is paused or not."""
        with self._kit.database.read() as connection:
            job = definitions.by_name(connection, name)
        return upcoming(schedule_of(job), self._kit.clock.now(), count)

    def slots(self, name: str, count: int = 5) -> list[Slot]:
        """Return the next slots, each with what a change of the clocks does to it."""
        with self._kit.database.read() as connection:
            schedule = schedule_of(definitions.by_name(connection, name))
        now = self._kit.clock.now()
        found = upcoming(schedule, now, count)
        notes = clocks.notes(schedule, now, found)
        return [Slot(at, note) for at, note in zip(found, notes, strict=True)]

    def given(self, name: str, count: int = 10) -> list[Given]:
        """Return the last distinct sets of parameters among a job's newest 500 runs."""
        found: dict[str, Given] = {}
        with self._kit.database.read() as connection:
            job = definitions.by_name(connection, name)
            for row in history.params_of(connection, job.id, limit=MOST_LOOKED_AT):
                if row.params and len(found) < count:
                    key = json.dumps(row.params, sort_keys=True)
                    found.setdefault(key, Given(row.params, row.id, row.created_at))
        return list(found.values())

    def submit(self, name: str, /, **params: Any) -> Run:
        """Make a manual run of a job, with these parameters over its own."""
        with self._kit.database.write() as connection:
            job = definitions.by_name(connection, name)
            checked = _given_params(job, params)
            row = requests.submit(connection, job, checked, self._kit.user, self._kit.clock.now())
            author.note(self._kit, connection, "submitted a run", f"run {row.id} of {name}")
            notify(connection)
        return run_of(self._kit, row, name)

    def submit_many(self, name: str, params: Sequence[dict[str, Any]]) -> list[int]:
        """Make a manual run for each set of parameters, all or none; returns their ids in order."""
        with self._kit.database.write() as connection:
            job = definitions.by_name(connection, name)
            checked = [_given_params(job, given) for given in params]
            now, user = self._kit.clock.now(), self._kit.user
            made = requests.submit_many(connection, job, checked, user, now)
            if made:
                about = f"{author.numbers('run', made)} of {name}"
                what = "submitted a run" if len(made) == 1 else "submitted runs"
                author.note(self._kit, connection, what, about)
            notify(connection)
        return made

    def backfill(
        self,
        name: str,
        start: datetime,
        end: datetime,
        *,
        again: bool = False,
        limit: int = 1,
        dry_run: bool = False,
    ) -> Backfill:
        """Make runs for a job's slots in [start, end], oldest first, `limit` of them at once.

        Slots with a successful or an unfinished run are skipped, with `again` they are not.
        """
        now = self._kit.clock.now()
        end = min(end, now)
        if start > end:
            raise BadInput(f"From {start} to {end} there is no past slot.", "Give --from and --to.")
        if not 1 <= limit <= 1000:
            raise BadInput(f"limit={limit} is out of bounds.", "Use 1 to 1000.")
        with self._kit.database.write() as connection:
            job = definitions.by_name(connection, name)
            _given_params(job, {})
            wanted = between(schedule_of(job), start, end)
            done: set[datetime] = set()
            if not again:
                done = requests.successful_slots(connection, job.id, start, end)
            slots = [slot for slot in wanted if slot not in done]
            skipped = [slot for slot in wanted if slot in done]
            if dry_run:
                return Backfill(slots, [], skipped)
            backfill_id = uuid.uuid4().hex[:12]
            made = requests.backfill(
                connection,
                job,
                slots,
                backfill_id=backfill_id,
                limit=limit,
                by=self._kit.user,
                now=now,
            )
            about = f"{name}: {len(made)} runs, {text.iso(start)} to {text.iso(end)}, {backfill_id}"
            author.note(self._kit, connection, "backfilled a job", about)
            notify(connection)
        return Backfill(slots, made, skipped, backfill_id)

    def fill(
        self, holes: Mapping[int, Sequence[datetime]], *, limit: int = 1, dry_run: bool = False
    ) -> Filled:
        """Make a run for each of these slots, by the job's id, that has none on its way or done."""
        from jobkit.analytics.filling import fill

        with self._kit.database.write() as connection:
            made = fill(
                connection,
                holes,
                by=self._kit.user,
                now=self._kit.clock.now(),
                limit=limit,
                dry_run=dry_run,
            )
            if made.runs:
                about = f"{len(made.runs)} runs of {', '.join(made.slots)}, {made.backfill_id}"
                author.note(self._kit, connection, "filled holes", about)
            notify(connection)
        return made

    def ping(
        self,
        name: str,
        signal: str = "success",
        *,
        exit_code: int | None = None,
        message: str = "",
        run_id: int | None = None,
    ) -> Run:
        """Let a job that runs elsewhere report itself; `Kit.ping` says how."""
        said = _read_ping(signal, exit_code, message, run_id)
        now, settings = self._kit.clock.now(), self._kit.settings
        with self._kit.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            if job.kind != EXTERNAL:
                raise BadInput(
                    f"{name!r} is run by jobkit, which knows how it goes.",
                    f"For one that runs elsewhere: jobkit job add NAME --{EXTERNAL}",
                )
            moved = pings.receive(
                connection,
                job,
                said,
                now,
                random.Random(),  # noqa: S311 - nothing of it is tried again
                by=self._kit.user,
                patience=settings.patience,
            )
            notify(connection)
        return self._kit.run(moved)

    def expectation(self, job: str, params: Mapping[str, Any] | None = None) -> Expectation:
        """Return how long a job usually takes, from its last 200 successes.

        `params`: of runs only that had these over the job's own, where 8 of them succeeded.
        """
        checked = None if params is None else definition.params_column(params)
        with self._kit.database.read() as connection:
            row = definitions.by_name(connection, job)
            wanted = None if checked is None else {**(row.params or {}), **checked}
            return successes.usual(connection, row.id, params=wanted)

    def _change(
        self, connection: Connection, job: Row[Any], values: dict[str, Any], what: str
    ) -> Row[Any]:
        now = self._kit.clock.now()
        changed = definitions.change(
            connection, job, values, what, now, author.of(self._kit.user, self._kit.source)
        )
        about = f"{changed.name}, version {changed.version}"
        author.note(self._kit, connection, f"{what} a job", about)
        notify(connection)
        return changed

    def _checked_target(self, target: str, given: Mapping[str, Any]) -> str:
        if given.get("source") is not None or _is_external(given):
            return definition.name_column(target)  # it only names what is kept, or is elsewhere
        try:
            path, _function = split_function(target)
            resolve(path, [root.absolute() for root in self._kit.settings.script_roots])
        except CannotStart as error:
            raise BadInput(error.message, error.hint) from None
        return target

    def picture(self, row: Row[Any]) -> Job:
        """Picture a row of a job that was read."""
        try:
            args = shlex.split(row.script_args or "")
        except ValueError:  # adopted; the attempt will say what is wrong with it
            args = [row.script_args]
        return job_of(
            self._kit,
            row,
            args=args,
            schedule=schedule_of(row).describe(),
            timing=definition.as_written(row),
        )


def _is_external(given: Mapping[str, Any]) -> bool:
    return given.get("kind") == EXTERNAL


def _check_edit_of_external(
    job: Row[Any], given: Mapping[str, Any], args: Sequence[str] | None
) -> None:
    """Refuse to tell a job that runs elsewhere how, and to move a job there or back."""
    is_external = job.kind == EXTERNAL
    if is_external:
        definition.external_columns(given, args)
    if given.get("kind") is not None and _is_external(given) != is_external:
        raise BadInput(
            f"{job.name!r} cannot become a job that runs {'here' if is_external else 'elsewhere'}.",
            "Add another job.",
        )


def _given_params(job: Row[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check what is given to one run against the job's signature; BadInput says what is wrong."""
    checked = parameters.check(job.signature, given, job.params, job=job.name)
    return definition.params_column(checked)


def _checked_params(values: Mapping[str, Any]) -> dict[str, Any]:
    """Check a definition's own parameters: all that are required, where a schedule makes runs."""
    if not values.get("signature"):
        return {}
    own = parameters.check(
        values["signature"],
        values.get("params") or {},
        job=values["name"],
        is_whole=values["schedule_type"] != "manual",
    )
    return {"params": own or None}


def _read_ping(signal: str, exit_code: int | None, message: str, run_id: int | None) -> pings.Ping:
    """Check what a ping says; the end of a message that is too long is kept."""
    if signal not in pings.SIGNALS:
        raise BadInput(f"{signal!r} is no signal.", f"Use one of: {', '.join(pings.SIGNALS)}.")
    if exit_code is not None and (not -255 <= exit_code <= 255 or signal == "start"):
        raise BadInput(f"exit_code={exit_code} is no exit code of that.", "Use 0 to 255 at an end.")
    if exit_code is not None and (exit_code == 0) != (signal == "success"):
        raise BadInput(
            f"The exit code {exit_code} is no {signal}.", "Give one of both: the code says it."
        )
    text = clean(message)
    kept = text[-MOST_SAID:]
    omitted = len(text[: len(text) - len(kept)].encode())
    return pings.Ping(signal, exit_code, kept, omitted, run_id)


def upcoming(schedule: Any, after: datetime, count: int) -> list[datetime]:
    """Return the first slots of a schedule after an instant; BadInput for too many."""
    if not 1 <= count <= 10_000:
        raise BadInput(f"count={count} is out of bounds.", "Use 1 to 10000.")
    slots: list[datetime] = []
    while len(slots) < count and (slot := schedule.next_after(slots[-1] if slots else after)):
        slots.append(slot)
    return slots


def between(schedule: Any, start: datetime, end: datetime) -> list[datetime]:
    """Return the slots of a schedule in [start, end]; BadInput for more than 10,000."""
    just_before = start - timedelta(microseconds=1)
    slots = list(islice(schedule.slots(just_before, end), MOST_BACKFILLED + 1))
    if len(slots) > MOST_BACKFILLED:
        raise BadInput(
            f"That range holds more than {MOST_BACKFILLED} slots.", "Fill it in shorter ranges."
        )
    return slots


def _pinned(path: str, roots: Sequence[Path]) -> str:
    """Read a notebook that a job is to carry: one of this folder, or of a script root."""
    places = [Path(path).expanduser(), *(root.expanduser() / path for root in roots)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise BadInput(f"There is no notebook {path}.", "Name a file of this folder.")
    try:
        read = found.read_text("utf-8")
        document = json.loads(read)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be pinned: {error}.", "Name a notebook.") from None
    if not isinstance(document, dict) or "nbformat" not in document:
        raise BadInput(f"{path} is no notebook.", "Name one.")
    for cell in document.get("cells", ()):  # what it showed last is no part of what it does
        if cell.get("cell_type") == "code":
            cell |= {"outputs": [], "execution_count": None}
    return json.dumps(document, ensure_ascii=False, indent=1)
