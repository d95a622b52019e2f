"""The tests that docs/reliability.md names are there, and it names some for every row that it should."""

from __future__ import annotations

import re
from pathlib import Path

from cases import every

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
SHOWN = PAGE.partition("## Where each row is shown")[2].partition("\n## ")[0]
ROWS = dict(re.findall(r"^\| ([TGc][^|]+?) \| (.+) \|$", SHOWN, re.MULTILINE))
NAMED = sorted({name for cell in ROWS.values() for name in re.findall(r"\b([a-z]\w*\.[a-z]\w*)\b", cell)})


def test_every_attack_that_there_are_means_against_is_shown():
    attacks = PAGE.partition("## Attack class, rule, tests")[2].partition("\n## ")[0]
    ids = [row for cell in re.findall(r"^\| (T-[^|]+?) \|", attacks, re.MULTILINE) for row in re.split(r", |/", cell)]
    wanted = {*ids[: ids.index("T-EXT") + 1], "T-FD", "T-CONC", "T-LIFE", "T-CHURN"}
    choices = re.findall(r"^(\d+)\. ", PAGE.partition("## Where the text leaves a choice")[2], re.MULTILINE)
    shown = {row for cell in ROWS for row in cell.split(", ")}
    assert wanted | {f"choice {number}" for number in choices} <= shown


@every("name", NAMED)
def test_what_is_named_is_there(name):
    module, _, function = name.partition(".")
    source = (TESTS / f"test_{module}.py").read_text(encoding="utf-8")
    if module in ("sync", "aio"):
        source += (TESTS / "face_suite.py").read_text(encoding="utf-8")
    assert re.search(rf"def test_{function}\(", source)
