"""Billing cycles: from a day of the month at midnight in the account's time zone to the same day a month later."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo


def boundaries(after_ms: int, day: int, time_zone: str, count: int) -> list[int]:
    """Return the first `count` starts of cycles after a moment.

    Args:
        after_ms: the moment, milliseconds since 1970.
        day: day of the month on which cycles start, 1 to 28.
        time_zone: IANA name.
        count: how many.
    """
    zone = ZoneInfo(time_zone)
    start = datetime.fromtimestamp(after_ms / 1000, zone).replace(day=day, hour=0, minute=0, second=0, microsecond=0)
    found: list[int] = []
    while len(found) < count:
        moment = round(start.timestamp() * 1000)
        if moment > after_ms:
            found.append(moment)
        start = (start.replace(day=1) + timedelta(days=32)).replace(day=day)
    return found
