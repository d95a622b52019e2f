"""A naive index in memory, as the oracle of queries, and the odd instances that are put in both."""

from __future__ import annotations

import datetime
import json
import random

from index_records import encoded

from dicomnet import uids
from dicomnet.repository.attributes import Attributes, InstanceRecord, instance_record, normal_date, normal_time
from dicomnet.repository.catalog import ATTRIBUTES, Level
from dicomnet.repository.keys import Identifier, Key
from dicomnet.repository.matching import DateRange, DateWithTime, TimeRange

Chain = tuple[InstanceRecord, ...]  # the records that the patient, the study, the series and the instance came with

_PAIRS = {0x00080020: 0x00080030, 0x00080021: 0x00080031}
_TIMEZONE = 0x00080201


class Tree:
    """Patients, studies, series and instances, each described by the first record that told of it."""

    def __init__(self) -> None:
        self.patients: dict[object, InstanceRecord] = {}
        self.studies: dict[str, tuple[object, InstanceRecord]] = {}
        self.series: dict[str, InstanceRecord] = {}
        self.instances: list[Chain] = []
        self._computed: dict[tuple[str, int], str] = {}

    def add(self, one: InstanceRecord) -> None:
        known = self.studies.get(one.study.uid)
        patient = known[0] if known else (one.patient.pid, one.patient.issuer) if one.patient.pid else object()
        self.patients.setdefault(patient, one)
        self.studies.setdefault(one.study.uid, (patient, one))
        self.series.setdefault(one.series.uid, one)
        self._computed.clear()
        self.instances.append(
            (self.patients[patient], self.studies[one.study.uid][1], self.series[one.series.uid], one)
        )

    def find(self, identifier: Identifier, level: Level) -> list[list[tuple[str, object]]]:
        """The answers to an identifier, sorted by tag: every entity with a chain of instances that all keys accept."""
        entities: dict[int, Chain] = {}
        for chain in self.instances:
            if id(chain[level]) not in entities and self.accepts(identifier, chain):
                entities[id(chain[level])] = chain
        return [sorted(self.answer(identifier, level, chain).items()) for chain in entities.values()]

    def accepts(self, identifier: Identifier, chain: Chain) -> bool:
        keys = {key.tag: key for key in identifier.keys if key.criterion and key.tag in ATTRIBUTES}
        if identifier.options.combined_datetime:
            for date, time in _PAIRS.items():
                if (
                    date in keys
                    and time in keys
                    and not self.accepts_moment(keys[date], keys[time], chain, identifier.timezone)
                ):
                    return False
        return all(self.accepts_key(key, keys, identifier, chain) for key in keys.values())

    def accepts_moment(self, date: Key, time: Key, chain: Chain, zone: str) -> bool:
        if not isinstance(date.criterion, DateRange) or not isinstance(time.criterion, TimeRange):
            return True
        both = DateWithTime(date.criterion, time.criterion)
        return both.accepts_both(str(self.value(date.tag, chain, zone)), str(self.value(time.tag, chain, zone)))

    def accepts_key(self, key: Key, keys: dict[int, Key], identifier: Identifier, chain: Chain) -> bool:
        if ATTRIBUTES[key.tag].computed and ATTRIBUTES[key.tag].keyword.startswith("Number"):
            return True
        date = next((date for date, time in _PAIRS.items() if time == key.tag and date in keys), None)
        is_combined = identifier.options.combined_datetime and date is not None
        if is_combined and isinstance(keys[date].criterion, DateRange) and isinstance(key.criterion, TimeRange):
            return True  # it is part of the moment
        assert key.criterion is not None
        return key.criterion.accepts(self.value(key.tag, chain, identifier.timezone))

    def value(self, tag: int, chain: Chain, zone: str = "") -> str | list[Attributes]:
        """What is stored, as it is in a time zone."""
        there = str(self.stored(_TIMEZONE, chain)) if zone else ""
        if not there:
            return "" if zone and tag == _TIMEZONE else self.stored(tag, chain)
        if tag == _TIMEZONE:
            return zone
        date = tag if tag in _PAIRS else next((date for date, time in _PAIRS.items() if time == tag), None)
        if date is None:
            return self.stored(tag, chain)
        pair = str(self.stored(date, chain)), str(self.stored(_PAIRS[date], chain))
        return in_zone(*pair, there, zone)[tag != date]

    def stored(self, tag: int, chain: Chain) -> str | list[Attributes]:
        attribute = ATTRIBUTES[tag]
        if attribute.computed:
            return self.computed(attribute.keyword, chain)
        one = chain[attribute.level]
        holder = (one.patient, one.study, one.series, one)[attribute.level]
        others: Attributes = json.loads(holder.attrs or "{}")
        if f"{tag:08X}" in others or not attribute.column:
            return others.get(f"{tag:08X}", "")
        value = getattr(holder, attribute.column)
        return "" if value is None else str(value)

    def computed(self, keyword: str, chain: Chain) -> str:
        known = keyword, id(chain[Level.STUDY])
        if known not in self._computed:
            self._computed[known] = self.compute(keyword, chain)
        return self._computed[known]

    def compute(self, keyword: str, chain: Chain) -> str:
        mine = [other for other in self.instances if other[Level.STUDY] is chain[Level.STUDY]]
        if keyword == "ModalitiesInStudy":
            return "\\".join(sorted({other[Level.SERIES].series.modality for other in mine} - {""}))
        if keyword == "SOPClassesInStudy":
            return "\\".join(sorted({other[Level.IMAGE].cls for other in mine}))
        assert keyword == "NumberOfStudyRelatedInstances"
        return str(len(mine))

    def answer(self, identifier: Identifier, level: Level, chain: Chain) -> dict[str, object]:
        answer: dict[str, object] = {"00080052": level.name, "00080056": "ONLINE"}
        for key in identifier.keys:
            known = key.tag in ATTRIBUTES and ATTRIBUTES[key.tag].level <= level
            answer[f"{key.tag:08X}"] = self.value(key.tag, chain, identifier.timezone) if known else ""
        return answer


