"""The walk over a data set's beginning: the quick one for the usual encoding finds what the plain one does."""

from __future__ import annotations

import random

import pytest

from dicomnet import uids
from dicomnet.files.part10 import read_meta
from dicomnet.repository import headers
from dicomnet.repository.catalog import ATTRIBUTES

WANTED = frozenset(ATTRIBUTES)


def plainly(data, transfer_syntax, monkeypatch):
    def plain(self, found, wanted, last):
        self.data_set(found, len(self.data), False, wanted, last)

    with monkeypatch.context() as patch:
        patch.setattr(headers._Walker, "top_level", plain)
        return headers.read_elements(data, transfer_syntax, WANTED)


@pytest.fixture(scope="module")
def beginnings(sample_files):
    """The beginnings of real data sets that are not in implicit VR."""
    found = []
    for path in sample_files:
        content = path.read_bytes()
        meta, start = read_meta(content)
        if meta.transfer_syntax_uid not in (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN):
            found.append((content[start : start + 8000], meta.transfer_syntax_uid))
    return found


def test_whole_cut_and_damaged_ones_are_read_the_same(beginnings, monkeypatch):
    chance = random.Random(1)
    assert len(beginnings) > 20
    for data, syntax in beginnings:
        damaged = bytearray(data)
        damaged[chance.randrange(min(len(data), 2000))] ^= 1 << chance.randrange(8)
        for one in (data, *(data[: chance.randrange(len(data))] for _ in range(10)), bytes(damaged)):
            assert headers.read_elements(one, syntax, WANTED) == plainly(one, syntax, monkeypatch)


def a_sequence(value):
    """Request Attributes Sequence, in explicit VR."""
    return b"\x40\0\x75\x02SQ\0\0" + len(value).to_bytes(4, "little") + value


def an_item(value):
    return b"\xfe\xff\x00\xe0" + len(value).to_bytes(4, "little") + value


SEQUENCE = 0x00400275
BEFORE = b"\x10\0\x20\0LO\2\0P1"


def tags_of(data):
    return [one.tag for one in headers.read_elements(data, uids.EXPLICIT_VR_LITTLE_ENDIAN, WANTED)]


def test_what_stands_in_the_place_of_an_item_ends_the_walk_and_leaves_what_came_before():
    assert tags_of(BEFORE + a_sequence(an_item(b""))) == [0x00100020, SEQUENCE]
    assert tags_of(BEFORE + a_sequence(b"\x10\0\x20\0LO\2\0P1")) == [0x00100020]


@pytest.mark.parametrize(("depth", "found"), [(5, [0x00100020, SEQUENCE]), (500, [0x00100020])])
def test_sequences_in_sequences_end_somewhere(depth, found):
    value = b""
    for _ in range(depth):
        value = a_sequence(an_item(value))
    assert tags_of(BEFORE + value) == found
