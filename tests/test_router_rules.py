"""Rules: what they accept, what they refuse with which words, and that they fire as their definition says."""

from __future__ import annotations

import ipaddress
import json
import random
from datetime import datetime

import pydicom
import pytest
import regex
from pydicom.dataset import Dataset

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.router.conditions import Condition, EndlessExpression
from dicomnet.router.facts import Facts, Unreadable
from dicomnet.router.paths import parse_path
from dicomnet.router.plan import Plan, PlanInvalid, Problem
from dicomnet.router.trial import line_of
from tools import router_rules

LITTLE = uids.EXPLICIT_VR_LITTLE_ENDIAN
SYNTAXES = (
    LITTLE, uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)  # fmt: skip
NIGHT = datetime(2026, 1, 31, 23, 30)  # a Saturday


def facts(syntax=LITTLE, *, dataset=None, at=NIGHT, **named):
    keywords = {name: value for name, value in named.items() if name[0].isupper()}
    others = {name: value for name, value in named.items() if name not in keywords}
    data = codec.encode(dataset or codec.from_keywords({"SOPInstanceUID": "1.2.3"} | keywords), syntax)
    return Facts(data, syntax, uids.CT_IMAGE_STORAGE, at=at, whole=True, **others)


def holds(condition, *arguments, **named):
    return Condition.model_validate(condition).holds(facts(*arguments, **named))


# ---- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"equals": "CT"}, True),
        ({"equals": "MR"}, False),
        ({"in": ["MR", "CT"]}, True),
        ({"matches": "^C"}, True),
        ({"matches": "^T"}, False),
        ({"range": ["CR", "DX"]}, True),
        ({"exists": True}, True),
        ({"exists": False}, False),
        ({"empty": True}, False),
        ({"empty": False}, True),
    ],
)
def test_each_operator(condition, expected):
    assert holds({"field": "Modality"} | condition, Modality="CT") is expected


@pytest.mark.parametrize(
    "condition", [{"equals": ""}, {"in": [""]}, {"matches": ""}, {"empty": True}, {"empty": False}]
)
def test_absent_is_not_empty_and_passes_nothing_but_exists_false(condition):
    assert not holds({"field": "PatientID"} | condition)
    assert holds({"field": "PatientID", "exists": False})
    assert holds({"field": "PatientID", "empty": True}, PatientID="")
    assert not holds({"field": "PatientID", "exists": False}, PatientID="")


def test_numbers_are_compared_as_numbers_and_text_to_the_letter():
    assert holds({"field": "SliceThickness", "equals": 2}, SliceThickness="2.0")
    assert not holds({"field": "SliceThickness", "equals": "2"}, SliceThickness="2.0")
    assert holds({"field": "SeriesNumber", "range": [9, 11]}, SeriesNumber="10")
    assert holds({"field": "Rows", "range": [512, ""]}, Rows=512)
    assert not holds({"field": "SeriesNumber", "range": [1, 5]}, SeriesNumber="10")


def test_who_whom_from_where_and_when():
    now = {"calling": "CT1", "called": "ROUTER", "address": "10.1.2.3:4711"}
    assert holds({"field": "calling", "matches": "^CT"}, **now)
    assert holds({"field": "called", "equals": "ROUTER"}, **now)
    assert holds({"field": "address", "in": ["10.1.0.0/16"]}, **now)
    assert not holds({"field": "address", "equals": "10.1.2.4"}, **now)
    assert holds({"field": "address", "equals": "::1"}, address="[::1]:104")
    assert holds({"field": "time", "range": ["22:00", "06:00"]}, at=NIGHT)
    assert not holds({"field": "time", "range": ["08:00", "18:00"]}, at=NIGHT)
    assert holds({"field": "weekday", "in": ["sat", "sun"]}, at=NIGHT)
    assert holds({"field": "sop_class", "equals": "CTImageStorage"})
    assert holds({"field": "transfer_syntax", "in": ["ExplicitVRLittleEndian"]})


def test_text_in_any_character_set():
    values = {"SOPInstanceUID": "1.2", "SpecificCharacterSet": "ISO_IR 100", "PatientName": "M\xfcller"}
    dataset = codec.from_keywords(values)
    assert holds({"field": "PatientName", "equals": "M\xfcller"}, dataset=dataset)


