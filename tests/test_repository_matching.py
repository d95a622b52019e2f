"""What keys accept, by the sections of PS3.4 C.2.2.2: the definition that the index's queries are held to."""

from __future__ import annotations

import pytest

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.errors import InvalidArgument
from dicomnet.repository.catalog import ATTRIBUTES, BY_KEYWORD
from dicomnet.repository.folding import fold, fold_name
from dicomnet.repository.keys import Identifier, InvalidKey, QueryOptions
from dicomnet.repository.matching import DateRange, DateWithTime, TimeRange, number_of
from dicomnet.repository.patients import Demographics, contradiction
from dicomnet.repository.text import decode, encodings_of


def accepts(keyword, key, value, **options):
    criterion = Identifier.of({keyword: key}, options=QueryOptions(**options)).keys[0].criterion
    return criterion is None or criterion.accepts(value)


@pytest.mark.parametrize(
    ("keyword", "key", "accepted", "refused"),
    [
        # single value, universal, lists of UIDs
        ("PatientID", "A1", ["A1"], ["a1", "A", "A12", ""]),
        ("PatientID", "", ["", "x"], []),
        ("PatientID", "**", ["", "x"], []),
        ("PatientID", "a\\b", ["a", "b", "a\\b"], ["c"]),
        ("StudyInstanceUID", "1.2\\1.3", ["1.2", "1.3"], ["1.21", "1", ""]),
        ("SOPClassesInStudy", "1.2", ["1.2", "1.1\\1.2"], ["1.1\\1.3"]),
        # wild cards; everything else is literal
        ("PatientID", "A*", ["A", "A1", "A\n1"], ["B", "a1", ""]),
        ("PatientID", "?1", ["A1", "é1"], ["1", "AA1"]),
        ("PatientID", "%_[a]*", ["%_[a]", "%_[a]b"], ["xx", "a"]),
        ("PatientID", "a.b", ["a.b"], ["axb"]),
        ("Modality", "C?", ["CT", "CR"], ["C", "MR"]),
        # names: case, accents, component groups, components that are not there
        ("PatientName", "muller^jorg", ["Müller^Jörg", "MULLER^JORG^^", "Muller ^ Jorg"], ["Muller^Jorg^X", "Muller"]),
        ("PatientName", "strasse*", ["Straße^A"], ["Strase"]),
        ("PatientName", "doe^*", ["Doe^Jane", "Doe"], ["Doerr^Jane"]),
        ("PatientName", "*^jane", ["Doe^Jane"], ["Jane"]),
        ("PatientName", "山田*", ["Yamada^Tarou=山田^太郎=やまだ^たろう", "山田^太郎"], ["Yamada^Tarou"]),
        ("PatientName", "=山田*", ["Yamada=山田^太郎"], ["山田^太郎"]),
        ("PatientName", "ya*=*=や*", ["Yamada=山田=やまだ"], ["Yamada=山田=たろう", "Suzuki=山田=やまだ"]),
        ("PatientName", "やまた", ["==やまた"], ["==やまだ"]),
        # ranges
        ("StudyDate", "20260131", ["20260131", "2026.01.31"], ["20260130", "", "garbage"]),
        ("StudyDate", "20260101-20260131", ["20260101", "20260131"], ["20251231", "20260201", ""]),
        ("StudyDate", "-20260131", ["19000101"], ["20260201", ""]),
        ("StudyDate", "20260131-", ["20260131", "99991231"], ["20260130", ""]),
        ("StudyDate", "2026.01.31", ["20260131"], ["20260201"]),
        ("StudyDate", "*", ["", "20260131"], []),
        ("StudyTime", "1015", ["101500", "101559.9", "1015", "10:15:30", "101560"], ["101600", "101459", "10", ""]),
        ("StudyTime", "10-12", ["10", "125959.999999"], ["0959", "13"]),
        ("StudyTime", "101530.5", ["101530.5", "101530.500", "101530.59"], ["101530", "101530.6", "101530.4999"]),
        ("StudyTime", "2200-0200", ["2200", "235959", "0000", "020059"], ["0201", "2159", "12", ""]),
        ("StudyTime", "-10", ["000000", "105959"], ["11", ""]),
        # numbers
        ("SeriesNumber", "1", ["1", "01", "+1", "1.0"], ["2", "11", "", "x"]),
        ("SeriesNumber", "1\\2", ["1", "2"], ["3"]),
        ("PatientWeight", "70.50", ["70.5"], ["70.51"]),
        ("PatientAge", "042Y", ["042Y"], ["42Y"]),
    ],
)
def test_kinds_of_matching(keyword, key, accepted, refused):
    assert [value for value in accepted if not accepts(keyword, key, value)] == []
    assert [value for value in refused if accepts(keyword, key, value)] == []


