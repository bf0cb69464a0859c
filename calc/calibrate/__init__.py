"""A user's own measured runs, and the few constants that they are enough to fit."""

from __future__ import annotations

from calc.calibrate.constants import Constant, overlay_text
from calc.calibrate.fit import Calibration, calibrate
from calc.calibrate.runs import Run, read_runs

__all__ = ["Calibration", "Constant", "Run", "calibrate", "overlay_text", "read_runs"]
