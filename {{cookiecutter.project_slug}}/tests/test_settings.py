"""What the settings may say, what the shell may not, and what is said of a wrong one."""

import re

import pytest

from {{ cookiecutter.__package }} import cli, config
from {{ cookiecutter.__package }}.config import Refused
from {{ cookiecutter.__package }}.ops import server


@pytest.fixture
def write(monkeypatch):
    """Return a function that sets a variable in `mlflow.env`, or in the shell."""

    def write(name, value, shell=False):
        monkeypatch.setenv(name, value)
        monkeypatch.setitem(config.SHELL if shell else config.WRITTEN, name, value)
        monkeypatch.delitem(config.WRITTEN if shell else config.SHELL, name, raising=False)

    return write


@pytest.mark.parametrize("text", ["eighty", "80", "99999", "80.5", "-8888", "٨٨٨٨", "0x1F90"])
def test_a_wrong_port_is_mended_where_it_was_set(write, text):
    wrong = re.escape(f"MLFLOW_PORT is {text}, which is no port from 1024 to 65535")
    write("MLFLOW_PORT", text)
    with pytest.raises(Refused, match=f"{wrong}: change MLFLOW_PORT in .*mlflow.env"):
        config.port("MLFLOW_PORT")
    write("MLFLOW_PORT", text, shell=True)
    with pytest.raises(Refused, match=f"{wrong}: unset MLFLOW_PORT in your shell"):
        config.port("MLFLOW_PORT")


def test_an_empty_variable_of_the_shell_is_no_missing_line(write):
    write("MLFLOW_PORT", "", shell=True)
    with pytest.raises(Refused, match="MLFLOW_PORT is empty: unset MLFLOW_PORT in your shell"):
        server.address()


@pytest.mark.parametrize(
    ("name", "value", "use"),
    [
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://host/db", server.database),
        ("MLFLOW_ARTIFACTS_DESTINATION", "s3://bucket", server.artifacts),
        ("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db", server.connect),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:eighty", server.connect),
    ],
)
def test_a_sentence_on_a_setting_names_the_shell_where_it_comes_from(write, name, value, use):
    write(name, value, shell=True)
    with pytest.raises(Refused, match=f"unset .*{name}.* in your shell"):
        use()


def test_the_scoring_port_is_the_settings_and_not_the_server_s(write):
    write(cli.SERVE_PORT, "8999")
    assert cli.serving_port() == 8999
    write(cli.SERVE_PORT, "most")
    with pytest.raises(Refused, match=f"{cli.SERVE_PORT} is most, which is no port"):
        cli.serving_port()
    for name in (cli.SERVE_PORT, "MLFLOW_PORT"):
        write(name, "8999")
    both = f"{cli.SERVE_PORT} and MLFLOW_PORT are both 8999"
    with pytest.raises(Refused, match=f"{both}: change {cli.SERVE_PORT} in "):
        cli.serving_port()
    write("MLFLOW_PORT", "8999", shell=True)
    with pytest.raises(Refused, match=f"{both}: unset MLFLOW_PORT in your shell"):
        cli.serving_port()
