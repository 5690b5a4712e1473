"""The report: every claim has its row, a failing script shows, the page opens in a browser."""

import json
import re
import shutil
import subprocess

import pytest
from markupsafe import escape

import reproduce
from conftest import FOLDERS
from docs import pages, reading
from docs.pages import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
PROBE = """<script>window.onload = () => {
  const broken = [...document.images].filter(image => !image.naturalWidth).length;
  const claims = document.querySelectorAll("tr.claim").length;
  const wide = document.documentElement.scrollWidth;
  document.body.dataset.probe =
    `images ${document.images.length} broken ${broken} claims ${claims} wide ${wide}`;
}</script>"""
FAILING = "raise SystemExit(3)"
WORKING = """import json, pathlib
out = pathlib.Path(__file__).parent / "outputs"
out.mkdir(exist_ok=True)
claims = [{"id": "C7.1", "measured": {"correlation": 0.5}, "holds": False}]
results = {"claims": claims, "config": {"quick": False}, "seconds": 1.5, "device": "d",
           "versions": {}, "metrics": {"a": 1}, "figures": []}
(out / "b.json").write_text(json.dumps(results))
"""


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """A copy of the repository whose folders' outputs are the recorded results."""
    for folder in FOLDERS:
        for place in ("outputs", "results"):
            shutil.copytree(ROOT / folder / "results", tmp_path / folder / place)
        for figure in (ROOT / folder / "figures").glob("*.png"):
            shutil.copy(figure, tmp_path / folder / "outputs")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    monkeypatch.setattr(reproduce, "HERE", tmp_path)
    return tmp_path


def test_report_of_the_recorded_runs_has_every_claim(outputs):
    assert reproduce.main(["--report-only", *FOLDERS]) == 0
    report = (outputs / "outputs" / "report.md").read_text(encoding="utf-8")
    for name in [row["id"] for folder in FOLDERS for row in pages.claims(folder)]:
        verdict = r"(holds|does not hold|not at this size|not measured)"
        assert re.search(rf"^\| {re.escape(name)} .*\| {verdict} \|$", report, re.M), name


def test_a_figure_stands_with_its_caption_after_the_claim_it_speaks_of(outputs):
    reproduce.main(["--report-only", *FOLDERS])
    report = (outputs / "outputs" / "report.html").read_text(encoding="utf-8")
    for folder in FOLDERS:
        for script in reproduce.ARTICLES[folder]["scripts"]:
            for name in reproduce.read_results(folder, script)["figures"]:
                told = reading.captions(folder).get(name.removesuffix(".png"))
                if told:
                    place = report.index(f'alt="{escape(told["en"])}"')
                    assert str(escape(told["zh"])) in report[place:], name
                    assert all(report.index(f'id="{claim}"') < place for claim in told["claims"])


def test_a_verdict_that_this_run_changes_is_told_first(outputs):
    folder = FOLDERS[0]
    script = pages.claims(folder)[0]["script"]
    path = outputs / folder / "outputs" / f"{script.split('/')[-1].removesuffix('.py')}.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    found = next(row for row in results["claims"] if row["holds"] is not None)
    found["holds"] = not found["holds"]
    path.write_text(json.dumps(results), encoding="utf-8")
    reproduce.main(["--report-only", folder])
    report = (outputs / "outputs" / "report.html").read_text(encoding="utf-8")
    told = report[report.index("What this run changed") : report.index("What did not hold")]
    assert f'href="#{found["id"]}"' in told


def test_a_failing_script_shows_and_does_not_stop_the_others(tmp_path, monkeypatch):
    folder = tmp_path / "simpler_glove"
    folder.mkdir()
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (folder / "a.py").write_text(FAILING, encoding="utf-8")
    (folder / "b.py").write_text(WORKING, encoding="utf-8")
    monkeypatch.setattr(reproduce, "HERE", tmp_path)
    monkeypatch.setitem(reproduce.ARTICLES["simpler_glove"], "scripts", ["a.py", "b.py"])
    words = {"en": "w|x", "zh": "词"}
    measured = {"correlation": words | {"format": ".2f"}}
    claims = [
        {"id": name, "claim": words, "article": words, "measured": measured, "why": words}
        for name in ("C7.1", "C7.2")
    ]
    claims = [
        dict(row, script=script) for row, script in zip(claims, ("b.py", "a.py"), strict=True)
    ]
    monkeypatch.setattr(pages, "claims", lambda folder: claims)
    assert reproduce.main(["simpler_glove"]) == 1
    report = (tmp_path / "outputs" / "report.md").read_text(encoding="utf-8")
    assert "FAILED: simpler_glove/a.py" in report and "does not hold" in report
    assert "C7.2" in report and "no result" in report and "exit status 3" in report


def test_two_folders_run_side_by_side_and_their_lines_do_not_mix(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(reproduce, "HERE", tmp_path)
    meet = """
import json, pathlib, time
here = pathlib.Path(__file__).resolve()
(here.parent / "outputs").mkdir()
(here.parent / "begun").touch()
while not (here.parents[1] / "OTHER" / "begun").exists():
    print("waiting", flush=True)
    time.sleep(0.05)
print("met OTHER", flush=True)
results = {"config": {"quick": False}, "metrics": {}, "seconds": 1, "figures": []}
(here.parent / "outputs" / "a.json").write_text(json.dumps(results))
"""
    folders = ("master_equation", "simpler_glove")
    for folder, other in zip(folders, reversed(folders), strict=True):
        (tmp_path / folder).mkdir()
        text = meet.replace("OTHER", other)
        (tmp_path / folder / "a.py").write_text(text, encoding="utf-8")
        monkeypatch.setitem(reproduce.ARTICLES[folder], "scripts", ["a.py"])
    runs = reproduce.run_folders(reproduce.parse_args([*folders]))
    assert list(runs) == [(folder, "a.py") for folder in folders]
    assert all("failed" not in results for results in runs.values())
    said = capfd.readouterr().out.split("===")[1:]  # of each script, in one piece
    assert sorted(block.split("/")[0].strip() for block in said) == sorted(folders)
    assert all(block.count("met ") == 1 for block in said)


def test_a_recorded_run_has_its_cores_to_itself():
    assert reproduce.parse_args(["--record"]).jobs == 1
    assert reproduce.parse_args(["simpler_glove"]).jobs == 1
    assert reproduce.parse_args([]).jobs == 2
    with pytest.raises(SystemExit):
        reproduce.parse_args(["--jobs", "0"])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
def test_page_opens_in_a_browser_without_a_broken_image_or_console_error(outputs, tmp_path):
    reproduce.main(["--report-only", *FOLDERS])
    page = (outputs / "outputs" / "report.html").read_text(encoding="utf-8")
    assert "http://" not in re.sub(r'href="[^"]*"', "", page) and "<script" not in page
    probed = tmp_path / "probe.html"
    probed.write_text(page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    quiet = ["--disable-gpu", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr"]
    command = [CHROMIUM, "--headless", "--no-sandbox", *quiet, "--window-size=390,844"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
    command += ["--dump-dom", probed.as_uri()]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(
        r'data-probe="images (\d+) broken (\d+) claims (\d+) wide (\d+)"', finished.stdout
    )
    assert found, finished.stderr[-2000:]
    images, broken, claims, wide = map(int, found.groups())
    assert images > 0 and broken == 0
    assert claims == sum(len(pages.claims(folder)) for folder in FOLDERS)
    assert wide <= 500, "wider than a phone"
    assert "CONSOLE" not in finished.stderr, finished.stderr
