"""A month of roaming, made up from a seed: the same arguments, the same records.

Distributions (each record drawn independently):

- enterprise: by its fleet's share; endpoint: Zipf with exponent 0.8 over the fleet, so that few devices use much.
- time: days uniform over the month; hours by a day's curve that swings by 60 % around its mean, highest at 14:00 UTC.
- country: the endpoint's home with probability 0.8, else Zipf (exponent 1) over all countries of the world, ranked by
  their number of networks. The home: Zipf (exponent 1) over the countries of the fleet's regions, ranked alike.
- network: Zipf (exponent 1) over the country's networks in the order of their codes (the oldest come first).
- service: DATA 70 %, SMS_MO 8 %, SMS_MT 10 %, NB_IOT 12 % (DATA where the network has no LTE).
- access type: one that the network offers (any, if that is not known), weights 2G 1, 3G 2, 4G 6, 5G 2; NB_IOT on 4G.
- volume: DATA log-normal (median 250 kB, sigma 1.6) in 97 %, Pareto (from 5 MB, alpha 1.2, cut at 2 GB) in 3 %;
  NB_IOT log-normal (median 200 B, sigma 1, at least 20 B); SMS geometric (p 0.8, at most 10 messages).
- mode: ONLINE 65 %, else OFFLINE.
- arrival: at once; 3 % are late, by an exponential time with mean 36 hours (late ones are OFFLINE records);
  1 % of all records are exact duplicates of earlier ones, repeated after an exponential time with mean 2 hours.

Records come in the order of arrival.
"""

import itertools
import math
import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from cli.demo.networks import World, network_id
from cli.demo.scenario import ENTERPRISES, shared_out
from meterline.catalog.v1.networks_pb2 import Network
from meterline.rating.v1.charging_pb2 import UsageEvent, UsageMode
from meterline.type.v1.service_pb2 import AccessType, Service
from services.common.clock import DAY_MS, HOUR_MS

DUPLICATE_SHARE = 0.01
LATE_SHARE = 0.03
LATE_MEAN_MS = 36 * HOUR_MS
DUPLICATE_MEAN_MS = 2 * HOUR_MS
HOME_SHARE = 0.8
ONLINE_SHARE = 0.65
SERVICES = {
    Service.SERVICE_DATA: 0.70,
    Service.SERVICE_SMS_MO: 0.08,
    Service.SERVICE_SMS_MT: 0.10,
    Service.SERVICE_NB_IOT: 0.12,
}
ACCESS_WEIGHTS = {
    AccessType.ACCESS_TYPE_2G: 1,
    AccessType.ACCESS_TYPE_3G: 2,
    AccessType.ACCESS_TYPE_4G: 6,
    AccessType.ACCESS_TYPE_5G: 2,
}
TAIL_SHARE = 0.03
DATA_BYTES_MAX = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Use:
    """One record, its endpoint not yet named.

    Attributes:
        fleet: name of the enterprise.
        device: number of the endpoint in the fleet, from 0.
        event: the record without endpoint id.
        late: it came later than it would have.
        duplicate: it repeats an earlier one.
    """

    fleet: str
    device: int
    event: UsageEvent
    late: bool = False
    duplicate: bool = False


def month_before(today: date) -> date:
    """The first day of the last full calendar month."""
    return (today.replace(day=1) - timedelta(days=1)).replace(day=1)


def month_span_ms(month: date) -> tuple[int, int]:
    """The first millisecond of the month and that of the next one, since 1970, UTC."""
    after = (month.replace(day=28) + timedelta(days=4)).replace(day=1)
    start, end = (datetime(day.year, day.month, 1, tzinfo=UTC) for day in (month, after))
    return int(start.timestamp() * 1000), int(end.timestamp() * 1000)


class _Zipf:
    """Draws ranks from 0 with probability in proportion to 1 / (rank + 1) ** exponent."""

    def __init__(self, size: int, exponent: float) -> None:
        self._bounds = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(size)))

    def draw(self, random: random.Random) -> int:
        return bisect(self._bounds, random.random() * self._bounds[-1], hi=len(self._bounds) - 1)


