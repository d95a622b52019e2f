"""De-identification: every row of PS3.15 Table E.1-1, with every option; what is replaced stays consistent."""

import io
import stat
from importlib.resources import files

import pydicom
import pytest
from pydicom import examples
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnet.dataset import codec
from dicomnet.errors import InvalidArgument
from dicomnet.repository.deidentify import Deidentifier, NotDeidentified, Option, key_in
from dicomnet.repository.deidentify.keys import FILE_NAME, Replacements
from dicomnet.uids import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN, is_valid

KEY = b"k" * 32
TELLTALE = {
    "AE": "TELL", "AS": "042Y", "CS": "TELL", "DA": "20240229", "DS": "42.5", "DT": "20240229101112", "IS": "4711",
    "LO": "Telltale", "LT": "Telltale", "PN": "Telltale^Tom", "SH": "Telltale", "ST": "Telltale", "TM": "101112",
    "UC": "Telltale", "UI": "1.2.3.4711", "UR": "http://telltale", "UT": "Telltale", "US": 4711, "OB": b"Telltale",
    "UN": b"Telltale", "OW": b"Telltale", "UL": 4711, "FD": 47.5, "FL": 47.5, "SS": 4711, "SL": 4711,
}  # fmt: skip


def rows():
    """The table, read anew: tag, basic profile, options."""
    text = files("dicomnet.repository.deidentify").joinpath("table_e1_1.txt").read_text()
    for line in text.splitlines():
        if line[0] in "0123456789ABCDEF" and "X" not in line[:8]:
            tag, basic, options, _ = (part.strip() for part in line.split("|"))
            if not tag.startswith(("0000", "0002", "0004", "FFFA", "FFFC")):
                yield int(tag, 16), basic, dict(one.split("=") for one in options.split())


def vr_of(tag):
    return dictionary_VR(tag).split(" ")[0] if dictionary_has_tag(tag) else "LO"


def everything():
    """A data set with every attribute of the table, each with a value that tells."""
    dataset = Dataset()
    for tag, *_ in rows():
        vr = vr_of(tag)
        value = Sequence([Dataset()]) if vr == "SQ" else TELLTALE[vr]
        dataset.add_new(tag, vr, value)
        if vr == "SQ":
            dataset[tag].value[0].ReferencedSOPInstanceUID = "1.2.3.4711"
            dataset[tag].value[0].PatientName = "Telltale^Tom"
            dataset[tag].value[0].CodeMeaning = "a word"
    return dataset


def expected(basic, options, chosen):
    actions = {options[option] for option in chosen if option in options}
    if actions:
        return "C" if "C" in actions else "K"
    return basic.replace("*", "").split("/")[-1]


def assert_done(dataset, tag, action):
    vr = vr_of(tag)
    if action == "X" or (action == "C" and vr in ("OB", "OW", "UN")):
        assert tag not in dataset
        return
    value = dataset[tag].value
    if vr == "SQ":
        assert not [item for item in value if str(item.get("PatientName", "")) == TELLTALE["PN"]]
        assert bool(value) is (action != "Z")
    elif action == "K":
        assert value == TELLTALE[vr]
    elif action == "Z":
        assert not value or tag == 0x00100010
    elif action in "DU":
        assert value
        assert value != TELLTALE[vr]
    elif vr in ("DA", "DT"):
        assert str(value)[8:] == TELLTALE[vr][8:]
        assert "19" < str(value)[:2] <= "20"
        assert value != TELLTALE[vr]
    elif vr != "TM":
        assert "elltale" not in str(value)


