"""`@jobkit.job`: a function that is a job as well."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from jobkit import alerting, definition, parameters, settings, text, trial
from jobkit.capture import Captured, Refusal, capture
from jobkit.errors import BadInput, NotFound
from jobkit.handles import Backfill, Job, Run
from jobkit.kit import Kit, connect, describe, preview
from jobkit.listings.deployment import Deployment
from jobkit.whereabouts import defined_in

if TYPE_CHECKING:
    from polars import DataFrame

P = ParamSpec("P")
R = TypeVar("R")

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# What the function itself says.
OWN_KEYWORDS = ("kind", "source", "signature", "defined_in")


@overload
def job(function: Callable[P, R], /) -> Definition[P, R]: ...
@overload
def job(
    cron: str | None = None,
    /,
    *,
    name: str | None = None,
    dependencies: Sequence[str] | None = None,
    kit: Kit | None = None,
    **given: Any,
) -> Callable[[Callable[P, R]], Definition[P, R]]: ...
def job(
    cron: Any = None,
    /,
    *,
    name: str | None = None,
    dependencies: Sequence[str] | None = None,
    kit: Kit | None = None,
    **given: Any,
) -> Any:
    """Make a function a job: `@jobkit.job("*/15 8-18 * * 1-5", tz="Europe/Paris", retries=3)`.

    The function stays a function. `name`: of the job, the function's if not given; `dependencies`:
    requirements of the script instead of those found, `[]` to run in the workers' own environment;
    `kit`: where it is deployed, `jobkit.connect()` if not given. All else as `Kit.add_job` takes
    it; without a schedule it runs on demand. BadInput names what is wrong, where it is written.
    """
    if callable(cron):
        return Definition(cron, {})
    if cron is not None:
        if not isinstance(cron, str):
            raise BadInput(f"{cron!r} is no cron expression.", "Write it like '*/15 8-18 * * 1-5'.")
        if given.get("cron") is not None:
            raise BadInput("The schedule is given twice.", "Leave cron= out.")
        given["cron"] = cron
    return functools.partial(Definition, given=given, name=name, dependencies=dependencies, kit=kit)


job.__jobkit_decorator__ = True  # type: ignore[attr-defined]


class Definition(Generic[P, R]):
    """A function, and the job that it defines; nothing is written until `deploy()`."""

    __jobkit_definition__ = True

    def __init__(
        self,
        function: Callable[P, R],
        given: Mapping[str, Any],
        name: str | None = None,
        dependencies: Sequence[str] | None = None,
        kit: Kit | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self._given = dict(given)
        self._dependencies = dependencies
        self._kit = kit
        self._check()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        return self.function(*args, **kwargs)

    def _check(self) -> None:
        """Refuse what is wrong with the definition before anything is made of it."""
        definition.name_column(self.name)
        for keyword in OWN_KEYWORDS:
            if keyword in self._given:
                raise BadInput(f"{keyword}= is what the function says itself.", "Leave it out.")
        definition.check_keywords(self._given)
        # From long ago: a notebook may be run again when its only slot has passed.
        timing = definition.schedule_columns(self._timing(), settings.load(), LONG_AGO)
        alerting.check(self._columns().get("alerts"), timing["schedule_type"])

    def _columns(self) -> dict[str, Any]:
        return definition.other_columns(self._given | self._typed_params())

    def _typed_params(self) -> dict[str, Any]:
        given = self._given.get("params")
        if not given:
            return {}
        signature = parameters.read(self.function)[0]
        return {"params": parameters.check(signature, given, job=self.name, is_whole=False)}

    # What it is

    @property
    def signature(self) -> list[dict[str, Any]]:
        """Its parameters, read from the function's signature."""
        return parameters.read(self.function)[0]

    @property
    def captured(self) -> Captured:
        """The function with all that it reads, as it is now, or what is refused."""
        refused = [
            Refusal(item.name, item.asked, self.function.__name__, item.why, f"{item.way_out}.")
            for item in parameters.read(self.function)[1]
        ]
        return capture(self.function, dependencies=self._dependencies, refusals=refused)

    @property
    def source(self) -> str:
        """The script that workers run; CannotTravel names all that stands in the way."""
        captured = self.captured
        captured.check()
        return captured.text

    @property
    def schedule(self) -> str:
        """When it runs, in words."""
        timing = self._timing()
        return describe(after=LONG_AGO, **timing) if timing else "on demand"

    def _timing(self) -> dict[str, Any]:
        words = definition.SCHEDULE_KEYWORDS + definition.BOUND_KEYWORDS
        return {name: self._given[name] for name in words if self._given.get(name) is not None}

    # Here, without a queue

    def test(self, /, **params: Any) -> R:
        """Run the captured script in a fresh process, as a worker would, and return its result.

        What it prints is shown as it comes. JobFailed, with the traceback of that process, when it
        does not end well; BadInput for parameters that its signature does not take.
        """
        own = self._columns().get("params") or {}
        checked = parameters.check(self.signature, params, own, job=self.name)
        columns = self._columns() | {
            "script_path": self._target,
            "source": self.source,
            "kind": "python",
        }
        result: R = trial.run(self.name, columns, {**own, **checked}, settings.load())
        return result

    @property
    def _target(self) -> str:
        return f"{self.function.__name__}.py"

    # Deployed

    def deploy(self, kit: Kit | None = None) -> Deployment:
        """Make the job in the database be what is written here, and print what changes.

        What is the same already makes no version. CannotTravel names all that the function reads
        and that cannot go with it; nothing is written then.
        """
        if kit is not None:
            self._kit = kit
        done = self._opened().jobs.deploy(
            self.name,
            self._target,
            **self._given
            | self._typed_params()
            | {
                "kind": "python",
                "source": self.source,
                "signature": self.signature,
                "defined_in": defined_in(self.function),
            },
        )
        print(done, flush=True)  # noqa: T201 - a cell shows it also where it goes on
        return done

    def _opened(self) -> Kit:
        if self._kit is None:
            self._kit = _default_kit(settings.load().db_url)
        return self._kit

    @property
    def job(self) -> Job:
        """The job as it is deployed; BadInput when it is not."""
        try:
            return self._opened().job(self.name)
        except NotFound:
            raise BadInput(
                f"{self.name} is not deployed to {self._opened().url}.",
                f"Run {self.function.__name__}.deploy() first.",
            ) from None

    def submit(self, /, **params: Any) -> Run:
        """Make a run of what is deployed, with these parameters over the job's own."""
        return self.job.submit(**params)

    def next(self, count: int = 5) -> list[datetime]:
        """Return the next slots: of the deployed job, or as it is written here."""
        if self._kit is not None and self.name in self._kit.jobs:
            return self._kit.next_slots(self.name, count)
        timing = self._timing()
        with suppress(BadInput):  # its last slot has passed
            return preview(count=count, **timing) if timing else []
        return []

    def pause(self) -> Job:
        """Stop the schedule; what is unfinished goes on."""
        return self.job.pause()

    def resume(self, *, catch_up: bool = False) -> Job:
        """Start the schedule again from now; with `catch_up` by the misfire policy."""
        return self.job.resume(catch_up=catch_up)

    def backfill(
        self,
        start: datetime | str,
        end: datetime | str,
        *,
        again: bool = False,
        limit: int = 1,
        dry_run: bool = False,
    ) -> Backfill:
        """Make runs for past slots, see `Kit.backfill`; texts are in the job's time zone."""
        job = self.job
        first, last = (
            text.parse_instant(value, job.timezone) if isinstance(value, str) else value
            for value in (start, end)
        )
        return self._opened().backfill(
            self.name, first, last, again=again, limit=limit, dry_run=dry_run
        )

    def history(self, window: str | timedelta = "7d") -> DataFrame:
        """Return its runs of a window, the newest first, as a polars DataFrame."""
        import polars

        job = self.job
        runs = self._opened().log(window).scan("runs").filter(polars.col("job_id") == job.id)
        return runs.sort("created_at", descending=True).collect()

    # For people

    def _facts(self) -> list[tuple[str, str]]:
        """Return what there is to say, in the order in which it is read."""
        captured = self.captured
        upcoming = [text.instant(slot, self._zone) for slot in self.next(5)]
        facts = [
            ("schedule", self.schedule),
            ("next", ", ".join(upcoming)),
            ("parameters", ", ".join(parameters.words(entry) for entry in self.signature)),
            ("dependencies", ", ".join(captured.dependencies)),
            ("deployed", self._state(captured)),
        ]
        facts += [("cannot travel", str(refusal)) for refusal in captured.refusals]
        return [(name, said) for name, said in facts if said]

    @property
    def _zone(self) -> str:
        return str(self._given.get("tz") or settings.load().timezone)

    def _state(self, captured: Captured) -> str:
        """Say whether the job is there and is this one; a repr opens no database for it."""
        if self._kit is None or self.name not in self._kit.jobs:
            return "not deployed"
        job = self._kit.job(self.name)
        same = captured.text == job.source
        return f"version {job.version}" + ("" if same else ", with another source")

    def __repr__(self) -> str:
        lines = [f"<job {self.name}>", *(f"  {name}: {said}" for name, said in self._facts())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f'<tr><th style="text-align:left">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(said)}</td></tr>'
            for name, said in self._facts()
        )
        return f"<div><strong>{escape(self.name)}</strong><table>{rows}</table></div>"


@functools.lru_cache(maxsize=8)
def _default_kit(url: str) -> Kit:
    """Open the database of the settings once for all definitions of this process."""
    return connect(url)