@pytest.mark.parametrize(
    ("key", "accepted", "refused"),
    [
        ("202601", ["20260115", "20260101000000", "202601312359"], ["20260201", "2025"]),
        ("2026", ["20260615", "2026"], ["2027", "20251231"]),
        ("20260131101530-20260131101530", ["20260131101530.9"], ["20260131101531"]),
        ("20260131-20260201", ["20260131", "20260201235959"], ["20260202", "20260130"]),
        ("-2025", ["2025", "20251231"], ["2026"]),
        ("202601311000+0100", ["202601310900+0000", "202601311000"], ["202601311000+0000"]),
        ("202601311000+0100-202601311200+0100", ["202601311030+0000"], ["202601311130+0000"]),
        ("20260131-0500", ["20260131"], ["20260201"]),
    ],
)
def test_dates_with_times(key, accepted, refused):
    nested = Identifier.of({"VerifyingObserverSequence": {"VerificationDateTime": key}}).keys[0].criterion
    for value in accepted:
        assert nested.accepts([{"0040A030": value}]), value
    for value in [*refused, "", "garbage", "20261301"]:
        assert not nested.accepts([{"0040A030": value}]), value


@pytest.mark.parametrize(
    ("keyword", "key"),
    [
        ("StudyDate", "2026"),
        ("StudyDate", "20260101-x"),
        ("StudyDate", "-"),
        ("StudyDate", "20261301"),
        ("StudyTime", "25"),
        ("StudyTime", "10-9"),
        ("SeriesNumber", "one"),
        ("SeriesNumber", "1*"),
    ],
)
def test_what_is_no_value_is_refused_by_name(keyword, key):
    with pytest.raises(InvalidKey, match=keyword) as raised:
        Identifier.of({keyword: key})
    assert raised.value.tag == BY_KEYWORD[keyword]


def test_a_moment_that_is_none():
    with pytest.raises(InvalidKey, match="VerificationDateTime"):
        Identifier.of({"VerifyingObserverSequence.VerificationDateTime": "yesterday"})


def test_sequences_match_within_one_item():
    keys = {"RequestAttributesSequence": {"RequestedProcedureID": "R1", "ScheduledProcedureStepID": "S*"}}
    criterion = Identifier.of(keys).keys[0].criterion
    assert criterion.accepts([{"00401001": "R2", "00400009": "S1"}, {"00401001": "R1", "00400009": "S2"}])
    assert not criterion.accepts([{"00401001": "R2", "00400009": "S1"}, {"00401001": "R1", "00400009": "T"}])
    assert not criterion.accepts([])
    assert not criterion.accepts("")


@pytest.mark.parametrize("keys", [{}, {"RequestedProcedureID": ""}, {"RequestedProcedureID": "*"}])
def test_an_item_without_values_is_universal(keys):
    assert Identifier.of({"RequestAttributesSequence": keys}).keys[0].criterion is None


@pytest.mark.parametrize("syntax", [uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN])
def test_items_as_devices_send_them(syntax):
    sent = codec.from_keywords({"RequestAttributesSequence": [{}, {"RequestedProcedureID": "R1"}], "PatientID": "X\0"})
    identifier = Identifier.decode(codec.encode(sent, syntax), syntax)
    assert [key.tag for key in identifier.keys] == [0x00100020, 0x00400275]
    assert identifier.keys[0].criterion.words == ("X",)
    assert identifier.keys[1].criterion.accepts([{"00401001": "R1"}])


def test_empty_values_where_negotiated():
    assert accepts("PatientID", '""', "", empty_value=True)
    assert not accepts("PatientID", '""', "x", empty_value=True)
    assert accepts("PatientID", '""', '""')
    assert not accepts("PatientID", '""', "")


@pytest.mark.parametrize(
    ("date", "time", "accepted"),
    [
        ("20260130", "215959", False),
        ("20260130", "220000", True),
        ("20260131", "120000", True),
        ("20260201", "0159", True),
        ("20260201", "0300", False),
        ("20260131", "", True),
        ("", "120000", False),
    ],
)
def test_dates_and_times_combined(date, time, accepted):
    both = DateWithTime(DateRange("20260130", "20260201"), TimeRange("22", "020060.999999"))
    assert both.accepts_both(date, time) is accepted


