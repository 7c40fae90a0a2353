"""When time bands hold: parts of the week, and of holidays, in a time zone."""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from services.rating.domain.periods import ALWAYS, Window
from services.rating.domain.terms import TimeBand

HOLIDAY = 8
DAYS_AROUND = 8
DAY_MINUTES = 24 * 60


def bands_at(
    bands: Sequence[TimeBand], time_zone: str, at_ms: int, holidays: Collection[date] = ()
) -> tuple[bool, Window]:
    """Whether one of some bands holds at a moment, and a time around it in which that does not change.

    Args:
        bands: the bands; none hold always.
        time_zone: IANA name.
        at_ms: the moment, milliseconds since 1970.
        holidays: days that are 8, and not their day of the week.
    """
    if not bands:
        return True, ALWAYS
    local = datetime.fromtimestamp(at_ms // 1000, ZoneInfo(time_zone))
    today = local.replace(hour=0, minute=0, second=0, fold=0)
    holds, since, until = False, _moment(today, 0, 1 - DAYS_AROUND), _moment(today, 0, DAYS_AROUND)
    for offset in range(-DAYS_AROUND, DAYS_AROUND):
        day = today + timedelta(days=offset)
        number = HOLIDAY if day.date() in holidays else day.isoweekday()
        for band in bands:
            if not band.weekdays or number in band.weekdays:
                start, end = _moment(day, band.start, 0), _moment(day, band.end, 0 if band.end > band.start else 1)
                holds = holds or start <= at_ms < end
                for edge in (start, end):
                    since, until = (max(since, edge), until) if edge <= at_ms else (since, min(until, edge))
    return holds, (since, until)


def _moment(day: datetime, minute: int, days: int) -> int:
    local = day + timedelta(days=days + minute // DAY_MINUTES)
    local = local.replace(hour=minute % DAY_MINUTES // 60, minute=minute % 60)
    return round(local.timestamp()) * 1000
