"""docs/contributing/faults.md names a test for each fault that the field found; the tests are there."""

from __future__ import annotations

import re
from pathlib import Path

from cases import every

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "contributing" / "faults.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|\n ").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| [NSDAIU]\d", line)
]
#: Of 21 reports on networking, 16 of safety, 12 and 12 on files, 15 of a new user, 8 of peers; the list has no others.
KNOWN = (
    "N01 N02 N03 N04 N05 N06 N09 N10 N12 N13 N14 N15 N16 N17 N18 N19 N20 N21 S1 S2 S3 S4 S5 S6 S7 S8 S9 S10 S11 S12 S13"
    " S14 S15 S16 D1 D2 D3 D4 D5 D6 D7 D8 D9 D10 D12 A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 U1 U2 U3 U4 U5 U6 U7 U8 U9"
    " U10 U11 U12 U13 U14 U15 I1 I2 I3 I4 I5 I6 I7 I8"
)


CLAIMS = [
    [cell.strip() for cell in line.strip("|\n ").split(" | ")]
    for line in (ROOT / "docs" / "contributing" / "claims.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| claim")
]


def test_every_row_is_there_once() -> None:
    named = [row for cells in ROWS for row in cells[0].split(", ")]
    assert sorted(named) == sorted(KNOWN.split())


def check(held: str) -> None:
    """Each test, file or target that is named is there."""
    for one in held.split(", "):
        if one.startswith("`make "):
            target = one.strip("`").split()[1]
            assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), one
            continue
        module, _, name = one.partition(".test_")
        path = ROOT / one if "/" in one else ROOT / "tests" / f"{module.removesuffix('.py')}.py"
        assert path.is_file(), one
        if name:
            assert f"def test_{name}(" in path.read_text(encoding="utf-8"), one


@every("cells", ROWS)
def test_each_row_names_what_holds_it(cells: list[str]) -> None:
    check(cells[2])


@every("cells", CLAIMS)
def test_each_claim_of_the_readme_names_what_backs_it(cells: list[str]) -> None:
    check(cells[1])
