"""What a person sees in MLflow's own UI, in a real browser."""

import json
import shutil
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page():
    """Return a page of the system's Chromium, which asks nothing of the internet."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium on this machine")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=quiet)
        yield browser.new_page(viewport={"width": 1280, "height": 840})
        browser.close()


@pytest.fixture
def picture(page, uv_project, pytestconfig):
    """Return a function that takes a picture of `page`, or tells when README's shows another.

    What the page is about is kept in the picture itself, so that both are always of one moment.
    """
    folder = pytestconfig.getoption("pictures")

    def take(name, about):
        file = Path(folder or ROOT / "docs").resolve() / f"{name}.png"
        keep_picture(page, uv_project, file, about, again=bool(folder))

    return take


def keep_picture(page, project, file, about, again):
    """Take a picture of `page` if `again`, else assert that the one in `file` is of that page."""
    about = json.dumps(about)
    if again:
        file.parent.mkdir(exist_ok=True)
        page.screenshot(path=file)
        project.python(f"""
from PIL import Image, PngImagePlugin
text = PngImagePlugin.PngInfo()
text.add_text("Description", {about!r})
small = Image.open({str(file)!r}).convert("RGB").quantize(128, dither=Image.Dither.NONE)
small.save({str(file)!r}, optimize=True, pnginfo=text)""")
    kept = project.python(f"""
from PIL import Image
print(Image.open({str(file)!r}).text.get("Description"))""")
    assert kept == about, f"{file} shows another page: take it again, with --pictures docs"
    assert file.stat().st_size < 100_000


def test_the_links_lead_to_the_run_its_pictures_and_the_version(
    page, server, uv_project, picture, tmp_path
):
    done = uv_project.run(uv_project.train)
    run, version = (line.split()[1] for line in done.stdout.splitlines()[-3:-1])

    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/bash\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    uv_project.run(f"{uv_project.start.strip()} --open", BROWSER=f"{browser} %s")
    page.goto((tmp_path / "opened").read_text().strip())
    page.get_by_text("training (").first.wait_for()  # the project's runs, not the experiments

    page.goto(run)
    page.get_by_role("button", name="Close").click()  # MLflow's chat, which covers a third
    metric = done.stdout.partition("roc_auc ")[2][:6]
    for shown in ("roc_auc", metric[:-1], "n_estimators", "training ("):
        page.get_by_text(shown).first.wait_for()
    page.get_by_text("git", exact=True).first.wait_for()
    page.get_by_text("Model registry").wait_for()  # opens for models, not for language models
    run_id = run.partition("/runs/")[2].partition("?")[0]
    asked = f"{uv_project.uri}/api/2.0/mlflow/runs/get?run_id={run_id}"
    logged = json.load(urllib.request.urlopen(asked))["run"]["data"]
    params = {one["key"]: one["value"] for one in logged["params"]}
    picture("run", [params, sorted(one["key"] for one in logged["metrics"])])

    page.goto(run.partition("/runs/")[0] + "/runs?workflowType=machine_learning")
    page.get_by_text("matching run").wait_for()
    page.wait_for_timeout(2000)  # an error of MLflow's would come late
    assert not page.get_by_text("does not offer").count()  # as of MLflow's gateway

    page.goto(run.replace("?", "/artifacts?"))
    page.get_by_text("plots").first.click()
    page.get_by_text("roc_curve.png").first.click()
    page.locator("img[src^='blob:']").first.wait_for()

    page.goto(version)
    page.get_by_text("challenger").first.wait_for()