def in_zone(date: str, time: str, there: str, here: str) -> tuple[str, str]:
    """A date and a time of one zone in another one, by the standard library; without a time nothing moves."""
    clock, day = normal_time(time), normal_date(date)
    if not clock or there == here:
        return date, time
    text = f"{day or '20000101'}{clock[:4]}{there}"
    moment = datetime.datetime.strptime(text, "%Y%m%d%H%M%z").astimezone(datetime.datetime.strptime(here, "%z").tzinfo)
    return f"{moment:%Y%m%d}" if day else date, f"{moment:%H%M}{clock[4:]}"


# Odd instances

_NAMES = [
    "Doe^Jane", "DOE^JOHN", "doe", "Dö^é", "abc^a%b", "a_b^[c]", "ß^É", "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "=山田太^a", "",
    "a'b\"c^/", "Doe^Jane^^Dr", "a\\b^c", "É^ss", "==やまだ", "Ünal^Çiğdem", "^a", "a?b*c", "１２^ｄｏｅ", "abcdef^山",
]  # fmt: skip
_ZONES = ["+0100", "-0530", "", "+0000", "+1400"]
_STEPS = ["s1", "s2", ""]
_OTHERS = [uids.MR_IMAGE_STORAGE, uids.BASIC_TEXT_SR_STORAGE]
_TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "a%b",
    "a_b",
    "[a]",
    "1",
    "12",
    "é",
    "a\\b",
    "É1",
    "'\"",
    "/a/",
    "山田",
    "a.b+(",
    "a b",
    "*",
    "?",
]
_DATES = ["20260130", "20260131", "20260201", "2026.01.31", "", "garbage", "20251231", "19000101"]
_TIMES = ["101530", "101530.500000", "1015", "10", "", "000000", "235959.999999", "10:15:30", "2200", "bad", "010000"]


def odd_records(draw: random.Random, count: int) -> list[InstanceRecord]:
    """Instances of some 25 studies, each with values that are odd in some way; the same for the same seed."""
    return [_odd(draw, number) for number in range(count)]


def _odd(draw: random.Random, number: int) -> InstanceRecord:
    study, series = draw.randrange(25), draw.randrange(3)
    steps = [
        {"RequestedProcedureID": draw.choice([*_TEXTS, "r1"]), "ScheduledProcedureStepID": draw.choice(_STEPS)}
        for _ in range(draw.randrange(3))
    ]
    is_image = draw.random() < 0.6
    values = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": uids.CT_IMAGE_STORAGE
        if is_image
        else draw.choice([uids.MR_IMAGE_STORAGE, uids.BASIC_TEXT_SR_STORAGE]),
        "SOPInstanceUID": f"1.2.{study}.{series}.{number}",
        "StudyInstanceUID": f"1.2.{study}",
        "SeriesInstanceUID": f"1.2.{study}.{series}",
        "PatientID": ["", f"p{study}", f"p{study}%", f"P_{study}"][study % 4],
        "PatientName": _NAMES[study % len(_NAMES)],
        "PatientBirthDate": _DATES[study % len(_DATES)],
        "PatientSex": ["F", "M", "O", ""][study % 4],
        "OtherPatientIDs": draw.choice(_TEXTS),
        "OtherPatientNames": draw.choice(_NAMES),
        "StudyDate": draw.choice(_DATES),
        "StudyTime": draw.choice(_TIMES),
        "AccessionNumber": draw.choice(_TEXTS),
        "StudyDescription": draw.choice(_TEXTS),
        "ReferringPhysicianName": draw.choice(_NAMES),
        "Modality": draw.choice(["CT", "MR", "SR", "", "CT\\XX"]),
        "SeriesNumber": draw.choice(["1", "2", "01", "", "x"]),
        "SeriesDescription": draw.choice(_TEXTS),
        "SeriesDate": draw.choice(_DATES),
        "SeriesTime": draw.choice(_TIMES),
        "InstanceNumber": draw.choice(["1", "2", "3", "+4", ""]),
        "ContentDate": draw.choice(_DATES),
        "RequestAttributesSequence": steps,
        "TimezoneOffsetFromUTC": _ZONES[study % len(_ZONES)],
    }
    if is_image:
        values["Rows"] = draw.choice([16, 512])
    data = encoded(values)
    one = instance_record(data, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    return one.placed("main", f"segment-{number % 3}", number, len(data), number.to_bytes(32, "big"))