def test_nested_and_private_elements():
    steps = [{"ScheduledProcedureStepID": one} for one in "AB"]
    dataset = codec.from_keywords({"SOPInstanceUID": "1.2", "RequestAttributesSequence": steps})
    dataset.private_block(0x0009, "ACME / CT", create=True).add_new(0x02, "LO", "yes")
    for path, value, expected in (
        ("RequestAttributesSequence/ScheduledProcedureStepID", "B", True),
        ("RequestAttributesSequence[*]/ScheduledProcedureStepID", "A", True),
        ("RequestAttributesSequence[0]/ScheduledProcedureStepID", "B", False),
        ("0040,0275[1]/0040,0009", "B", True),
        ("0009,{ACME / CT},02", "yes", True),
        ("0009,{OTHER},02", "yes", False),
    ):
        assert holds({"field": path, "equals": value}, dataset=dataset) is expected, path


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"field": "PatentID", "exists": True}, 'there is no attribute "PatentID". Is it PatientID?'),
        ({"field": "caling", "equals": "X"}, 'there is no field "caling". Is it calling?'),
        ({"field": "Modality"}, "has one of equals, in, matches, range, exists, empty; this has none"),
        ({"field": "Modality", "equals": "A", "exists": True}, "this has equals and exists"),
        ({"field": "time", "equals": "12:00"}, "time takes range, not equals"),
        ({"field": "time", "range": ["25:00", "26:00"]}, '"25:00" is no time of the day'),
        ({"field": "weekday", "equals": "saturday"}, "is no day of the week"),
        ({"field": "address", "equals": "10.1.2.300"}, "is no address and no network"),
        ({"field": "sop_class", "equals": "CTImageStorag"}, "Is it CTImageStorage?"),
        ({"field": "PatientID", "matches": "("}, "is no regular expression"),
        ({"field": "PatientID/Modality", "exists": True}, "is no sequence"),
        ({"field": "0008,{X},01", "exists": True}, "is even"),
        ({"field": "SeriesNumber", "range": [5, 1]}, "ends before that"),
        ({"field": "StudyDate", "range": ["20260201", "20260131"]}, 'begins at "20260201" and ends before that'),
        ({"field": "SeriesNumber", "range": [5, "x"]}, "of numbers and of text"),
        ({"all": [], "field": "Modality"}, "this has all and field"),
        ({"equals": "x", "any": []}, '"equals" wants a field'),
        ({"field": "Modality", "like": "CT"}, "there is no such field"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_with_place_and_words(condition, words):
    with pytest.raises(PlanInvalid) as caught:
        Plan.read({"rules": [{"name": "r", "when": {"all": [condition]}, "actions": [{"do": "drop"}]}]})
    [problem] = caught.value.problems
    assert problem.place.startswith('rule 1 ("r") when.all[0]')
    assert words in problem.what


class TestExpressions:
    """A line one forgets: an endless regular expression."""

    def test_one_that_is_endless_is_refused_when_it_is_saved(self):
        with pytest.raises(ValueError, match="takes for ever"):
            Condition.model_validate({"field": "PatientID", "matches": "(a|aa)+$"})

    def test_one_that_turns_out_endless_parks_the_object_and_nothing_waits(self):
        condition = Condition.model_validate({"field": "PatientComments", "matches": "(?:#|##)+$"})
        with pytest.raises(EndlessExpression, match="takes too long"):
            condition.holds(facts(PatientComments="#" * 500 + "!"))


def test_what_is_no_data_set_is_unreadable():
    with pytest.raises(Unreadable, match="cannot be read"):
        Facts(b"\x08\0\x18\0UI\xff\xff1.2 ", LITTLE, "", whole=True).check()
    for whole in (True, False):
        with pytest.raises(Unreadable, match="cannot be read"):
            Facts(b"\xff" * 40, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "", whole=whole).check()
    with pytest.raises(Unreadable, match="no SOP Instance UID"):
        Facts(codec.encode({"PatientID": "1"}, LITTLE), LITTLE, "", whole=True).check()


# ---- plans -----------------------------------------------------------------------------------------------------------


def plan(*rules, **destinations):
    named = {name: {"address": f"{name}@localhost:104"} for name in ("A", "B")} | destinations
    return Plan.read({"rules": list(rules), "destinations": named})


def rule(name, **more):
    return {"name": name, "actions": [{"do": "forward", "to": ["A"]}]} | more


class TestOrder:
    def fired(self, *rules, **named):
        return plan(*rules).decide(facts(**named)).names

    def test_priority_then_the_order_in_which_they_are_written(self):
        assert self.fired(rule("1"), rule("2", priority=5), rule("3")) == ["2", "1", "3"]

    def test_stop_ends_it_where_the_rule_fires(self):
        no = {"field": "Modality", "equals": "MR"}
        assert self.fired(rule("1", then="stop", when=no), rule("2", then="stop"), rule("3"), Modality="CT") == ["2"]

    def test_a_fallback_fires_only_where_none_matched(self):
        ct = {"field": "Modality", "equals": "CT"}
        rules = rule("else", fallback=True, priority=9), rule("ct", when=ct)
        assert self.fired(*rules, Modality="CT") == ["ct"]
        assert self.fired(*rules, Modality="MR") == ["else"]

    def test_a_fallback_that_says_stop_is_the_last(self):
        first, *others = (rule(name, fallback=True, then="stop") for name in "123")
        assert self.fired(first | {"then": "continue"}, *others) == ["1", "2"]

    def test_one_that_is_not_active_is_not_asked(self):
        assert self.fired(rule("1", active=False), rule("2")) == ["2"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([rule("x", actions=[{"do": "forward", "to": ["ARCHIV"]}])], 'there is no destination "ARCHIV"'),
        ([rule("x", actions=[{"do": "forwrd", "to": ["A"]}])], "forwrd is none of"),
        ([rule("x"), rule("x")], 'rule 1 is called "x", too'),
        ([rule("x", prority=1)], "there is no such field. Is it priority?"),
        ([{"name": "x"}], "is missing"),
        ([rule("x", actions=[{"do": "copy", "to": "A"}])], '"A" is no folder'),
        ([rule("x", actions=[{"do": "drop"}, {"do": "forward", "to": ["A"]}])], "has no other action"),
        ([rule("x", actions=[{"do": "call", "function": "os:name"}])], '"os:name" is no function'),
        ([rule("x", actions=[{"do": "edit", "operations": [{"op": "remove"}]}])], "remove wants an element"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_place_and_words(values, words):
    with pytest.raises(PlanInvalid) as caught:
        plan(*values)
    assert words in str(caught.value)
    assert '("x")' in str(caught.value)


def test_a_wrong_field_of_an_action_is_named_and_nothing_else():
    with pytest.raises(PlanInvalid) as caught:
        plan(rule("x", actions=[{"do": "forward", "to": ["A"], "betwen": 1}]))
    (problem,) = caught.value.problems
    assert problem.place == 'rule 1 ("x") actions[0].betwen'
    with pytest.raises(PlanInvalid, match="actions: is empty"):
        plan(rule("x", actions=[]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"address": "A@localhost"}, "the port is missing"),
        ({"address": "A@localhost:104", "tls_ca": "ca.pem"}, "is plain, and TLS files are named"),
        ({"kind": "folder", "path": "in"}, "no absolute path"),
        ({"kind": "stow", "url": "ftp://x"}, "no address of a web server"),
        ({"kind": "ftp"}, "ftp is none of"),
        ({"adress": "A@localhost:104"}, "Is it address?"),
        ({"address": "A@localhost:104", "calling": "X", "pass_calling": True}, "exclude each other"),
        ({"kind": "stow", "url": "http://x", "tls_ca": "ca.pem"}, "is plain, and TLS files are named"),
        ({"kind": "s3", "url": "https://bucket"}, "is no bucket"),
        ({"kind": "s3", "url": "s3:///in"}, "is no bucket"),
        ({"kind": "s3", "url": "s3://b", "endpoint": "http://x"}, "Say plain_http = true"),
    ],
)
def test_a_destination_that_cannot_be_is_refused(values, words):
    with pytest.raises(PlanInvalid, match='destination "X"') as caught:
        plan(X=values)
    assert words in str(caught.value)


def test_files_programs_and_editors_have_one_parser():
    """A line one forgets: TOML, JSON and the schema are of one model."""
    toml = '[destinations.A]\naddress = "A@h:104"\n[[rules]]\nname = "r"\nactions = [{ do = "forward", to = ["A"] }]\n'
    from_toml = Plan.from_toml(toml)
    assert Plan.from_json(from_toml.to_json()).to_json() == from_toml.to_json()
    schema = Plan.model_json_schema(by_alias=True)
    assert {"all", "any", "not", "in"} < set(schema["$defs"]["Condition"]["properties"])
    with pytest.raises(PlanInvalid, match="this is no TOML"):
        Plan.from_toml("[")
    with pytest.raises(PlanInvalid, match="this is no JSON"):
        Plan.from_json("{")


def test_the_reference_is_made_from_the_model():
    assert router_rules.PAGE.read_text(encoding="utf-8") == router_rules.page()


def test_an_explanation_says_what_was_found():
    lines = list(plan(rule("r", when={"not": {"field": "Modality", "equals": "MR"}})).explain(facts(Modality="CT")))
    assert lines == ['rule "r" fires', "yes   not", "no      Modality equals 'MR': it is ['CT']"]


def test_paths_are_read_in_each_form():
    steps = parse_path("(0040,0275)[2]/ScheduledProcedureStepID").steps
    assert [str(one) for one in steps] == ["0040,0275[2]", "0040,0009"]
    for wrong in ("", "A//B", "0008,006", "Modality[x]", "/".join(["0040,0275"] * 17)):
        with pytest.raises(ValueError, match=r"names no element|goes 17 steps|no attribute"):
            parse_path(wrong)


# ---- a naive evaluator, over pydicom ---------------------------------------------------------------------------------

KEYWORDS = {
    "PatientID": ["", "P1", "P2", "a1", "10"], "PatientName": ["Doe^Jane", "M\xfcller^J\xf6rg", "", "doe"],
    "Modality": ["CT", "MR", ""], "ImageType": [["ORIGINAL", "PRIMARY"], "DERIVED", ["DERIVED", "SECONDARY"]],
    "StudyDate": ["20260101", "20251231", ""], "SeriesNumber": ["1", "2", "10", ""],
    "SliceThickness": ["1.0", "2.5", "10"],
    "Rows": [1, 512, 1024], "StudyDescription": ["a\\b", "HEAD", "head ct"],
}  # fmt: skip
PATHS = [
    *KEYWORDS, "RequestAttributesSequence", "RequestAttributesSequence/ScheduledProcedureStepID",
    "RequestAttributesSequence[1]/ScheduledProcedureStepID", "RequestAttributesSequence[*]/RequestedProcedureID",
    "0009,{ACME},02", "0009,{OTHER},01", "0008,0050",
]  # fmt: skip
VALUES = ["", "P1", "CT", "MR", "DERIVED", "HEAD", "20260101", "10", "M\xfcller^J\xf6rg", "yes", 1, 2, 10, 512, 2.5]


def random_dataset(chance):
    values = {"SOPInstanceUID": "1.2.3", "SpecificCharacterSet": chance.choice(["ISO_IR 100", "ISO_IR 192"])}
    values |= {name: chance.choice(some) for name, some in KEYWORDS.items() if chance.random() < 0.7}
    if chance.random() < 0.6:
        values["RequestAttributesSequence"] = [
            {name: chance.choice(["", "A", "10"]) for name in ("ScheduledProcedureStepID", "RequestedProcedureID")
             if chance.random() < 0.7}
            for _ in range(chance.randrange(3))
        ]  # fmt: skip
    dataset = codec.from_keywords(values)
    if chance.random() < 0.5:
        block = dataset.private_block(0x0009, chance.choice(["ACME", "OTHER"]), create=True)
        block.add_new(chance.choice([1, 2]), "LO", chance.choice(["", "yes", "10"]))
    return dataset


def random_condition(chance, depth=0):
    shape = chance.random()
    if depth < 3 and shape < 0.4:
        kind = chance.choice(["all", "any", "not"])
        if kind == "not":
            return {"not": random_condition(chance, depth + 1)}
        return {kind: [random_condition(chance, depth + 1) for _ in range(chance.randrange(4))]}
    if shape < 0.5:
        return chance.choice(OTHERS)
    operator = chance.choice(["equals", "in", "matches", "range", "exists", "empty"])
    value = {
        "equals": lambda: chance.choice(VALUES), "in": lambda: chance.sample(VALUES, 3),
        "exists": lambda: chance.random() < 0.5, "empty": lambda: chance.random() < 0.5,
        "matches": lambda: chance.choice(["^D", "1", "^$", "(?i)doe", "\xfc", "A|B"]),
        "range": lambda: chance.choice([["A", "H"], ["20260101", ""], ["", "10"], [2, 10], [1, ""], ["", 511.5]]),
    }[operator]()  # fmt: skip
    return {"field": chance.choice(PATHS), operator: value}


OTHERS = [
    {"field": "calling", "in": ["CT1", "X"]}, {"field": "called", "matches": "R$"},
    {"field": "address", "in": ["10.0.0.0/8", "::1"]}, {"field": "time", "range": ["22:00", "06:00"]},
    {"field": "weekday", "equals": "sat"}, {"field": "sop_class", "equals": "CTImageStorage"},
    {"field": "transfer_syntax", "in": ["ImplicitVRLittleEndian", "ExplicitVRBigEndian"]},
]  # fmt: skip


class Naive:
    """What the definition of conditions says, in the plainest way: over pydicom, value by value."""

    def __init__(self, dataset, syntax, calling, called, address, at):
        self.dataset, self.syntax, self.calling, self.called = dataset, syntax, calling, called
        self.address, self.at = address, at

    def holds(self, one):
        for kind, combine in (("all", all), ("any", any)):
            if kind in one:
                return combine([self.holds(inner) for inner in one[kind]])
        if "not" in one:
            return not self.holds(one["not"])
        return self.test(one["field"], *next((key, value) for key, value in one.items() if key != "field"))

    def test(self, field, operator, wanted):
        if field in ("calling", "called"):
            return self.compare(operator, wanted, [getattr(self, field)])
        if field == "address":
            return any(ipaddress.ip_address(self.address) in ipaddress.ip_network(one) for one in wanted)
        if field == "time":
            return self.at.strftime("%H:%M") >= wanted[0] or self.at.strftime("%H:%M") < wanted[1]
        if field == "weekday":
            return self.at.strftime("%a").lower() == wanted
        if field == "sop_class":
            return True
        if field == "transfer_syntax":
            return pydicom.uid.UID(self.syntax).keyword in wanted
        elements = list(self.elements(self.dataset, field.split("/")))
        if operator == "exists":
            return bool(elements) == wanted
        if operator == "empty":
            empty = [not element.value if element.VR == "SQ" else element.is_empty for element in elements]
            return wanted in empty
        return self.compare(operator, wanted, [value for element in elements for value in self.values(element)])

    def elements(self, dataset: Dataset, parts):
        name, _, item = parts[0].partition("[")
        if "{" in name:
            group, creator, low = name.split(",")
            try:
                block = dataset.private_block(int(group, 16), creator.strip("{}"))
            except KeyError:
                return
            if int(low, 16) in block:
                yield block[int(low, 16)]
            return
        tag = pydicom.datadict.tag_for_keyword(name) or int(name.replace(",", ""), 16)
        if tag not in dataset:
            return
        if len(parts) == 1:
            yield dataset[tag]
            return
        items = list(dataset[tag].value)
        chosen = items if item in ("", "*]") else items[int(item[:-1]) : int(item[:-1]) + 1]
        for inner in chosen:
            yield from self.elements(inner, parts[1:])

    def values(self, element):
        if element.VR == "SQ" or element.is_empty:
            return []
        if isinstance(element.value, bytes):  # a private one in implicit VR: nothing says that it is text
            return [part.strip(" \0") for part in element.value.decode("latin-1").split("\\")]
        several = element.value if element.VM > 1 else [element.value]
        return [str(value) for value in several]

    def compare(self, operator, wanted, values):
        if operator == "matches":
            return any(regex.search(wanted, value) for value in values)
        if operator == "range":
            return any(self.within(value, *wanted) for value in values)
        return any(self.same(value, one) for value in values for one in (wanted if operator == "in" else [wanted]))

    def within(self, value, low, high):
        if isinstance(low, str) and isinstance(high, str):
            return value != "" and (low == "" or low <= value) and (high == "" or value <= high)
        try:
            number = float(value)
        except ValueError:
            return False
        return (low == "" or low <= number) and (high == "" or number <= high)

    def same(self, value, one):
        if isinstance(one, str):
            return value == one
        try:
            return float(value) == one
        except ValueError:
            return False


def compared(count, seed):
    """So many pairs of a random condition and a random data set; how often it held."""
    chance = random.Random(seed)
    held = 0
    conditions = [random_condition(chance) for _ in range(50)]
    tests = [Condition.model_validate(one) for one in conditions]
    wanted = Plan.read({"rules": [{"name": str(number), "when": one, "actions": [{"do": "drop"}]}
                                  for number, one in enumerate(conditions)]}).wanted  # fmt: skip
    for _ in range(count // 50):
        dataset, syntax = random_dataset(chance), chance.choice(SYNTAXES)
        named = {"calling": chance.choice(["CT1", "MR"]), "called": chance.choice(["ROUTER", "OTHER"]),
                 "address": chance.choice(["10.2.3.4", "::1", "192.168.1.1"]), "at": NIGHT}  # fmt: skip
        data = codec.encode(dataset, syntax)
        found = Facts(data, syntax, uids.CT_IMAGE_STORAGE, whole=True, wanted=wanted, **named)
        found.check()
        naive = Naive(codec.decode(data, syntax), syntax, **named)
        for one, test in zip(conditions, tests, strict=True):
            expected = naive.holds(one)
            assert test.holds(found) is expected, (json.dumps(one), syntax, named, str(dataset))
            held += expected
    return held


def test_conditions_hold_where_a_naive_evaluator_says_so():
    held = sum(compared(500, seed) for seed in range(4))
    assert 200 < held < 1800, "both answers are common"


@pytest.mark.long
@pytest.mark.deadline(600)
def test_a_hundred_thousand_random_rules_and_data_sets():
    assert sum(compared(1000, seed) for seed in range(100, 200)) > 10_000


def test_an_explanation_says_why_a_rule_was_not_asked():
    rules = rule("off", active=False), rule("first", then="stop"), rule("later"), rule("else", fallback=True)
    assert list(plan(*rules).explain(facts())) == [
        'rule "off" does not fire: it is not active', 'rule "first" fires',
        'rule "later" does not fire: a rule before it says stop',
        'rule "else" does not fire: it is a fallback, and another rule has fired or its condition does not hold',
    ]  # fmt: skip


def test_conditions_nest_so_deep_and_no_deeper():
    def nested(depth):
        condition = {"field": "Modality", "equals": "CT"}
        for _ in range(depth - 1):
            condition = {"not": condition}
        return condition

    assert holds(nested(15), Modality="CT")
    with pytest.raises(PlanInvalid, match=r"conditions nest \d+ deep"):
        plan(rule("x", when=nested(40)))


def test_a_uid_is_itself_and_an_address_that_is_none_is_nowhere():
    assert holds({"field": "sop_class", "equals": str(uids.CT_IMAGE_STORAGE)})
    assert not holds({"field": "address", "in": ["10.0.0.0/8"]}, address="unix socket")
    assert not holds({"field": "address", "in": ["10.0.0.0/8"]}, address="")


def test_a_path_says_what_was_written():
    for text in ("PatientID", "0009,{ACME / CT},02", "RequestAttributesSequence[*]/ScheduledProcedureStepID"):
        assert str(parse_path(text)) == text
    assert parse_path("0020,9999").steps[-1]  # which no dictionary has


@pytest.mark.parametrize(("values", "where"), [
    ({"address": "A@h:104"}, "A@h:104"), ({"kind": "stow", "url": "https://h/x"}, "https://h/x"),
    ({"kind": "folder", "path": "/in"}, "/in"), ({"kind": "s3", "url": "s3://b/in"}, "s3://b/in"),
])  # fmt: skip
def test_where_a_destination_is(values, where):
    assert where in plan(X=values).destinations["X"].where


@pytest.mark.parametrize(("text", "place", "line"), [
    ("x = 1\n[[rules]]\n\n[[rules]]\n", 'rule 2 ("b") when', 4), ("[destinations.A]\n", 'destination "A" address', 1),
    ("\n[ destinations.'A' ]\n", 'destination "A"', 2), ("", "rules", None), ("[[rules]]\n", 'rule 2 ("b")', None),
])  # fmt: skip
def test_the_line_that_a_mistake_is_in(text, place, line):
    assert line_of(text, Problem(place, "it is wrong")) == line
    assert line_of(text, Problem(place, "this is no TOML: odd (at line 7, column 1)")) == 7
