"""Limits, time-outs, addresses, and the units people write."""

import copy
import pickle
from dataclasses import fields, replace

import pytest
from cases import every
from hypothesis import given
from hypothesis import strategies as st

from dicomnet import config, uids
from dicomnet._pdu import AssociateRQ, PresentationContextRQ, UnknownItem, decode
from dicomnet.config import Entity, Limits, Timeouts, check_ae_title, parse_seconds, parse_size
from dicomnet.dataset import codec
from dicomnet.errors import InvalidArgument, MalformedPDU

LIMITS = [field.name for field in fields(Limits)]
TIMEOUTS = [field.name for field in fields(Timeouts)]


def test_defaults_protect():
    assert Limits().max_pdu == 262144
    assert None not in [getattr(Limits(), name) for name in LIMITS]
    assert None not in [getattr(Timeouts(), name) for name in TIMEOUTS]


@every("name", LIMITS)
@every("value", [-1, 1 << 32, "10", 1.5])
def test_a_limit_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidArgument, match=name):
        Limits(**{name: value})


def test_no_limit_only_for_data_sets_in_memory():
    assert Limits(message=None).message is None
    with pytest.raises(InvalidArgument, match="max_pdu"):
        Limits(max_pdu=0)


@every("name", TIMEOUTS)
@every("value", [0, -1, float("nan"), float("inf"), "10"])
def test_a_time_out_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidArgument, match=name):
        Timeouts(**{name: value})
    assert getattr(Timeouts(**{name: None}), name) is None


def test_a_busy_poll_is_short():
    assert Timeouts(busy_poll=0.001).busy_poll == 0.001
    with pytest.raises(InvalidArgument, match="keep a processor busy"):
        Timeouts(busy_poll=1)


@pytest.mark.parametrize("settings", [Limits(max_pdu=16384), Timeouts(idle=None), Entity("A", "h", 1)])
def test_settings_are_frozen_values(settings):
    with pytest.raises(AttributeError, match="cannot assign"):
        setattr(settings, fields(settings)[0].name, 1)
    assert settings == copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings))
    assert len({settings, replace(settings)}) == 1


@pytest.mark.parametrize("settings", [Limits, Timeouts])
def test_settings_are_given_by_name_and_known_ones_only(settings):
    with pytest.raises(TypeError):
        settings(1)
    with pytest.raises(TypeError, match="nonsense"):
        settings(nonsense=1)


def test_a_changed_copy_is_looked_over_too():
    assert replace(Limits(max_pdu=16384), associations=2) == Limits(max_pdu=16384, associations=2)
    assert replace(Entity("A", "h", 1), port=2) == Entity("A", "h", 2)
    with pytest.raises(InvalidArgument, match="max_pdu"):
        replace(Limits(), max_pdu=1)
    with pytest.raises(InvalidArgument, match="17 characters"):
        replace(Entity("A", "h", 1), ae_title="A" * 17)


@pytest.mark.parametrize(
    ("text", "entity", "canonical"),
    [
        ("ARCHIVE@pacs.local:11112", Entity("ARCHIVE", "pacs.local", 11112), None),
        ("AET@[::1]:11112", Entity("AET", "::1", 11112), None),
        ("AET@[fe80::1%eth0]:104", Entity("AET", "fe80::1%eth0", 104), None),
        ("pacs:104", Entity("ANY-SCP", "pacs", 104), "ANY-SCP@pacs:104"),
        ("127.0.0.1:0", Entity("ANY-SCP", "127.0.0.1", 0), "ANY-SCP@127.0.0.1:0"),
        ("dicoms://ARCHIVE@host:2762", Entity("ARCHIVE", "host", 2762, tls=True), None),
        ("dicoms://ARCHIVE@host", Entity("ARCHIVE", "host", 2762, tls=True), "dicoms://ARCHIVE@host:2762"),
        ("DICOMS://ARCHIVE@[::1]/", Entity("ARCHIVE", "::1", 2762, tls=True), "dicoms://ARCHIVE@[::1]:2762"),
        ("dicom://host", Entity("ANY-SCP", "host", 104), "ANY-SCP@host:104"),
        (" MY PACS @host:1 ", Entity("MY PACS", "host", 1), "MY PACS@host:1"),
        ("A@B:C@host:1", Entity("A@B:C", "host", 1), None),
    ],
)
def test_an_address(text, entity, canonical):
    assert Entity.parse(text) == entity
    assert str(entity) == (canonical or text)


