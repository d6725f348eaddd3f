"""Refuse answers that no project can be made of: one sentence each, before a file exists."""

import keyword
import re
import sys
import unicodedata

SLUG = {{"%a" | format(cookiecutter.project_slug)}}
PORT = {{"%a" | format(cookiecutter.mlflow_port)}}
TEXTS = {
    "project_name": {{"%a" | format(cookiecutter.project_name)}},
    "description": {{"%a" | format(cookiecutter.description)}},
    "author_name": {{"%a" | format(cookiecutter.author_name)}},
}
WINDOWS_DEVICES = {"aux", "con", "nul", "prn"} | {
    f"{device}{number}" for device in ("com", "lpt") for number in range(10)
}
PYTHON = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names}
TAKEN = {"start-server", "tests", "notebooks"} | PYTHON | WINDOWS_DEVICES


def faults():
    """Yield one sentence for each answer that is impossible."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", SLUG) or len(SLUG) > 50:
        yield (
            f"project_slug is {SLUG!a}: type 1 to 50 of a-z, 0-9 and single hyphens, "
            "beginning with a letter, as in my-ml-project."
        )
    elif TAKEN & {SLUG, SLUG.replace("-", "_")}:
        yield f"project_slug is {SLUG!a}, which is taken: type another one, as in my-{SLUG}."
    if not (PORT.isascii() and PORT.isdecimal() and 1024 <= int(PORT) <= 65535):
        yield f"mlflow_port is {PORT!a}: type a whole number from 1024 to 65535, as in 8080."
    for question, text in TEXTS.items():
        controls = {c for c in text if unicodedata.category(c) == "Cc"} - set("\t\n\r")
        if controls:
            yield f"{question} holds {min(controls)!a}, a control character: type it without."


def main():
    """Print the faults, if any, and end."""
    found = list(faults())
    for sentence in found:
        print(sentence, file=sys.stderr)
    sys.exit(bool(found))


main()