class UsageGenerator:
    """Makes the records of a month.

    Args:
        world: the networks.
        seed: of everything.
        month: its first day.
        endpoints: of all fleets together.
    """

    def __init__(self, world: World, seed: int, month: date, endpoints: int) -> None:
        self._random = random.Random(f"meterline {seed} {month}")  # noqa: S311 - it shall be the same each time
        self._world = world
        self._month = month
        self._start_ms, self._end_ms = month_span_ms(month)
        self._sizes = shared_out(endpoints)
        self._devices = {name: _Zipf(size, 0.8) for name, size in self._sizes.items() if size}
        self._countries = sorted(world.by_country, key=lambda code: (-len(world.by_country[code]), code))
        self._zipf = {size: _Zipf(size, 1.0) for size in {len(n) for n in world.by_country.values()}}
        self._anywhere = _Zipf(len(self._countries), 1.0)
        self._hours = list(itertools.accumulate(1 + 0.6 * math.cos((hour - 14) * math.pi / 12) for hour in range(24)))
        self._homes = {m.name: self._home_of_each(m.name, m.fleet.home) for m in ENTERPRISES if m.fleet}

    def _home_of_each(self, fleet: str, regions: Sequence[str]) -> list[str]:
        inside = {country for region in regions for country in self._world.regions[region]}
        countries = [code for code in self._countries if code[:2] in inside]
        zipf = _Zipf(len(countries), 1.0)
        return [countries[zipf.draw(self._random)] for _ in range(self._sizes[fleet])]

    def uses(self, records: int) -> list[Use]:
        """Make ``records`` records, duplicates among them, in the order of arrival."""
        repeated = round(records * DUPLICATE_SHARE)
        fleets = [name for name, count in shared_out(records - repeated).items() for _ in range(count)]
        arrivals: list[tuple[float, int, Use]] = []
        for number, fleet in enumerate(fleets):
            use = self._use(fleet if fleet in self._devices else next(iter(self._devices)), number)
            delay = self._random.expovariate(1 / LATE_MEAN_MS) if use.late else 0.0
            arrivals.append((use.event.usage_time_ms + delay, number, use))
        for arrival, number, use in self._random.sample(arrivals, repeated):
            again = Use(use.fleet, use.device, use.event, use.late, duplicate=True)
            delay = self._random.expovariate(1 / DUPLICATE_MEAN_MS)
            arrivals.append((arrival + delay, records + number, again))
        arrivals.sort(key=lambda arrival: arrival[:2])
        return [use for _, _, use in arrivals]

    def _use(self, fleet: str, number: int) -> Use:
        draw = self._random
        device = self._devices[fleet].draw(draw)
        network = self._network(self._homes[fleet][device])
        late = draw.random() < LATE_SHARE
        offline = late or draw.random() >= ONLINE_SHARE
        service, access = self._service(network)
        event = UsageEvent(
            event_id=f"{self._month:%Y%m}-{number:07d}",
            service=service,
            network_id=network_id(network),
            access_type=access,
            usage_time_ms=self._moment_ms(),
            quantity=self._quantity(service),
            mode=UsageMode.USAGE_MODE_OFFLINE if offline else UsageMode.USAGE_MODE_ONLINE,
        )
        return Use(fleet, device, event, late)

    def _network(self, home: str) -> Network:
        at_home = self._random.random() < HOME_SHARE
        country = home if at_home else self._countries[self._anywhere.draw(self._random)]
        networks = self._world.by_country[country]
        return networks[self._zipf[len(networks)].draw(self._random)]

    def _service(self, network: Network) -> "tuple[Service.ValueType, AccessType.ValueType]":
        offered = list(network.access_types or ACCESS_WEIGHTS)
        (service,) = self._random.choices(list(SERVICES), list(SERVICES.values()))
        if service == Service.SERVICE_NB_IOT:
            if AccessType.ACCESS_TYPE_4G in offered:
                return service, AccessType.ACCESS_TYPE_4G
            service = Service.SERVICE_DATA
        (access,) = self._random.choices(offered, [ACCESS_WEIGHTS[access] for access in offered])
        return service, access

    def _moment_ms(self) -> int:
        days = (self._end_ms - self._start_ms) // DAY_MS
        hour = bisect(self._hours, self._random.random() * self._hours[-1], hi=23)
        return self._start_ms + self._random.randrange(days) * DAY_MS + hour * HOUR_MS + self._random.randrange(HOUR_MS)

    def _quantity(self, service: "Service.ValueType") -> int:
        draw = self._random
        if service == Service.SERVICE_DATA:
            if draw.random() < TAIL_SHARE:
                return min(int(5_000_000 * draw.paretovariate(1.2)), DATA_BYTES_MAX)
            return max(1, min(int(draw.lognormvariate(math.log(250_000), 1.6)), DATA_BYTES_MAX))
        if service == Service.SERVICE_NB_IOT:
            return max(20, min(int(draw.lognormvariate(math.log(200), 1.0)), DATA_BYTES_MAX))
        return min(1 + int(math.log(1 - draw.random()) / math.log(0.2)), 10)
