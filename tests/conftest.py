"""What all tests share: Hypothesis settings, and an environment that holds no records of the person who runs them."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, max_examples=60, print_blob=True,
                          suppress_health_check=[HealthCheck.too_slow,
                              HealthCheck.function_scoped_fixture])  # fmt: skip
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path_factory):
    """No user overlays, no colour, a fixed width."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
