"""Multiparts as they come: cut anywhere, with line feeds alone, with a preamble, and none that never ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnet.web.media_types import MediaType, accepted, best, parse
from dicomnet.web.multipart import Begun, Part, PartReader, boundary, written
from dicomnet.web.problems import Problem


def read(body: bytes, mark: str, cuts: list[int] = []) -> list[tuple[dict[str, str], bytes]]:  # noqa: B006
    reader, parts = PartReader(mark), []
    ends = sorted({min(cut, len(body)) for cut in cuts} | {len(body)})
    start = 0
    for end in [*ends, None]:
        piece = body[start:end] if end is not None else b""
        start = end or start
        for event in reader.feed(piece, last=end is None):
            if isinstance(event, Begun):
                parts.append((event.headers, b""))
            elif event is not None:
                parts[-1] = (parts[-1][0], parts[-1][1] + event)
        if reader.ended:
            break
    assert reader.ended
    return parts


@given(st.lists(st.binary(max_size=600), min_size=1, max_size=4), st.lists(st.integers(0, 3000), max_size=20))
def test_what_is_written_is_read_wherever_it_is_cut(bodies, cuts):
    mark = boundary()
    body = b"".join(written([Part("application/dicom", [one[:100], one[100:]]) for one in bodies], mark))
    found = read(body, mark, cuts)
    assert [data for _, data in found] == bodies
    assert all(headers == {"content-type": "application/dicom"} for headers, _ in found)


def test_line_feeds_alone_a_preamble_and_no_headers_will_do():
    body = b"preamble\n--b\nContent-Type: application/dicom\n\nABC\n--b\n\nDEF\n--b--"
    assert read(body, "b") == [({"content-type": "application/dicom"}, b"ABC"), ({}, b"DEF")]


def test_what_looks_like_a_boundary_within_a_part_is_data():
    body = b"--b\r\n\r\nx\r\n--bc\r\ny\r\n--b--\r\n"
    assert read(body, "b") == [({}, b"x\r\n--bc\r\ny")]


@pytest.mark.parametrize("body", [b"", b"--b\r\n\r\nhalf", b"no boundary at all", b"--b\r\n\r\nx\r\n--b\r\n"])
def test_what_ends_too_early_is_told(body):
    with pytest.raises(Problem, match="ends before its last boundary"):
        read(body, "b")


def test_headers_that_never_end_are_cut():
    reader = PartReader("b")
    with pytest.raises(Problem, match="longer than 16384 bytes"):
        list(reader.feed(b"--b\r\n" + b"x: y" * 5000))


@pytest.mark.parametrize(
    ("text", "type", "parameters", "quality"),
    [
        ('multipart/related; type="application/dicom"', "multipart/related", {"type": "application/dicom"}, 1.0),
        ("Multipart/Related;TYPE=image/jp2;q=0.5", "multipart/related", {"type": "image/jp2"}, 0.5),
        ("application/dicom; transfer-syntax=*", "application/dicom", {"transfer-syntax": "*"}, 1.0),
        ('a/b; c="d;e, f"', "a/b", {"c": "d;e, f"}, 1.0),
    ],
)
def test_media_types(text, type, parameters, quality):
    assert parse(text) == MediaType(type, parameters, quality)


def test_the_best_of_what_is_accepted():
    ranges = accepted(["application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*"])
    assert best(ranges, ("application/dicom+json",)) == "application/dicom+json"
    assert best(accepted(["image/*;q=0.5, image/png"]), ("image/jpeg", "image/png")) == "image/png"
    assert best(accepted([]), ("image/jpeg",)) == "image/jpeg"
    assert best(accepted(["text/html"], "image/jpeg"), ("image/jpeg",)) == "image/jpeg"
    with pytest.raises(Problem) as refused:
        best(accepted(["text/html, image/png;q=0"]), ("image/png",))
    assert refused.value.status == 406
