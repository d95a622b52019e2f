"""`dicomnet router`: rules, destinations, queues and reports, beside a router that runs or not."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import archives
import peers
import pytest
from click.testing import CliRunner
from routers import address, everything_to, made, part10, routing, send, settled

from dicomnet.cli.app import dicomnet, run
from dicomnet.errors import InvalidArgument
from dicomnet.router.editing import RulesFile
from dicomnet.router.spool import Spool
from dicomnet.testing import Provider


@pytest.fixture
def router(tmp_path):
    made(tmp_path / "router", "# ours\n")
    return str(tmp_path / "router")


@pytest.fixture
def cli(capsys):
    """Run a command as the program does; its exit code, and what it printed."""

    def call(*arguments):
        code = run(["router", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


def test_rules_and_destinations_are_added_listed_changed_and_removed(router, cli, tmp_path):
    assert cli("destinations", "add", router, "ARCHIVE", "address=ARCHIVE@localhost:104", "width=2")[0] == 0
    assert cli("rules", "add", router, "--name", "ct", "--when", "Modality equals CT", "--to", "ARCHIVE")[0] == 0
    more = tmp_path / "more.toml"
    more.write_text('[[rules]]\nname = "rest"\nfallback = true\nactions = [{ do = "hold", to = ["ARCHIVE"] }]\n')
    assert cli("rules", "add", router, more)[0] == 0
    code, out, _ = cli("rules", "list", router)
    assert code == 0
    assert out.splitlines() == [
        "   0  ct: forward ARCHIVE (continue)", "   0  rest: hold ARCHIVE (continue, fallback)", "2 rules"
    ]  # fmt: skip
    assert cli("rules", "edit", router, "ct", "priority=7", "then=stop")[0] == 0
    assert lines(cli("rules", "list", router, "--json")[1])[0]["priority"] == 7
    assert cli("destinations", "edit", router, "ARCHIVE", "width=", "commit=true")[0] == 0
    listed = lines(cli("destinations", "list", router, "--json")[1])[0]
    assert (listed["width"], listed["commit"], listed["queue"]) == (1, True, {})
    whole = tmp_path / "whole.toml"
    whole.write_text((tmp_path / "router" / "rules.toml").read_text())
    assert cli("rules", "replace", router, whole)[1] == "2 rules and 1 destination now\n"
    assert cli("rules", "remove", router, "rest")[0] == cli("rules", "remove", router, "ct")[0] == 0
    assert cli("destinations", "remove", router, "ARCHIVE")[0] == 0
    assert (tmp_path / "router" / "rules.toml").read_text().startswith("# ours\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rules", "add", "--name", "x", "--when", "Modalty equals CT", "--drop"), "Is it Modality?"),
        (("rules", "add", "--name", "x", "--to", "ARCHIV"), 'there is no destination "ARCHIV"'),
        (("rules", "add", "--name", "x", "--when", "PatientID matches (a|aa)+$", "--drop"), "takes for ever"),
        (("rules", "add", "--name", "x", "--when", "Modality is CT", "--drop"), "an operator is one of"),
        (("rules", "edit", "x", "priority=1"), 'there is no rule "x"'),
        (("rules", "remove", "ct"), 'there is no rule "ct". There are: none.'),
        (("rules", "add"), "give a FILE, or a --name"),
        (("destinations", "add", "A", "addres=A@h:1"), "Is it address?"),
        (("destinations", "edit", "A", "width=2"), 'there is no destination "A"'),
        (("queue", "retry"), "say which"),
        (("report", "--day", "yesterday"), "is no day"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_changed(router, cli, arguments, words, tmp_path):
    place = 2 if arguments[0] != "report" else 1
    code, _, err = cli(*arguments[:place], router, *arguments[place:])
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert (tmp_path / "router" / "rules.toml").read_text() == "# ours\n"


def test_a_file_is_checked_and_all_its_mistakes_are_told(tmp_path, cli):
    file = tmp_path / "rules.toml"
    second = '[[rules]]\nname = "b"\nwhen = { field = "X" }\nactions = []\n'
    file.write_text(f'[[rules]]\nname = "a"\nactions = []\n{second}')
    code, out, err = cli("rules", "check", file)
    assert (code, out) == (2, "3 mistakes\n")
    assert len(err.splitlines()) == 3
    file.write_text("")
    assert cli("rules", "check", file)[:2] == (0, "0 rules and 0 destinations, no mistake\n")


@pytest.mark.parametrize("how", ["add", "replace"])
@pytest.mark.parametrize(
    ("written", "says"),
    [(None, "cannot be read"), (b'name = "M\xfcller"', "cannot be read"), (b"[[rules", "TOML"), (b"{", "TOML")],
    ids=["no file", "not UTF-8", "no TOML", "no JSON"],
)
def test_a_file_of_rules_that_cannot_be_read_is_one_line_and_changes_nothing(router, cli, tmp_path, how, written, says):
    file = tmp_path / "more.toml"
    if written is not None:
        file.write_bytes(written)
    code, out, err = cli("rules", how, router, file)
    assert (code, out, len(err.splitlines()), says in err) == (2, "", 1, True), err
    assert cli("rules", "list", router)[1] == "0 rules\n"


@pytest.mark.parametrize(
    ("condition", "says"),
    [("Modality is CT", "is no condition"), ('not Modality equals "CT', "no closing quotation")],
)
def test_a_condition_that_is_none_is_one_line(router, cli, condition, says):
    code, _, err = cli("rules", "add", router, "--name", "x", "--drop", "--when", condition)
    assert (code, len(err.splitlines()), says in err) == (2, 1, True), err


def test_what_cannot_be_explained_is_named(router, cli, tmp_path):
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"no DICOM")
    code, out, err = cli("rules", "explain", router, junk)
    assert (code, out, "not a DICOM file" in err) == (69, "", True)
    code, _, err = cli("rules", "explain", router, junk, "--at", "soon")
    assert (code, '"soon" is no time' in err) == (2, True)
    code, _, err = cli("rules", "explain", router, "1.2.3")
    assert (code, "no study of that UID in the spool" in err) == (2, True)
    code, out, err = cli("rules", "coverage", router, junk)
    assert (code, out.splitlines()[-1], "not a DICOM file" in err) == (
        0, "0 instances: no rule fires for 0, 0 differ", True
    )  # fmt: skip


def test_a_directory_that_is_no_router_says_how_to_make_one(tmp_path, cli):
    code, _, err = cli("queue", "list", tmp_path)
    assert code == 2
    assert "Make one: dicomnet router run" in err


def test_explain_says_which_rules_fire_for_a_file_and_why(router, cli):
    night = ("--when", "time range 22:00 06:00", "--when", "calling equals CT1")
    cli("rules", "add", router, "--name", "night", *night, "--drop")
    file = next(path for path in peers.sample_files() if path.name == "CT_small.dcm")
    code, out, _ = cli("rules", "explain", router, file, "--calling", "CT1", "--at", "2026-01-31T23:00")
    assert code == 0
    assert '  rule "night" fires' in out
    assert "yes     calling equals 'CT1': it is 'CT1'" in out
    code, out, _ = cli("rules", "explain", router, file, "--calling", "CT1", "--at", "2026-01-31T12:00", "--json")
    assert lines(out)[0]["fired"] == []


ASKS = """
[destinations.PACS]
address = "PACS@localhost:104"
[[rules]]
name = "viewers"
on = "retrieve"
when = { all = [{ field = "destination", equals = "WS" }, { field = "PatientID", equals = "P1" }] }
actions = [{ do = "ask", source = "PACS" }, { do = "prefetch", source = "PACS" }]
[[rules]]
name = "ct"
on = "worklist item"
when = { field = "ScheduledProcedureStepSequence/Modality", equals = "CT" }
actions = [{ do = "prefetch", source = "PACS", to = "WS" }]
"""


CT_STEP = '--key=ScheduledProcedureStepSequence=[{Modality="CT"}]'


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            ("--on=retrieve", "--key=PatientID=P1", "--to=WS"),
            'answered by PACS by "viewers"; sent to PACS by "viewers"',
        ),
        (("--on=retrieve", "--key=PatientID=P1", "--to=X"), "refused: no rule says who answers this"),
        (("--on=query", "--key=StudyDate=20260101"), "refused: no rule says who answers this"),
        (("--on=worklist item", CT_STEP, "--key=PatientID=P1"), 'sent to PACS by "ct"'),
        (("--on=worklist item", CT_STEP), "nothing is done about it"),  # of no study, and of nobody
        (("--on=worklist item", CT_STEP.replace("CT", "US"), "--key=PatientID=P1"), "nothing is done about it"),
    ],
)
def test_explain_says_what_becomes_of_a_message(router, cli, tmp_path, message, says):
    file = tmp_path / "asks.toml"
    file.write_text(ASKS)
    assert cli("rules", "replace", router, file)[0] == 0
    code, out, err = cli("rules", "explain", router, *message)
    assert (code, err, out.splitlines()[-1].strip()) == (0, "", says)
    assert cli("rules", "list", router)[1].splitlines()[0] == (
        "   0  viewers: ask PACS; prefetch (continue, on retrieve)"
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ((), "give a FILE, a STUDY, or --on"),
        (("--on=move",), "One of procedure step, availability, query, retrieve, worklist query, worklist item"),
        (("--on=query", "--key=PatentID=P1"), "PatentID"),
        (("--on=query", "--key=PatientID"), "is no KEYWORD=VALUE"),
        (("--on=worklist item", "--key=ScheduledProcedureStepSequence=CT"), "its items are mappings, in a list"),
        (("1.2.3", "--key=PatientID=P1"), "--key is of a message"),
        (("1.2.3", "--on=sent"), "--to is of a retrieve or --on=sent"),
        (("1.2.3", "--on=query"), "give a FILE, a STUDY, or --on"),
    ],
)
def test_a_message_that_cannot_be_explained_is_one_line(router, cli, wrong, says):
    code, out, err = cli("rules", "explain", router, *wrong)
    assert (code, out, says in err) == (2, "", True), err


def test_explain_says_what_becomes_of_a_file_once_it_was_sent(router, cli, tmp_path):
    rules = tmp_path / "after.toml"
    rules.write_text("""
        [destinations.A]
        address = "A@localhost:104"
        [destinations.B]
        address = "B@localhost:104"
        [[rules]]
        name = "then B"
        on = "sent"
        when = { field = "destination", equals = "A" }
        actions = [{ do = "forward", to = ["B"] }]
    """)
    assert cli("rules", "replace", router, rules)[0] == 0
    file = next(path for path in peers.sample_files() if path.name == "CT_small.dcm")
    for to, says in (("A", 'sent to B by "then B"'), ("B", "nothing is done about it")):
        code, out, _ = cli("rules", "explain", router, file, "--on=sent", "--to", to)
        assert (code, out.splitlines()[-1].strip()) == (0, says)


def test_coverage_counts_and_a_dry_run_says_what_differs(router, cli, tmp_path):
    cli("destinations", "add", router, "A", "address=A@localhost:104")
    cli("rules", "add", router, "--name", "ct", "--when", "Modality equals CT", "--to", "A")
    cli("rules", "add", router, "--name", "xx", "--when", "Modality equals XX", "--drop")
    files = [path for path in peers.sample_files() if path.name in ("CT_small.dcm", "MR_small.dcm")]
    code, out, _ = cli("rules", "coverage", router, *files)
    assert code == 0
    assert out.splitlines() == ["      1  ct", "      0  xx  (never)", "2 instances: no rule fires for 1, 0 differ"]
    other = tmp_path / "other.toml"
    other.write_text(everything_to(A=address("A@localhost:104")))
    *records, summary = lines(cli("rules", "coverage", router, *files, "--rules", other, "--json")[1])
    assert summary["summary"]["differ"] == 2
    assert records[-1]["now"] == ["held"]
    assert records[-1]["then"] == ['sent to A by "all"']


def test_the_schema_of_rules_is_printed():
    assert json.loads(CliRunner().invoke(dicomnet, ["router", "rules", "schema"]).output)["title"] == "Plan"


def test_destinations_are_checked(router, cli):
    with Provider("A") as there:
        cli("destinations", "add", router, "A", f"address={there.peer}")
        assert cli("destinations", "check", router)[0] == 0
    code, _, err = cli("destinations", "check", router)
    assert code == 69
    assert err.startswith("error: A: ")


def test_the_queue_is_looked_at_and_changed_beside_a_router_that_runs(tmp_path, cli):
    directory = tmp_path / "router"
    with (
        Provider("A", status=0xC000) as no,
        routing(directory, everything_to(A=address(no.peer, "tries = 1"))) as router,
    ):
        send(router, *(part10(number) for number in range(3)))
        assert settled(router) == {"A": {"parked": 3}}
        code, out, _ = cli("queue", "list", directory)
        assert code == 0
        assert out.splitlines()[-1] == "3 parked for A"
        assert "C000" in out.splitlines()[0]
        *items, _ = lines(cli("queue", "list", directory, "--json", "--most", "2")[1])
        assert len(items) == 2
        assert cli("queue", "drop", directory, "--id", items[0]["id"])[:2] == (0, "1 delivery dropped\n")
        assert cli("queue", "hold", directory, "--id", items[1]["id"])[:2] == (0, "1 delivery on hold\n")
        code, out, _ = cli("report", directory, "--day", "today")
        assert code == 69
        assert out.splitlines()[0] == "1.2.1 (P1): 3 received = 0 sent + 0 waiting + 1 held + 1 parked + 1 dropped"
        no.status = 0
        assert cli("queue", "release", directory, "--destination", "A")[1] == "1 delivery released\n"
        assert cli("queue", "retry", directory, "--all")[0] == 0
        router.forwarder.wake()
        assert settled(router) == {"A": {"sent": 2, "dropped": 1}}
        *studies, total = lines(cli("report", directory, "--json")[1])
        assert (studies[0]["complete"], studies[0]["balances"]) == (True, True)
        assert total["summary"]["sent"] == 2
        code, out, _ = cli("rules", "explain", directory, "1.2.1")
        assert (code, out.splitlines()[-1]) == (0, "  all: fired")


def test_a_study_is_complete_only_if_all_of_it_is_everywhere(tmp_path, cli):
    """Lines one forgets: partial success counts per instance; received = sent + parked + dropped + on hold."""
    directory = tmp_path / "router"
    with Provider("A") as a, Provider("B", status=0xA900) as b:
        rules = everything_to(A=address(a.peer), B=address(b.peer, "tries = 1"))
        with routing(directory, rules) as router:
            send(router, part10(1), part10(2), part10(1, study=2))
            settled(router)
        *studies, total = lines(cli("report", directory, "--json")[1])
        assert [one["complete"] for one in studies] == [False, False]
        assert (total["summary"]["parked"], total["summary"]["received"]) == (3, 3)
        assert total["summary"]["balances"]


def test_what_waits_for_a_time_of_the_day_says_until_when(tmp_path, cli):
    rules = everything_to(A=address("A@127.0.0.1:1")).replace(
        '"forward"', '"forward", between = { start = "%s", end = "%s" }'
    )
    start = datetime.now() + timedelta(hours=2)
    made(tmp_path, rules % (f"{start:%H:%M}", f"{start + timedelta(hours=1):%H:%M}"))
    with Spool(tmp_path, serves=True) as spool:
        spool.plans.refresh()
        spool.store([archives.an_incoming(1)])
    code, out, _ = cli("queue", "list", tmp_path)
    assert code == 0
    assert f"waiting for A until {start:%Y-%m-%d %H:%M}, 0 min, 0 attempts" in out


def test_who_may_read_the_rules_stays_and_nothing_is_left_beside_them(router, cli, tmp_path):
    path = tmp_path / "router" / "rules.toml"
    path.chmod(0o600)
    assert cli("rules", "add", router, "--name", "x", "--drop")[0] == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir() if one.name.endswith(".part")] == []
    assert cli("rules", "check", path)[0] == 0


def test_rules_that_cannot_be_written_stay_as_they_are(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text("# ours\n")
    file = RulesFile(path)
    with pytest.raises(InvalidArgument, match="cannot be written: "):
        RulesFile(tmp_path / "no" / "rules.toml").save(file.read())
    path.write_text("[")
    with pytest.raises(InvalidArgument, match=r"rules\.toml: "):
        file.add({"name": "x", "actions": [{"do": "drop"}]})
    assert path.read_text() == "["
    path.write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        file.read()


def test_rules_come_with_destinations_but_none_twice(router, tmp_path):
    file = RulesFile(tmp_path / "router" / "rules.toml")
    rule = {"name": "x", "actions": [{"do": "forward", "to": ["A"]}]}
    plan = file.add({"destinations": {"A": {"address": "A@h:104"}}, "rules": [rule]})
    assert (list(plan.destinations), [one.name for one in plan.rules]) == (["A"], ["x"])
    before = file.text()
    with pytest.raises(InvalidArgument, match='there is a destination "A"'):
        file.add({"destinations": {"A": {"address": "A@other:104"}}})
    assert file.text() == before
