"""Any text is taken as typed; an answer that is impossible gets a sentence, and nothing is made."""

import re
import subprocess

import pytest
from conftest import ROOT

HOOK = (ROOT / "hooks" / "pre_gen_project.py").read_text(encoding="utf-8")
PROJECT = ROOT / "{{cookiecutter.project_slug}}"
SLUG = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("My ML Project", "my-ml-project"),
        ("Ça va 2 uv", "ca-va-2-uv"),
        ("Bob's model", "bob-s-model"),
        ("123 go", "ml-123-go"),
        ("🚀", "my-ml-project"),
        ("", "my-ml-project"),
        ("נתונים", "ntvnym"),
        ("1" * 200, "ml-" + "1" * 47),
        ("ab " * 100, ("ab-" * 16)[:47].strip("-")),
    ],
)
def test_the_slug_derived_from_any_name_is_valid(cookies, name, slug):
    result = cookies.bake(extra_context={"project_name": name, "setup": "later"})
    assert result.exception is None and result.context["project_slug"] == slug


PATTERN = "type 1 to 50 of a-z, 0-9 and single hyphens"
USED = "the name of something that the project or its shell uses: type another one, such as my-"
RANGE = "type a whole number from 1024 to 65535"
IMPOSSIBLE = {
    "project_slug": {
        "My_Project": PATTERN, "9x": PATTERN, "-a": PATTERN, "a-": PATTERN, "a--b": PATTERN,
        "a b": PATTERN, "á": PATTERN, "a" * 51: PATTERN, "../escaped": PATTERN, "a.b": PATTERN,
        "class": USED, "match": USED, "json": USED, "con": USED, "nul": USED, "lpt1": USED,
        "py-compile": USED, "none": USED, "scikit-learn": USED, "sklearn": USED, "dotenv": USED,
        "test": USED, "history": USED, "kill": USED, "start-server": USED, "tests": USED,
        "notebooks": USED, "src": USED,
    },
    "mlflow_port": {
        "": RANGE, "80": RANGE, "1023": RANGE, "65536": RANGE, "eighty": RANGE, "8080.0": RANGE,
        " 8080": RANGE, "-8080": RANGE, "0x1F90": RANGE, "٨٠٨٠": RANGE,
    },
    "project_name": {"a\x07b": "a control character"},
    "description": {"a\x1bb": "a control character"},
    "author_name": {"a\x7fb": "a control character"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("question", "value", "sentence"),
    [
        (q, value, sentence)
        for q, values in IMPOSSIBLE.items()
        for value, sentence in values.items()
    ],
)
def test_an_impossible_answer_gets_one_sentence(cookies, capfd, question, value, sentence):
    result = cookies.bake(extra_context={question: value})
    assert result.exit_code != 0 and result.project_path is None
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith(question)]
    assert len(said) == 1
    assert said[0].startswith(f"{question} is {value!a}") and sentence in said[0]


def test_all_faults_are_told_at_once_and_nothing_is_left(cookiecutter, tmp_path):
    output = tmp_path / "here"
    output.mkdir()
    answers = ["project_slug=9", "mlflow_port=0", "author_name=\x01"]
    done = cookiecutter(output, "--no-input", *answers)
    assert done.returncode == 1
    said = done.stderr.splitlines()[:3]
    assert [line.split()[0] for line in said] == ["project_slug", "mlflow_port", "author_name"]
    assert list(tmp_path.rglob("*")) == [output]


@pytest.mark.parametrize("character", ["%", "\t", "\n", ":"])
def test_a_place_that_no_environment_can_have_is_refused(cookiecutter, tmp_path, character):
    output = tmp_path / f"a{character}b"
    output.mkdir()
    done = cookiecutter(output, "--no-input")
    assert done.returncode == 1
    assert f"environment does not work in a path with {character!a}: name another" in done.stderr
    assert list(tmp_path.rglob("*")) == [output]


@pytest.mark.parametrize("force", [[], ["-f"]])
def test_an_empty_slug_writes_and_deletes_nothing(cookiecutter, tmp_path, force):
    """Cookiecutter itself speaks first, or would render into the user's own folder."""
    (tmp_path / "mine.txt").write_text("mine")
    done = cookiecutter(tmp_path, "--no-input", "project_slug=", *force)
    assert done.returncode == 1
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_no_answer_is_executed(cookiecutter, tmp_path):
    attacks = ['"); import os; os.system("touch owned") #', "$(touch owned)", '"""\nimport os']
    for number, attack in enumerate(attacks):
        texts = [f"{name}={attack}" for name in ("project_name", "description", "author_name")]
        slug = f"project_slug=safe{number}"
        done = cookiecutter(tmp_path, "--no-input", "setup=later", slug, *texts, cwd=tmp_path)
        assert not done.returncode, done.stderr
    assert not list(tmp_path.rglob("owned"))


def test_a_wrong_choice_leaves_nothing(cookiecutter, tmp_path):
    """README says what is allowed: cookiecutter answers with its own traceback."""
    done = cookiecutter(tmp_path, "--no-input", "environment=poetry")
    assert done.returncode == 1 and "poetry" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def hook():
    """Return what the hook defines, made with empty answers."""
    defined = {}
    exec(re.sub(r"\{\{.*?\}\}", "''", HOOK.rpartition("\nmain()")[0]), defined)
    return defined


def test_the_listed_names_are_spelt_as_slugs(hook):
    lists = " ".join(hook[name] for name in ("DEPENDENCIES", "SHELL", "WINDOWS", "PROJECT"))
    assert [name for name in lists.split() if not re.fullmatch(SLUG, name)] == []


def test_every_direct_dependency_is_taken(hook):
    """And nothing else is listed as one, but two by the name of their import."""
    pyproject = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = set(re.findall(r'^(?:    |requires = \[)"([\w.-]+)', pyproject, re.MULTILINE))
    assert {"mlflow", "pytest", "hatchling"} <= wanted
    assert {*hook["DEPENDENCIES"].split()} == wanted | {"dotenv", "sklearn"}
    assert wanted <= hook["taken"]()


def test_the_project_s_own_folders_and_commands_are_taken(hook):
    folders = {folder.name for folder in PROJECT.iterdir() if folder.is_dir()}
    assert {"src", "tests"} <= folders
    assert {name for name in folders if re.fullmatch(SLUG, name)} <= hook["taken"]()
    assert "start-server" in hook["taken"]()


def test_the_shell_s_own_words_are_taken(hook):
    words = subprocess.run(["bash", "-c", "compgen -b; compgen -k"], capture_output=True, text=True)
    assert {word for word in words.stdout.split() if re.fullmatch(SLUG, word)} <= hook["taken"]()
