"""PostgreSQL, an S3 server and nginx, started for tests on free ports of this machine."""

import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from conftest import assert_gone, free_port, wait_until

KEY, SECRET, BUCKET = "test-key", "test-secret-of-the-tests", "history"
AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
NGINX_PROGRAM = shutil.which("nginx", path="/usr/sbin:/usr/bin")
NGINX = """
daemon off; user nobody nogroup; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  {bodies}
  upstream mlflow {{ {servers} keepalive 16; }}
  server {{
    listen {address}:{port};
    location / {{
      proxy_pass http://mlflow;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_request_buffering off;
      proxy_buffering off;
      client_max_body_size 0;
      proxy_next_upstream error timeout http_502 http_503;
    }}
  }}
}}
"""


def needs(found, what):
    """Skip a test, with the line to type, if a program that it starts is not on this machine."""
    if not found:
        pytest.skip(f"needs {what}")
    return found


@contextlib.contextmanager
def postgres():
    """Run PostgreSQL as its own user while a block runs; yield its port.

    In a short folder: the path of its socket can have 107 characters only.
    """
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    programs = needs(places, "PostgreSQL: apt-get install postgresql")[-1]
    user = [] if os.getuid() else AS_POSTGRES  # it refuses root
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        if user:
            who = pwd.getpwnam("postgres")
            os.chown(folder, who.pw_uid, who.pw_gid)

        def run(name, *words):
            subprocess.run(
                [*user, programs / name, "-D", f"{folder}/data", *words],
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
            )

        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        Path(folder, "password").write_text("of-the-tests", encoding="utf-8")
        run("initdb", "-U", "postgres", f"--pwfile={folder}/password", *options)
        serving = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        log = f"{folder}/log"
        run("pg_ctl", "-w", "-l", log, "-o", f"{serving} -c fsync=off", "start")
        try:
            yield port
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


@contextlib.contextmanager
def object_store():
    """Run SeaweedFS with one bucket while a block runs; yield the environment of its clients."""
    weed = needs(Path(sys.executable).with_name("weed"), "SeaweedFS: uv sync")
    ports = dict.fromkeys(("master", "volume", "filer", "s3"))
    ports = {name: (free_port(), free_port()) for name in ports}
    with tempfile.TemporaryDirectory(prefix="s3-", dir="/tmp") as folder:
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        text = json.dumps({"identities": [identity]})
        Path(folder, "s3.json").write_text(text, encoding="utf-8")
        words = [
            weed, "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-master.telemetry=false", "-filer", "-s3",
            f"-s3.config={folder}/s3.json", "-s3.iam=false", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-s3.autoCreateBucket=false", "-volume.max=20",
            "-master.volumeSizeLimitMB=256",
        ]  # fmt: skip
        for name, (http, grpc) in ports.items():
            words += [f"-{name}.port={http}", f"-{name}.port.grpc={grpc}"]
        with Path(folder, "log").open("w", encoding="utf-8") as log:
            server = subprocess.Popen(
                words, cwd=folder, stdout=log, stderr=log, env=os.environ | {"TMPDIR": folder}
            )
        env = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3'][0]}",
        }
        try:
            make_bucket(env, server)
            yield env
        finally:
            stop(server)


def make_bucket(env, server):
    """Make the bucket, as soon as the store can keep a file in it."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=env["MLFLOW_S3_ENDPOINT_URL"],
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )

    def is_there():
        assert server.poll() is None
        try:
            if BUCKET not in [one["Name"] for one in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="probe", Body=b"1")
            client.delete_object(Bucket=BUCKET, Key="probe")
        except (BotoCoreError, ClientError):
            return False
        return True

    wait_until(is_there)


@contextlib.contextmanager
def nginx(*ports, address="127.0.0.1"):
    """Run nginx before servers at `ports` while a block runs; yield its address."""
    program = needs(NGINX_PROGRAM, "nginx: apt-get install nginx-light")
    port = free_port()
    servers = " ".join(f"server 127.0.0.1:{one} max_fails=1 fail_timeout=5s;" for one in ports)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    with tempfile.TemporaryDirectory(prefix="nginx-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        bodies = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        file = Path(folder, "nginx.conf")
        text = NGINX.format(
            folder=folder, bodies=bodies, servers=servers, port=port, address=address
        )
        file.write_text(text, encoding="utf-8")
        process = subprocess.Popen([program, "-c", file, "-e", f"{folder}/error.log"])
        try:
            wait_until(lambda: process.poll() is not None or listens(port, address))
            assert process.poll() is None
            yield f"http://{address}:{port}"
        finally:
            stop(process)


def listens(port, address):
    with contextlib.suppress(OSError), socket.create_connection((address, port), 5):
        return True
    return False


def stop(process):
    """End a process and its children at once: they keep nothing that anybody needs."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    assert_gone(family)