def test_unknown_names_are_refused():
    with pytest.raises(InvalidArgument, match="knows no attribute 'PatientNam'"):
        Identifier.of({"PatientNam": ""})


class TestCatalog:
    def test_is_what_the_dictionary_says(self):
        for tag, attribute in ATTRIBUTES.items():
            assert (codec.tags([attribute.keyword])[0], codec.vr_of(attribute.keyword)) == (tag, attribute.vr)


class TestFolding:
    @pytest.mark.parametrize(
        ("text", "folded"),
        [("ÄÖÜ", "aou"), ("Straße", "strasse"), ("Ｄｏｅ", "doe"), ("İI", "ii"), ("やまだ", "やまだ"), ("Ñ^é", "n^e")],
    )
    def test_text(self, text, folded):
        assert fold(text) == folded
        assert fold(folded) == folded

    def test_names(self):
        assert fold_name("Doe ^ Jane^^=山田^=") == ("doe^jane", "山田", "")


class TestText:
    @pytest.mark.parametrize(
        ("character_set", "encoded", "text"),
        [
            ("ISO_IR 100", b"M\xfcller", "Müller"),
            ("ISO_IR 192", "Müller".encode(), "Müller"),
            ("", "Müller".encode(), "Müller"),
            ("", b"M\xfcller", "Müller"),
            ("ISO_IR 192", b"M\xfcller", "Müller"),
            ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
            ("ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
            ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
            ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
            ("nonsense", b"plain ", "plain"),
            ("ISO_IR 6", b"a\0", "a"),
        ],
    )
    def test_decoding(self, character_set, encoded, text):
        assert decode(encoded, encodings_of(character_set)) == text


class TestContradiction:
    @pytest.mark.parametrize(
        ("told", "differing"),
        [
            (("doe^jane", "1970", "F"), ""),
            (("", "", ""), ""),
            (("roe^jane", "1970", "F"), ""),
            (("roe^jane", "1971", "F"), "name and birth date"),
            (("doe^jane", "1971", "M"), "birth date and sex"),
            (("poe^edgar", "", ""), "name"),
            (("poe^edgar", "1970", "F"), ""),
            (("poe^edgar", "1971", "M"), "name and birth date and sex"),
        ],
    )
    def test_of_two_descriptions(self, told, differing):
        assert contradiction(Demographics("doe^jane", "1970", "F"), Demographics(*told)) == differing


class TestOdd:
    @pytest.mark.parametrize(("keyword", "key"), [
        ("PatientID", "A1"), ("PatientName", "doe"), ("StudyDate", "20260131"), ("StudyTime", "10"),
        ("InstanceNumber", "1"), ("EffectiveDateTime", "20260131"),
    ])  # fmt: skip
    def test_items_where_a_value_is_wanted_are_none(self, keyword, key):
        assert not accepts(keyword, key, [{"00100020": "A1"}])

    @pytest.mark.parametrize("text", ["1.2.3", "+", "1e", "", "one", ".", "1e5e", "--1"])
    def test_what_is_no_number(self, text):
        assert number_of(text) is None

    @pytest.mark.parametrize(("text", "number"), [("1", 1.0), ("+.5", 0.5), ("-1.50", -1.5), ("1e3", 1000.0)])
    def test_what_is_one(self, text, number):
        assert number_of(text) == number

    def test_an_unknown_escape_sequence_leaves_what_can_be_read(self):
        assert "Doe" in decode(b"Doe\x1b$)Z^\x1b(B", encodings_of("\\ISO 2022 IR 87"))

    def test_a_list_with_a_wild_card_alone_matches_all(self):
        assert accepts("PatientID", "a\\*", "b")
        assert Identifier.of({"PatientID": "a\\*"}).keys[0].criterion is None

    def test_keys_that_nest_too_deep(self):
        keys = {"PatientID": "1"}
        for _ in range(20):
            keys = {"RequestAttributesSequence": keys}
        with pytest.raises(InvalidKey, match="nests too deep"):
            Identifier.of(keys)

    def test_a_sequence_in_whose_place_there_is_something_else(self):
        """Of unknown VR, with bytes that are no items: a key that matches all, and is answered empty."""
        dataset = codec.from_keywords({"PatientID": "A1", "RequestAttributesSequence": []})
        data = codec.encode(dataset, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        place = data.index(b"\x40\x00\x75\x02")
        data = data[:place] + b"\x40\x00\x75\x02UN\0\0\2\0\0\0ab"
        identifier = Identifier.decode(data, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        [key] = [one for one in identifier.keys if one.tag == 0x00400275]
        assert (key.vr, key.criterion, key.items) == ("SQ", None, ())
