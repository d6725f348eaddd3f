"""What the settings may say, what the shell may not, and what is said of a wrong one."""

import re

import pytest

from {{ cookiecutter.__package }} import cli, config
from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.ops import (
    access,
    history,
    logins,
    ownership,
)


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
    wrong = re.escape(f"MLFLOW_PORT is {text}, not a port from 1024 to 65535")
    write("MLFLOW_PORT", text)
    with pytest.raises(UserError, match=f"{wrong}: change MLFLOW_PORT in .*mlflow.env"):
        config.port("MLFLOW_PORT")
    write("MLFLOW_PORT", text, shell=True)
    with pytest.raises(UserError, match=f"{wrong}: unset MLFLOW_PORT in your shell"):
        config.port("MLFLOW_PORT")


def test_an_empty_variable_of_the_shell_is_no_missing_line(write):
    write("MLFLOW_PORT", "", shell=True)
    with pytest.raises(UserError, match="MLFLOW_PORT is empty: unset MLFLOW_PORT in your shell"):
        ownership.address()


@pytest.mark.parametrize(
    ("name", "value", "use"),
    [
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://host/db", history.database),
        ("MLFLOW_ARTIFACTS_DESTINATION", "s3://bucket", history.artifacts),
        ("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db", ownership.connect.__wrapped__),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:eighty", ownership.connect.__wrapped__),
    ],
)
def test_a_sentence_on_a_setting_names_the_shell_where_it_comes_from(write, name, value, use):
    write(name, value, shell=True)
    with pytest.raises(UserError, match=f"unset .*{name}.* in your shell"):
        use()


def test_the_scoring_port_is_the_settings_and_not_the_server_s(write):
    write(cli.SERVE_PORT, "8999")
    assert cli.serving_port() == 8999
    write(cli.SERVE_PORT, "most")
    with pytest.raises(UserError, match=f"{cli.SERVE_PORT} is most, not a port"):
        cli.serving_port()
    for name in (cli.SERVE_PORT, "MLFLOW_PORT"):
        write(name, "8999")
    both = f"{cli.SERVE_PORT} and MLFLOW_PORT are both 8999"
    with pytest.raises(UserError, match=f"{both}: change {cli.SERVE_PORT} in "):
        cli.serving_port()
    write("MLFLOW_PORT", "8999", shell=True)
    with pytest.raises(UserError, match=f"{both}: unset MLFLOW_PORT in your shell"):
        cli.serving_port()


def test_the_origins_of_the_hosts_are_opened_with_them(write, monkeypatch):
    monkeypatch.delenv("CODESPACE_NAME", raising=False)
    write(access.HOSTS, "localhost,127.0.0.1,localhost:*,127.0.0.1:*")
    assert access.ORIGINS not in access.accepted(8999)
    write(access.HOSTS, "localhost:*, box:*, ml.example.org")
    write(access.ORIGINS, "https://kept.example.org, http://box:*")
    assert access.accepted(8999)[access.ORIGINS].split(",") == [
        "https://kept.example.org", "http://box:*", "https://box:*",
        "http://ml.example.org", "https://ml.example.org",
    ]  # fmt: skip


def test_a_codespace_s_own_name_is_accepted(monkeypatch):
    monkeypatch.setenv("CODESPACE_NAME", "tall-tree-7q")
    monkeypatch.delenv("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN", raising=False)
    assert "tall-tree-7q" not in access.accepted(8999)[access.HOSTS]
    monkeypatch.setenv("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN", "app.github.dev")
    found = access.accepted(8999)
    assert found[access.HOSTS].endswith(",tall-tree-7q-8999.app.github.dev")
    assert "https://tall-tree-7q-8999.app.github.dev" in found[access.ORIGINS].split(",")


@pytest.mark.parametrize("name", [access.HOSTS, access.ORIGINS])
def test_not_every_web_page_is_let_in(write, name):
    write(name, "localhost,*")
    with pytest.raises(UserError, match="lets any web page change the history"):
        access.refuse_exposure()