def test_the_title_where_none_is_written():
    assert Entity.parse("h:1", ae_title="ECHO").ae_title == "ECHO"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "port is missing"),
        ("pacs", "port is missing"),
        ("A@pacs", "port is missing"),
        ("A@[::1]", "port is missing"),
        ("A@::1:104", "brackets"),
        ("A@[::1:104", "bracket"),
        ("A@[::1]104", "bracket"),
        ("A@pacs:", "not a port number"),
        ("A@pacs:http", "not a port number"),
        ("A@pacs:-1", "not a port number"),
        ("A@pacs:\u0663", "not a port number"),
        ("A@pacs:65536", "not a port"),
        ("A@:104", "not a host"),
        ("A@pa cs:104", "not a host"),
        ("A@pacs/x:104", "not a host"),
        ("@pacs:104", "AE title"),
        ("SEVENTEEN_LETTERS@pacs:104", "17 characters"),
        ("http://pacs:104", 'unknown scheme "http"'),
        ("A@pa\ncs:104", "not a host"),
    ],
)
def test_an_address_that_is_none_says_why(text, says):
    with pytest.raises(InvalidArgument, match=says) as caught:
        Entity.parse(text)
    assert str(caught.value).isprintable()


TITLE_CHARACTERS = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\")
TITLES = st.text(TITLE_CHARACTERS, min_size=1, max_size=16)
HOSTS = st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z0-9.-]+", fullmatch=True))


@given(TITLES.filter(str.strip), HOSTS, st.integers(0, 65535), st.booleans())
def test_an_address_survives_being_written_and_read(title, host, port, tls):
    entity = Entity(title, host, port, tls)
    assert Entity.parse(str(entity)) == entity


@every("code", range(256))
@every("where", ["{}AB", "A{}B", "AB{}"])
def test_every_character_in_an_ae_title(code, where):
    title = where.format(chr(code))
    if 0x20 <= code <= 0x7E and code != 0x5C:
        assert check_ae_title(title) == title.strip(" ")
    else:
        with pytest.raises(InvalidArgument):
            check_ae_title(title)


@pytest.mark.parametrize("title", ["", " ", " " * 16, "A" * 17, "A\\B", "Ä"])
def test_what_is_no_ae_title(title):
    with pytest.raises(InvalidArgument):
        check_ae_title(title)


def test_spaces_around_an_ae_title_do_not_count():
    assert check_ae_title(" " + "A" * 16 + "   ") == "A" * 16


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("16384", 16384),
        ("512k", 512 << 10),
        ("512K", 512 << 10),
        ("512kB", 512 << 10),
        ("512 KiB", 512 << 10),
        ("1.5M", 3 << 19),
        ("2g", 2 << 30),
        (" 7b ", 7),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1e3", "1x", "1.3", "nan", "inf", "1kk", "1.2.3", "\u0663", "1 k k", ".", "k1"]
)
def test_what_is_no_size(text):
    with pytest.raises(InvalidArgument, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("30s", 30.0), ("0.5", 0.5), ("500ms", 0.5), ("2m", 120.0), ("2min", 120.0), ("1h", 3600.0)],
)
def test_durations(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "s", "1d", "nan", "inf", "1 2", "m1", "9" * 400])
def test_what_is_no_duration(text):
    with pytest.raises(InvalidArgument, match="not a duration"):
        parse_seconds(text)


@pytest.mark.parametrize("settings", [Limits(), Timeouts()], ids=["limits", "timeouts"])
def test_every_default_is_one_that_may_be_given(settings):
    given = {name: getattr(settings, name) for name in (field.name for field in fields(settings))}
    assert type(settings)(**given) == settings
    assert hash(type(settings)(**given)) == hash(settings)


# ---- limits that are compiled in -------------------------------------------------------------------------------------


def test_unknown_items_are_bounded_as_is_said():
    items = [UnknownItem(0xE0, b"")] * config.MOST_UNKNOWN_ITEMS
    contexts = [PresentationContextRQ(1, uids.VERIFICATION, [uids.IMPLICIT_VR_LITTLE_ENDIAN])]
    request = AssociateRQ("CALLED", "CALLING", contexts, [], unknown=items)
    assert decode(request.encode()) == request
    with pytest.raises(InvalidArgument):
        AssociateRQ("CALLED", "CALLING", contexts, [], unknown=[*items, items[0]])
    data = bytearray(request.encode() + b"\xe0\0\0\0")
    data[2:6] = (len(data) - 6).to_bytes(4, "big")
    with pytest.raises(MalformedPDU):
        decode(data)


@pytest.mark.parametrize("deeper", [False, True])
def test_sequences_nest_as_deep_as_is_said(deeper):
    data = b""
    for _ in range(config.DEEPEST_SEQUENCE + deeper):
        item = b"\xfe\xff\x00\xe0" + len(data).to_bytes(4, "little") + data
        data = b"\x08\x00\x15\x11SQ\0\0" + len(item).to_bytes(4, "little") + item
    if deeper:
        with pytest.raises(codec.UndecodableDataSet, match=str(config.DEEPEST_SEQUENCE)):
            codec.decode(data, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    else:
        assert len(codec.decode(data, uids.EXPLICIT_VR_LITTLE_ENDIAN)) == 1
