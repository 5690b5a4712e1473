"""The report: every claim has its row, a failing script shows, and the page opens in a browser with nothing broken."""
import re
import shutil
import subprocess

import pytest
import reproduce
from conftest import FOLDERS, ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A house whose folders' outputs are the committed results."""
    for folder in FOLDERS:
        for place in ("outputs", "results"):
            shutil.copytree(ROOT / folder / "results", tmp_path / folder / place)
        for figure in (ROOT / folder / "figures").glob("*.png"):
            shutil.copy(figure, tmp_path / folder / "outputs")
    shutil.copy(ROOT / "claims.json", tmp_path)
    monkeypatch.setattr(reproduce, "HERE", tmp_path)
    return tmp_path


def test_report_of_the_recorded_runs_has_every_claim(recorded):
    assert reproduce.main(["--report-only", *FOLDERS]) == 0
    report = (recorded / "outputs" / "report.md").read_text(encoding="utf-8")
    claims = [row for row in reproduce.json.loads((ROOT / "claims.json").read_text(encoding="utf-8"))
              if row["folder"] in FOLDERS]
    for claim in claims:
        row = rf"^\| {re.escape(claim['id'])} .*\| (holds|does not hold|not measurable here) \|"
        assert re.search(row, report, re.M), claim["id"]


def test_a_failing_script_shows_and_does_not_stop_the_others(tmp_path, monkeypatch):
    house = tmp_path / "house"
    (house / "simpler_glove").mkdir(parents=True)
    shutil.copy(ROOT / "claims.json", house)
    good = ("import json, pathlib; p = pathlib.Path(__file__).parent / 'outputs'; p.mkdir(exist_ok=True); "
            "p.joinpath('b.json').write_text(json.dumps({'claims': [{'id': 'C7.1', 'claim': '', 'expected': 'x|y', "
            "'measured': '0.5', 'holds': False}], 'quick': False, 'seconds': 1.5, 'device': 'd', 'versions': {}, "
            "'figures': []}))")
    (house / "simpler_glove" / "a.py").write_text("raise SystemExit(3)", encoding="utf-8")
    (house / "simpler_glove" / "b.py").write_text(good, encoding="utf-8")
    monkeypatch.setattr(reproduce, "HERE", house)
    monkeypatch.setattr(reproduce, "ARTICLES", {"simpler_glove": ("中", "e", [4669], ["a", "b"])})
    assert reproduce.main([]) == 1
    report = (house / "outputs" / "report.md").read_text(encoding="utf-8")
    assert "FAILED: simpler_glove/a.py" in report and "does not hold" in report
    assert "C7.2" in report and "a.py failed, exit status 3" in report


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
def test_page_opens_in_a_browser_without_a_broken_image_or_console_error(recorded, tmp_path):
    reproduce.main(["--report-only", *FOLDERS])
    page = (recorded / "outputs" / "report.html").read_text(encoding="utf-8")
    assert "http://" not in re.sub(r'href="[^"]*"', "", page) and "<script" not in page
    probe = ("<script>window.onload = () => { const broken = [...document.images].filter(i => !i.naturalWidth).length;"
             "const claims = document.querySelectorAll('tr.claim').length;"
             "document.body.dataset.probe = `images ${document.images.length} broken ${broken} claims ${claims} "
             "wide ${document.documentElement.scrollWidth}`; }</script>")
    (tmp_path / "probe.html").write_text(page.replace("</body>", probe + "</body>"), encoding="utf-8")
    finished = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
         "--window-size=390,844", "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom",
         (tmp_path / "probe.html").as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'data-probe="images (\d+) broken (\d+) claims (\d+) wide (\d+)"', finished.stdout)
    assert found, finished.stderr[-2000:]
    images, broken, claims, wide = map(int, found.groups())
    expected = sum(row["folder"] in FOLDERS for row in reproduce.json.loads(
        (ROOT / "claims.json").read_text(encoding="utf-8")))
    assert images > 0 and broken == 0 and claims == expected
    assert wide <= 500, "wider than a phone"
    assert "CONSOLE" not in finished.stderr, finished.stderr
