"""The rules of this house hold in every module, and each finds a fault that is planted."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tests.rules import ROOT, RULES, Rule, modules, unescaped

BY_NAME = {rule.name: rule for rule in RULES}
PLANTED = {
    "no pickle": (
        "import pickle",
        "from marshal import loads",
        "def load():\n    import shelve as s",
        "frame = pandas.read_pickle(path)",
    ),
    "no shell": (
        "subprocess.run(command, shell=True)",
        "subprocess.Popen(command, shell=wanted)",
        "import os\nos.system('ls')",
        "from os import popen",
        "subprocess.getoutput('ls')",
    ),
    "no Markup on data": (
        "Markup(name)",
        "Markup(f'<b>{name}</b>')",
        "markupsafe.Markup('<b>' + name)",
        "Markup('<b>%s</b>' % name)",
    ),
    "no naive datetime": (
        "datetime.now()",
        "datetime.datetime.now()",
        "datetime.utcnow()",
        "datetime.fromtimestamp(1.0)",
        "date.today()",
        "datetime.utcfromtimestamp(1.0)",
    ),
    "no sleep": ("time.sleep(1)", "def wait():\n    nap(0.1)", "from time import sleep\nsleep(1)"),
    "rules are pure": (
        "import time",
        "from jobkit.clock import SystemClock",
        "def delay():\n    return random.random()",
        "now = datetime.now(UTC)",
    ),
    "no transaction across a run": (
        "with self.database.write() as connection:\n    subprocess.run(command)",
        "with database.read() as connection:\n    if x:\n        clock.wait(stop, 5)",
        "with kit.database.write(takes_long=True) as c, other:\n    attempt.execute()",
        "with self._database.write() as c:\n    store.put(run, 1, file)",
    ),
    "no print": ("print('done')", "sys.stdout.write('done')"),
    "no spliced SQL": (
        "connection.execute(f'SELECT * FROM jobs WHERE name = {name}')",
        "sa.text('DELETE FROM jobs WHERE name = %s' % name)",
        "'UPDATE jobs SET name = ' + name",
        "'SELECT * FROM {}'.format(table)",
        "f'''\n    INSERT INTO jobs VALUES ({name})'''",
    ),
}
INNOCENT = {
    "no pickle": ("import json", "pickled = []"),
    "no shell": ("subprocess.run(['ls'])", "subprocess.run(['ls'], shell=False)"),
    "no Markup on data": ("Markup('<b>{}</b>').format(name)", "Markup('').join(parts)"),
    "no naive datetime": (
        "datetime.now(UTC)",
        "datetime.now(tz=zone)",
        "datetime.fromtimestamp(1.0, UTC)",
        "clock.now()",
    ),
    "no sleep": ("clock.wait(stop, 1)", "asleep(1)"),
    "rules are pure": ("import random\ndef delay(rng: random.Random):\n    return rng.random()",),
    "no transaction across a run": (
        "with self.database.write() as connection:\n    connection.execute(statement)",
        "with self.database.read() as c:\n    row = c\nclock.wait(stop, 5)",
        "with path.open() as opened:\n    clock.wait(stop, 1)",
    ),
    "no print": ("console.print('done')", "fingerprint(1)"),
    "no spliced SQL": (
        "sa.text('SELECT * FROM jobs WHERE name = :name')",
        "f'Select a job like {name}'",
        "f'{count} SELECT statements'",
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_finds_each_planted_fault_and_no_innocent_line(rule: Rule) -> None:
    for source in PLANTED[rule.name]:
        assert rule.breaches(source), source
    for source in INNOCENT[rule.name]:
        assert not rule.breaches(source), source


def test_every_module_keeps_every_rule() -> None:
    looked_at, found = 0, []
    for path, source in modules():
        looked_at += 1
        for rule in RULES:
            if rule.concerns(path):
                found += [
                    f"{path}:{line}: {rule.name}: {why}" for line, why in rule.breaches(source)
                ]
    assert not found, "\n".join(found)
    assert looked_at > 200


def test_what_is_allowed_is_still_needed() -> None:
    sources = dict(modules())
    for rule in RULES:
        for place in rule.allowed:
            within = [path for path in sources if PurePosixPath(path).is_relative_to(place)]
            assert any(rule.breaches(sources[path]) for path in within), f"{rule.name}: {place}"


def test_a_rule_looks_where_it_is_meant_to() -> None:
    assert BY_NAME["no Markup on data"].concerns("portal/pages_of_more.py")
    assert not BY_NAME["no Markup on data"].concerns("jobkit/kit.py")
    assert not BY_NAME["no print"].concerns("jobkit/cli/show.py")
    assert BY_NAME["no print"].concerns("jobkit/client.py")
    assert BY_NAME["rules are pure"].concerns("jobkit/schedule/cron.py")


def test_no_template_trusts_what_it_is_given() -> None:
    assert unescaped("<b>{{ name | safe }}</b>")
    assert unescaped("{% autoescape false %}")
    assert not unescaped("{{ name | safely }} {{ name }}")
    templates = sorted((ROOT / "portal" / "templates").rglob("*.*"))
    assert len(templates) > 20
    found = {path.name: unescaped(path.read_text("utf-8")) for path in templates}
    assert not {name: lines for name, lines in found.items() if lines}