class TestTable:
    def test_it_has_all_rows(self):
        assert sum(1 for _ in rows()) > 600
        found = {tag: (basic, options) for tag, basic, options in rows()}
        assert found[0x00100010] == ("Z", {})
        assert found[0x00081140] == ("X/Z/U*", {"uids": "K"})
        assert found[0x00080022] == ("X/Z", {"dates": "K", "shifted": "C"})
        assert found[0x00181000] == ("X/Z/D", {"device": "K"})
        assert found[0x00102110] == ("X", {"patient": "C", "descriptors": "C"})

    @pytest.mark.parametrize(
        "chosen",
        [(), *((option,) for option in Option), tuple(set(Option) - {Option.FULL_DATES})],
        ids=lambda chosen: "+".join(sorted(chosen)) if len(chosen) < 2 else "all",
    )
    def test_every_row_is_done_as_it_says(self, chosen):
        dataset = everything()
        Deidentifier(KEY, chosen).apply(dataset)
        for tag, basic, options in rows():
            assert_done(dataset, tag, expected(basic, options, chosen))
        assert dataset.PatientIdentityRemoved == "YES"

    def test_groups_of_repeating_and_private_elements_are_known(self):
        dataset = Dataset()
        dataset.add_new(0x60023000, "OW", b"ab")
        dataset.add_new(0x60024000, "LO", "Telltale")
        dataset.add_new(0x60020010, "US", 7)
        dataset.add_new(0x50100005, "US", 7)
        dataset.add_new(0x00090010, "LO", "SOMEBODY")
        dataset.add_new(0x00091001, "LO", "Telltale")
        Deidentifier(KEY).apply(dataset)
        assert [one.tag for one in dataset if one.tag.group not in (0x0012, 0x0028)] == [0x60020010]


class TestStory:
    def deidentified(self, *options, **keywords):
        dataset = codec.from_keywords(keywords)
        report = Deidentifier(KEY, options).apply(dataset)
        return dataset, report

    def test_it_says_what_was_done(self):
        dataset, report = self.deidentified("shifted", "device", PatientName="Doe^Jane", StudyDate="20240229")
        codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113109", "113107"]
        assert len(dataset.DeidentificationMethod) == 3
        assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
        assert report.counts() == {"emptied": 1, "shifted": 1}
        assert report.done["emptied"] == ["(0010,0010)"]

    @pytest.mark.parametrize(("option", "word"), [("dates", "UNMODIFIED"), ("uids", "REMOVED")])
    def test_of_dates_it_says_whether_they_tell(self, option, word):
        assert self.deidentified(option)[0].LongitudinalTemporalInformationModified == word

    def test_instances_of_a_patient_stay_together_and_intervals_stay(self):
        first, _ = self.deidentified("shifted", PatientID="P1", StudyInstanceUID="1.2.3", StudyDate="20240229")
        second, _ = self.deidentified("shifted", PatientID="P1", StudyInstanceUID="1.2.3", StudyDate="20240302")
        other, _ = self.deidentified("shifted", PatientID="P2", StudyInstanceUID="1.2.4", StudyDate="20240302")
        assert first.PatientID == second.PatientID != other.PatientID
        assert first.StudyInstanceUID == second.StudyInstanceUID != other.StudyInstanceUID
        day = pydicom.valuerep.DA
        assert (day(second.StudyDate) - day(first.StudyDate)).days == 2
        assert is_valid(first.StudyInstanceUID)

    def test_classes_and_syntaxes_of_the_standard_stay(self):
        item = {"ReferencedSOPClassUID": CT_IMAGE_STORAGE, "ReferencedSOPInstanceUID": "1.2.3.4"}
        dataset, _ = self.deidentified(SOPClassUID=CT_IMAGE_STORAGE, ReferencedImageSequence=[item])
        assert dataset.SOPClassUID == CT_IMAGE_STORAGE
        assert dataset.ReferencedImageSequence[0].ReferencedSOPClassUID == CT_IMAGE_STORAGE
        assert dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID == Replacements(KEY).uid("1.2.3.4")

    def test_descriptions_lose_names_numbers_and_titles(self):
        dataset, _ = self.deidentified(
            "descriptors",
            PatientName="Doe^Jane",
            ReferringPhysicianName="House^Greg",
            StudyDescription="Thorax of Jane DOE, seen by Dr. Wilson 2024-02-29, case 4711815, lung window",
        )
        assert dataset.StudyDescription == "Thorax of , seen by , case , lung window"

    def test_burned_in_text_is_refused_unless_it_is_allowed(self):
        for said, warned in (("YES", 1), ("NO", 0), ("", 1)):
            dataset = codec.from_keywords({"BurnedInAnnotation": said, "BitsAllocated": 8, "PixelData": b"\0\0"})
            if said == "YES":
                with pytest.raises(NotDeidentified, match="burned"):
                    Deidentifier(KEY).apply(dataset)
            assert len(Deidentifier(KEY, burned_in=True).apply(dataset).warnings) == warned

    def test_safe_private_elements_stay_where_that_is_chosen(self):
        for options, kept in (((), 0), (("private",), 1)):
            dataset = Dataset()
            block = dataset.private_block(0x0009, "ACME", create=True)
            block.add_new(1, "LO", "safe")
            block.add_new(2, "LO", "Telltale")
            other = dataset.private_block(0x000B, "OTHER", create=True)
            other.add_new(1, "LO", "Telltale")
            item = {"PrivateGroupReference": 9, "PrivateCreatorReference": "ACME",
                    "BlockIdentifyingInformationStatus": "MIXED", "NonidentifyingPrivateElements": 1}  # fmt: skip
            dataset.PrivateDataElementCharacteristicsSequence = [codec.from_keywords(item)]
            Deidentifier(KEY, options).apply(dataset)
            assert [str(one.value) for one in dataset if one.tag.is_private and one.tag.element > 0xFF] == [
                "safe"
            ] * kept

    def test_a_real_instance_is_the_same_picture_and_nobody_s(self):
        original = examples.ct
        names = [str(original.PatientName), str(original.PatientID), str(original.StudyInstanceUID)]
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, Dataset(original), implicit_vr=False, little_endian=True)
        data, _ = Deidentifier(KEY, ("shifted",)).data_set(buffer.getvalue(), EXPLICIT_VR_LITTLE_ENDIAN)
        after = codec.decode(data, EXPLICIT_VR_LITTLE_ENDIAN)
        assert after.PixelData == original.PixelData
        assert not any(name.encode() in data for name in names if name)


