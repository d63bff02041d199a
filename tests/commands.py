"""The commands of a document, run as a reader would: in order, in a folder of their own.

A fenced block without a language, or of `console`, holds command lines; those of jobkit are run,
those of other programs are not. With `$ ` before a command, the lines below it are what it prints;
`...` stands for what differs. A block of `python` is run as one cell. Comments say what a reader
does not see:

    <!-- file: hello.py -->        the block below is the text of that file
    <!-- first: jobkit ... -->     a command that comes before; or Python, if it is none of jobkit
    <!-- not run: why -->          the block below is not run
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^```(?P<kind>[\w-]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!-- (file|first|not run): (.*?) -->", re.DOTALL)
PROGRAMS = {"jobkit": "jobkit", "job-admin": "job-admin"}
PASSWORD = "correct horse battery\n"
"""For who is asked for one."""
SECONDS = 60
"""How long a program may take to be there."""
STAYING = ("up", "scheduler", "worker", "portal")
SAID = {
    "up": "jobkit is up",
    "scheduler": " on ",
    "worker": " on ",
    "portal": "http://",
}
"""What a program that stays has said once it is there."""


@dataclass(frozen=True)
class Step:
    """Something that a page has a reader do."""

    kind: str
    """`file`, `command`, `python` or `not run`."""
    text: str
    about: str = ""
    """The file's name, or why it is not run."""
    prints: tuple[str, ...] = ()
    line: int = 0


def steps(page: str) -> Iterator[Step]:
    """Yield what a page has a reader do, in order."""
    at, said = 0, ""
    for fence in FENCE.finditer(page):
        between, line = page[at : fence.start()], page[: fence.start()].count("\n") + 1
        at, said = fence.end(), ""
        name = ""
        for comment in COMMENT.finditer(between):
            kind, words = comment[1], comment[2]
            if kind == "first":
                is_command = words.split()[0] in PROGRAMS
                yield Step("command" if is_command else "python", words, line=line)
            elif not between[comment.end() :].strip():
                said, name = kind, words
        if said:
            yield Step(said, fence["text"], " ".join(name.split()), line=line)
        elif fence["kind"] == "python":
            yield Step("python", fence["text"], line=line)
        elif fence["kind"] in ("", "console"):
            yield from _commands(fence["text"], line)


def _commands(block: str, line: int) -> Iterator[Step]:
    lines = block.replace("\\\n", "").splitlines()
    prompted = any(text.startswith("$ ") for text in lines)
    command, printed = "", []
    for text in (*lines, "$ "):
        if prompted and not text.startswith("$ "):
            printed.append(text)
            continue
        if command:
            yield Step("command", command, prints=tuple(printed), line=line)
        command, printed = text.removeprefix("$ ").strip(), []
        if not prompted and command:
            yield Step("command", command, line=line)
            command = ""


@dataclass
class Reader:
    """Who does what a page says, in a folder with a database of its own."""

    folder: Path
    namespace: dict[str, object] = field(default_factory=lambda: {"__name__": "__main__"})
    staying: list[subprocess.Popen[str]] = field(default_factory=list)
    ran: int = 0
    left: list[str] = field(default_factory=list)
    """What was not run, with the reason."""

    def __post_init__(self) -> None:
        self.environment = os.environ | {
            "JOBKIT_DB_URL": f"sqlite:///{self.folder / 'jobkit.db'}",
            "JOBKIT_PORT": "0",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "120",
        }

    def follow(self, step: Step) -> None:
        """Do one step; AssertionError when it does not do what the page says."""
        if step.kind == "not run":
            self.left.append(step.about)
        elif step.kind == "file":
            path = self.folder / step.about
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, "utf-8")
        elif step.kind == "python":
            self._python(step)
        else:
            self._command(step)

    def _python(self, step: Step) -> None:
        self.ran += 1
        exec(compile(step.text, f"<line {step.line}>", "exec"), self.namespace)

    def _command(self, step: Step) -> None:
        text = re.sub(r"(^|\s)#.*$", "", step.text).strip()
        for part in text.split(" && "):
            words = _words(re.sub(r"\s>\s*\S+$", "", part.replace("$?", "0")))
            if not words or _is_synopsis(part):
                continue
            if words[0] == "export":
                name, _, value = words[1].partition("=")
                if name != "JOBKIT_DB_URL":  # the reader's own database stays
                    self.environment[name] = value
            elif words[0] in PROGRAMS or words[:2] == ["-m", "jobkit.worker"]:
                self._run(words, step)

    def _run(self, words: list[str], step: Step) -> None:
        self.ran += 1
        if words[0] == "-m" or (words[0] == "jobkit" and words[1] in STAYING):
            self._start(words)
            return
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            input=PASSWORD,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = f"line {step.line}: {shlex.join(words)}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, said
        if step.prints:
            assert _is_like(done.stdout + done.stderr, step.prints), said

    def _start(self, words: list[str]) -> None:
        command = [sys.executable, *words] if words[0] == "-m" else words
        name = "worker" if words[0] == "-m" else words[1]
        if name == "up" and "--no-browser" not in command:
            command = [*command, "--no-browser"]
        program = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.staying.append(program)
        assert program.stdout is not None
        patience = threading.Timer(SECONDS, program.kill)
        patience.start()
        try:
            if any(SAID[name] in line for line in program.stdout):
                return
        finally:
            patience.cancel()
        raise AssertionError(f"{shlex.join(command)} ended")

    def leave(self) -> None:
        """End the programs that stay; each ends well."""
        for program in self.staying:
            program.terminate()
        for program in self.staying:
            said, _ = program.communicate(timeout=30)
            assert program.returncode == 0, (
                f"{program.args} ended with {program.returncode}: {said}"
            )


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError:  # no command, whatever it is
        return []
    while words[:2] == ["uv", "run"] or words[:1] == ["python"]:
        words = words[2:] if words[0] == "uv" else words[1:]
    return words


def _is_synopsis(text: str) -> bool:
    """Whether a line says what a command is like, with words to be filled in."""
    if "..." in text:
        return True
    bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", text)
    return bool(re.search(r"\s\[-?|\s\|\s|\s[A-Z][A-Z.]+(\s|$)|=[A-Z]+(\s|$)", bare))


def _is_like(printed: str, expected: tuple[str, ...]) -> bool:
    """Whether the lines are those that the page shows, `...` being anything."""
    shown = [_pattern(line) for line in expected if line.strip()]
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    at = 0
    for pattern in shown:
        while at < len(lines) and not re.fullmatch(pattern, lines[at]):
            at += 1
        if at == len(lines):
            return False
        at += 1
    return True


def _pattern(line: str) -> str:
    return ".*".join(
        r"\s+".join(map(re.escape, part.split())) for part in line.strip().split("...")
    ).replace(".*", r"\s*.*\s*")