OPENING = {
    "MLFLOW_HOST": "0.0.0.0",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "box",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "http://evil.com",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    "MLFLOW_SERVER_X_FRAME_OPTIONS": "NONE",
    "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS": "true",
    "MLFLOW_ENABLE_AI_GATEWAY": "true",
    "MLFLOW_ENABLE_REMOTE_ASSISTANT": "true",
    "MLFLOW_ENABLE_ASSISTANT_SANDBOX": "false",
    "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "http",
    "MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
    "MLFLOW_ICON_URL_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_GUNICORN_OPTS": "--bind 0.0.0.0",
}
# Settings of clients, and secrets, which a shell may hold.
OTHERS = (
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION",
    "MLFLOW_ENABLE_ASYNC_LOGGING",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_WORKERS",
)


@pytest.mark.parametrize("name", OPENING)
def test_what_opens_the_server_is_no_business_of_a_shell(write, name):
    write(name, OPENING[name], shell=True)
    with pytest.raises(UserError, match=f"Your shell sets {name}, which can open the history"):
        access.refuse_exposure()


@pytest.mark.parametrize("name", OTHERS)
def test_a_shell_may_set_what_opens_nothing(write, name):
    write(name, "1", shell=True)
    assert access.opened_by_shell() == []


def test_no_setting_of_mlflow_s_opens_the_server_unseen():
    """Where this fails, MLflow has a new setting of these families: decide whose it is."""
    from mlflow import environment_variables

    names = [name for name in vars(environment_variables) if name.startswith("MLFLOW_")]
    families = [name for name in names if re.search("ALLOW|CORS|REMOTE|SANDBOX|SECURITY", name)]
    assert {name for name in families if not access.OPENING.fullmatch(name)} == {
        "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_ALLOW_HTTP_REDIRECTS",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "MLFLOW_ASSISTANT_SANDBOX_CLI_IMAGE",
        "MLFLOW_SANDBOX_DOCKER_IMAGE", "MLFLOW_SANDBOX_EGRESS_PROXY",
    }  # fmt: skip


def test_the_network_is_let_in_by_the_file_only_and_told_what_it_means(write, monkeypatch, capsys):
    write("MLFLOW_HOST", "10.1.2.3")
    with pytest.raises(UserError, match="Add 10.1.2.3,10.1.2.3:. to MLFLOW_SERVER_ALLOWED_HOSTS"):
        access.refuse_exposure()
    write(access.HOSTS, "localhost,10.1.2.3,10.1.2.3:*")
    with pytest.raises(UserError, match="other machines can reach: write PROJECT_AUTH=basic-auth"):
        access.refuse_exposure()
    write("PROJECT_AUTH", "basic-auth")
    monkeypatch.setattr(logins, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="PROJECT_AUTH needs Flask-WTF: type"):
        access.refuse_exposure()
    monkeypatch.setattr(logins, "find_spec", lambda name: True)
    with pytest.raises(UserError, match="MLFLOW_AUTH_ADMIN_USERNAME is not set"):
        access.refuse_exposure()
    for name, length in logins.SHORTEST.items():
        write(name, "x" * length, shell=True)
    access.refuse_exposure()
    assert "answers to these names only" in capsys.readouterr().out
    write(logins.KEY, "x" * 31, shell=True)
    with pytest.raises(UserError, match=f"{logins.KEY} has 31 characters, not 32 or more"):
        access.refuse_exposure()


def test_no_login_by_a_shell_and_no_secret_in_the_file(write):
    write("PROJECT_AUTH", "basic-auth")
    write("PROJECT_AUTH", "", shell=True)
    with pytest.raises(UserError, match="Your shell sets PROJECT_AUTH, which can open"):
        access.refuse_exposure()
    write("PROJECT_AUTH", "basic", shell=True)
    with pytest.raises(UserError, match="PROJECT_AUTH is basic: write basic-auth"):
        access.refuse_exposure()
    write("PROJECT_AUTH", "")
    write("PGPASSWORD", "secret")
    with pytest.raises(UserError, match="is in git, and has PGPASSWORD: remove the line"):
        access.refuse_exposure()


def test_a_server_that_checks_no_names_is_refused(write):
    write(access.UNGUARDED, "true")
    with pytest.raises(UserError, match=f"{access.UNGUARDED}=true lets any web page change"):
        access.refuse_exposure()
