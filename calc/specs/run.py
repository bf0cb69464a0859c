"""What a whole training run costs and what interrupts it: the `cost` and `reliability` sections of a scenario."""

from __future__ import annotations

from dataclasses import dataclass

from calc.specs.fields import key


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Money, energy and carbon."""

    price: float | None = key("dollars?", None, doc="dollars per device-hour; default the hardware record's")
    pue: float = key("count", 1.1, minimum=1, doc="power of the site per power of its computers")
    power_share: float = key("share", 0.9, maximum=1, doc="mean power of a device, of its thermal design power")
    carbon_intensity: float | None = key("count?", None, doc="kg of CO2 per kWh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Failures and checkpoints."""

    mtbf: float | None = key("seconds?", None, minimum=1, doc="mean time between failures of one device")
    checkpoint_interval: float | None = key("seconds?", None, minimum=1, doc="time between checkpoints; default Daly's")
    storage_bandwidth: float | None = key("bytes/s?", None, minimum=1, doc="what checkpoints are written at, in all")
    asynchronous: bool = key("flag", False, doc="whether only the copy to the host blocks training")
    restart: float = key("seconds", 600, doc="time to detect a failure, restart and load")
