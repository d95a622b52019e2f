"""Dates and times in the time zone of who asks (timezone query adjustment, PS3.4 Sections C.4.1.1.3 and C.5.1.1).

A study's Timezone Offset From UTC (0008,0201) says what zone its dates and times are in. Where it says none, they are
what they are: nothing is moved. So are birth dates, which are of no study.
"""

from __future__ import annotations

import datetime
from functools import lru_cache

from .attributes import normal_date, normal_time
from .catalog import ATTRIBUTES
from .matching import Criterion, DateRange, Empty, offset_minutes

__all__ = ["MOMENTS", "MOVED", "PAIRS", "TIMEZONE", "loosened", "moved", "with_offset"]

TIMEZONE = 0x00080201
#: Dates and their times.
PAIRS = ((0x00080020, 0x00080030), (0x00080021, 0x00080031), (0x00080023, 0x00080033), (0x00100030, 0x00100032),
         (0x00400244, 0x00400245), (0x00400250, 0x00400251), (0x00700082, 0x00700083))  # fmt: skip
#: Of each date and each time that a zone moves, its pair.
MOVED = {tag: pair for pair in PAIRS if pair[0] != 0x00100030 for tag in pair}
#: Of those that are both in one.
MOMENTS = frozenset(tag for tag, attribute in ATTRIBUTES.items() if attribute.vr == "DT")

_DAY = 24 * 60
_MOST_DAYS = datetime.timedelta(days=2)  # between the dates of one moment: offsets are from -1200 to +1400


@lru_cache(4096)
def moved(date: str, time: str, minutes: int) -> tuple[str, str]:
    """A date and a time in a zone that is so many minutes further east.

    A date without a time stays, and so does what is none. A time without a date is moved around the clock.
    """
    clock = normal_time(time)
    if not clock or not minutes:
        return date, time
    days, minute = divmod(int(clock[:2]) * 60 + int(clock[2:4]) + minutes, _DAY)
    later = f"{minute // 60:02}{minute % 60:02}{clock[4:]}"
    if not normal_date(date):
        return date, later
    day = _shifted(normal_date(date), datetime.timedelta(days=days))
    return (day, later) if day else (date, time)


def _shifted(date: str, by: datetime.timedelta) -> str:
    """A date so many days later; empty where there is none."""
    try:
        return (datetime.date(int(date[:4]), int(date[4:6]), int(date[6:])) + by).isoformat().replace("-", "")
    except (ValueError, OverflowError):
        return ""


def loosened(criterion: Criterion) -> Criterion | None:
    """What accepts the stored forms of all dates, or times, that a criterion accepts in some zone; None accepts all."""
    if isinstance(criterion, Empty):
        return criterion
    if not isinstance(criterion, DateRange):
        return None
    first = _shifted(criterion.first, -_MOST_DAYS) if criterion.first else ""
    last = _shifted(criterion.last, _MOST_DAYS) if criterion.last else ""
    return DateRange(first, last)


def with_offset(text: str, offset: str) -> str:
    """Dates with times, of which those without an offset of their own get this one."""
    return "\\".join(one + offset if one and offset_minutes(one[-5:]) is None else one for one in text.split("\\"))