class TestKeys:
    def test_a_key_is_made_once_for_its_owner(self, tmp_path):
        key = key_in(tmp_path)
        assert len(key) == 32
        assert key_in(tmp_path) == key
        assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600

    def test_what_is_no_key_is_refused(self, tmp_path):
        (tmp_path / FILE_NAME).write_text("42")
        with pytest.raises(InvalidArgument, match="no key"):
            key_in(tmp_path)
        with pytest.raises(InvalidArgument, match="guessed"):
            Deidentifier(b"short")

    def test_another_key_gives_others(self):
        mine, other = Replacements(KEY), Replacements(b"o" * 32)
        assert mine.uid("1.2.3") != other.uid("1.2.3")
        assert mine.patient("P1") != other.patient("P1")

    @pytest.mark.parametrize("text", ["", "2024", "20241301", "later"])
    def test_what_is_no_date_is_none_afterwards(self, text):
        assert Replacements(KEY).shifted(text, 40) == ""

    @pytest.mark.parametrize(
        ("text", "gone"), [("20240301", "20240229"), ("20240301101112.5+0100", "20240229101112.5+0100")]
    )
    def test_dates_go_back_by_whole_days(self, text, gone):
        assert Replacements(KEY).shifted(text, 1) == gone

    @pytest.mark.parametrize(("options", "why"), [(("pixels",), "no option"), (("dates", "shifted"), "either")])
    def test_options_that_make_no_sense_are_refused(self, options, why):
        with pytest.raises(InvalidArgument, match=why):
            Deidentifier(KEY, options)
