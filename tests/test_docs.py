"""What docs/ offers for a team's host, as far as it can be checked without containers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import services
import yaml
from conftest import ROOT

TEAM = ROOT / "docs" / "team-server"
LINES = "{extends: default, rules: {line-length: disable, document-start: disable}}"


@pytest.fixture
def host(tmp_path):
    """Return a folder as it is on the host: with secrets, and the project."""
    shutil.copytree(TEAM, tmp_path / "host")
    names = re.findall(r"file: (secrets/\S+)", (TEAM / "compose.yaml").read_text())
    assert len(names) == 7
    for name in ("project/.keep", *names):
        file = tmp_path / "host" / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    return tmp_path / "host"


@pytest.mark.parametrize(
    "words",
    [
        ["docker-compose", "-f", "compose.yaml", "config", "--quiet"],
        ["compose-lint", "--fail-on", "high", "compose.yaml"],
        ["yamllint", "--strict", "-d", LINES, "compose.yaml"],
        ["hadolint", "Dockerfile"],
    ],
    ids=lambda words: words[0],
)
def test_compose_file_and_image_are_valid(host, words):
    program = Path(sys.executable).with_name(words[0])
    done = subprocess.run([program, *words[1:]], cwd=host, capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr


def test_nothing_but_the_proxy_is_reachable_and_versions_are_pinned():
    found = yaml.safe_load((TEAM / "compose.yaml").read_text())["services"]
    assert [name for name, one in found.items() if "ports" in one] == ["proxy"]
    images = [one["image"] for one in found.values() if "image" in one]
    images += re.findall(r"(?:FROM |--from=)(\S+)", (TEAM / "Dockerfile").read_text())
    assert all(re.search(r":\d+\.\d+", image) for image in images), images
    assert all("healthcheck" in one for name, one in found.items() if name != "bucket")


def test_nginx_takes_its_configuration(host):
    program = services.needs(services.NGINX_PROGRAM, "nginx: apt-get install nginx-light")
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=x -keyout key -out cert"
    subprocess.run(words.split(), cwd=host, check=True, capture_output=True)
    file = host / "nginx.conf"
    text = file.read_text().replace("/run/secrets/certificate_key", f"{host}/key")
    text = text.replace("/run/secrets/certificate", f"{host}/cert")
    text = re.sub(r"server\d:8080", "127.0.0.1:8080", text)
    file.write_text(f"pid {host}/pid;\n{text}")
    words = [program, "-t", "-c", file, "-e", host / "log"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert not done.returncode and "syntax is ok" in done.stderr, done.stderr


def test_the_workflows_are_valid(cookies):
    """By the schema of GitHub's workflows: none can be run here."""
    made = cookies.bake(extra_context={"setup": "later"}).project_path
    program = Path(sys.executable).with_name("check-jsonschema")
    files = [folder / ".github" / "workflows" / "ci.yml" for folder in (ROOT, made)]
    words = [program, "--builtin-schema", "vendor.github-workflows", *files]
    done = subprocess.run(words, capture_output=True, text=True)
    assert not done.returncode, done.stdout
