"""What all tests share: Hypothesis settings, an environment that holds no records of the person who runs them, and the
command line as one runs it."""

import sys

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, max_examples=60, print_blob=True, derandomize=True,
                          suppress_health_check=[HealthCheck.too_slow,
                              HealthCheck.function_scoped_fixture])  # fmt: skip
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000, derandomize=False)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path_factory):
    """No user overlays, no colour, a fixed width."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def run(here, monkeypatch, capsys):
    """Run `llm-calc` in the folder `here`; gives exit status, standard output, standard error."""
    from calc.cli import app

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["llm-calc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            app.run()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return stopped.value.code, out, err

    return call
