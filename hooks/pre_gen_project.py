"""Refuse answers that no project can be made of: one sentence each, before a file exists."""

import os
import re
import sys
import unicodedata
from pathlib import Path

SLUG = {{"%a" | format(cookiecutter.project_slug)}}
PORT = {{"%a" | format(cookiecutter.mlflow_port)}}
TEXTS = {
    "project_name": {{"%a" | format(cookiecutter.project_name)}},
    "description": {{"%a" | format(cookiecutter.description)}},
    "author_name": {{"%a" | format(cookiecutter.author_name)}},
}
# What a project, its package and its command cannot be called: the libraries, modules and scripts
# of a project's environment, Python's own, the shell's words, the project's folders, the devices of
# Windows. tests/test_answers.py derives them again.
TAKEN = """
    abc activate activate-bat activate-csh activate-fish activate-nu activate-ps1 activate-this-py
    activate-xsh aifc aiohappyeyeballs aiohttp aiosignal alembic alias and annotated-doc
    annotated-types antigravity anyio apt argparse array as assert ast ast-serialize asttokens
    async asynchat asyncio asyncore atexit attr attrs audioop aux await backups base64 bash bdb bg
    binascii bind bisect blinker break brew builtin builtins bz2 cachetools calendar caller case
    cat cd certifi cffi cffi-gen-src cfgv cgi cgitb charset-normalizer chmod chown chunk class
    clear click cloudpickle cmath cmd code codecs codeop collections colorsys com0 com1 com2 com3
    com4 com5 com6 com7 com8 com9 comm command compgen compileall complete compopt con concurrent
    conda configparser conin conout contextlib contextvars continue contourpy coproc copy copyreg
    cp cprofile crypt cryptography csv ctypes curl curses cut cycler databricks databricks-sdk
    dataclasses date datetime dateutil dbm dd deactivate-bat debugpy debugpy-adapter decimal
    declare def del df diff difflib dir dirs dis disown distlib distutils dmypy do docker doctest
    done dotenv du echo elif else email enable encodings ensurepip enum env errno esac eval except
    exec executing exit export f2py false fastapi fastjsonschema faulthandler fc fcntl fg fi
    filecmp fileinput filelock finally find flask flask-cors fnmatch fonttools for fractions from
    frozenlist ftplib function functools gc genericpath getopt getopts getpass gettext git gitdb
    gitpython glob global google google-auth graphene graphlib graphql graphql-core graphql-relay
    grep grp gunicorn gunicornc gzip h11 hash hashlib hatchling head heapq help history hmac host
    html http huey huey-consumer identify identify-cli idlelib idna if imaplib imghdr imp import
    importlib importlib-metadata in iniconfig inspect install io ipaddress ipykernel
    ipykernel-launcher ipython ipython-pygments-lexers ipython3 is itertools itsdangerous jedi
    jinja2 joblib jobs join json jsonschema jsonschema-specifications jupyter jupyter-client
    jupyter-core jupyter-execute jupyter-kernel jupyter-kernelspec jupyter-migrate jupyter-run
    jupyter-troubleshoot jupyter-trust keyword kill kiwisolver lambda less let lib2to3 librt
    linecache ln local locale logging login logout lpt0 lpt1 lpt2 lpt3 lpt4 lpt5 lpt6 lpt7 lpt8
    lpt9 ls lzma mailbox mailcap make mako mako-render mamba man mapfile markdown-it markdown-it-py
    markupsafe marshal match math matplotlib matplotlib-inline mdurl mimetypes mkdir mlflow
    mlflow-skinny mlflow-tracing mmap modulefinder more mount mpl-toolkits msilib msvcrt multidict
    multiprocessing mv mypy mypy-extensions mypyc nano narwhals nbclient nbformat nest-asyncio2
    netrc nice nis nntplib node nodeenv nohup none nonlocal normalizer not notebooks npm nt ntpath
    nturl2path nul numbers numpy numpy-config opcode open opentelemetry opentelemetry-api
    opentelemetry-proto opentelemetry-sdk opentelemetry-semantic-conventions operator optparse or
    os ossaudiodev packaging pandas parso pass passwd paste pathlib pathspec pdb perl pexpect
    pickle pickletools pil pillow ping pip pipes pipx pkgutil platform platformdirs plistlib pluggy
    popd poplib posix posixpath powershell pprint pre-commit prettytable printf prn profile
    prompt-toolkit propcache protobuf ps pstats psutil pty ptyprocess pure-eval pushd pwd py
    py-compile py-test pyarrow pyasn1 pyasn1-modules pyclbr pycparser pydantic pydantic-core pydoc
    pydoc-bat pydoc-data pyexpat pyftmerge pyftsubset pygmentize pygments pylab pyparsing pytest
    python python-dateutil python-discovery python-dotenv python3 pyyaml pyzmq queue quopri raise
    random re read readarray readline readonly referencing reprlib requests resource return rich
    rlcompleter rm rmdir rpds rpds-py rsync ruff runpy sched scikit-learn scipy scp secrets sed
    select selectors service serving set sh shellingham shelve shift shlex shopt shutil signal site
    sklearn skops sleep smmap smtpd smtplib sndhdr socket socketserver sort source split spwd
    sqlalchemy sqlformat sqlite3 sqlparse src sre-compile sre-constants sre-parse ssh ssl
    stack-data starlette start start-server stat statistics string stringprep struct stubgen
    stubtest su subprocess sudo sunau suspend symtable sys sysconfig syslog tabnanny tail tar
    tarfile tee telnetlib tempfile termios test tests textwrap then this threading threadpoolctl
    time timeit times tkinter token tokenize tomllib top tornado touch tr trace traceback
    tracemalloc tracking traitlets trap true try ttx tty turtle turtledemo type typer types typeset
    typing typing-extensions typing-inspection tzdata ulimit umask unalias unicodedata uniq
    unittest unset until urllib urllib3 users uu uuid uv uvicorn uvx venv vi vim virtualenv wait
    warnings watch wave wc wcwidth weakref webbrowser werkzeug wget which while who whoami winreg
    winsound with wsgiref xargs xdrlib xml xmlrpc yaml yarl yes yield zip zipapp zipfile zipimport
    zipp zlib zmq zoneinfo zsh
"""


def faults():
    """Yield one sentence for each answer that is impossible."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", SLUG) or len(SLUG) > 50:
        yield (
            f"project_slug is {SLUG!a}: type 1 to 50 of a-z, 0-9 and single hyphens, "
            "beginning with a letter, as in my-ml-project."
        )
    elif SLUG in TAKEN.split():
        yield (
            f"project_slug is {SLUG!a}, the name of something that the project or its shell uses: "
            f"type another one, as in my-{SLUG}."
        )
    if not (PORT.isascii() and PORT.isdecimal() and 1024 <= int(PORT) <= 65535):
        yield f"mlflow_port is {PORT!a}: type a whole number from 1024 to 65535, as in 8080."
    for question, text in TEXTS.items():
        controls = {c for c in text if unicodedata.category(c) == "Cc"} - set("\t\n\r")
        if controls:
            yield f"{question} is {text!a}: type it without {min(controls)!a}, a control character."
    broken = sorted(set("\t\n\r" + ":" * (os.name == "posix")) & set(str(Path.cwd())))
    if broken:
        yield (
            f"the folder for the project is {str(Path.cwd())!a}, and Python environments cannot be "
            f"in a path with {broken[0]!a}: name another one with --output-dir."
        )


def main():
    """Print the faults, if any, and end."""
    found = list(faults())
    for sentence in found:
        print(sentence, file=sys.stderr)
    sys.exit(bool(found))


main()
