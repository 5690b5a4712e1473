"""Run every article's default scripts and write one report: which claims hold, with numbers.

Run:   python reproduce.py                    all six folders (make run does this after installing)
       python reproduce.py simpler_glove      one folder
       python reproduce.py --quick            every stage on little data, in minutes; not results
       python reproduce.py --jobs 1           one script at a time, its lines as it prints them
Makes: outputs/report.html   one page with every claim and figure, in English and Chinese
       outputs/report.md     its table of claims

Each script runs as a process of its own; one that fails is reported and does not stop the others.
Two folders run side by side, since few scripts keep two cores busy; within a folder, whose scripts
may read what the one before has left, one script after the other.
"""

import argparse
import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jinja2

from docs import pages, reading

HERE = Path(__file__).resolve().parent
ARTICLES = {article["folder"]: article for article in pages.articles()}


def run_script(folder: str, script: str, args) -> dict:
    """Run one script as a reader would and return its results, or {"failed": why}.

    With several jobs, what it says comes when it has ended, so that two do not speak at once.
    """
    path = HERE / folder / "outputs" / f"{Path(script).stem}.json"
    path.unlink(missing_ok=True)  # so that a failure cannot show an older run's numbers
    started = time.perf_counter()
    command = [sys.executable, str(HERE / folder / script)] + ["--quick"] * args.quick
    if "cli.SEED" in (HERE / folder / script).read_text(encoding="utf-8"):
        command += ["--seed", str(args.seed)]
    held_back = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if args.jobs > 1 else {}
    finished = subprocess.run(command, **held_back)
    seconds = time.perf_counter() - started
    if held_back:
        said = finished.stdout.decode("utf-8", errors="replace")
        say(f"\n=== {folder}/{script}, {seconds:.0f} s\n{said}")
    if finished.returncode:
        return {"failed": f"exit status {finished.returncode} after {seconds:.0f} s"}
    return read_results(folder, script)


def say(text: str) -> None:
    """Print in one piece: lines of two threads do not mix."""
    sys.stdout.write(text)
    sys.stdout.flush()


def run_folders(args) -> dict:
    """Results by (folder, script): args.jobs folders side by side, a folder's scripts in turn."""
    stopped = threading.Event()
    total = sum(len(ARTICLES[folder]["scripts"]) for folder in args.articles)
    numbers = itertools.count(1)
    started = time.perf_counter()

    def run_folder(folder: str) -> dict:
        runs = {}
        for script in ARTICLES[folder]["scripts"]:
            if stopped.is_set():
                break
            place = f"{next(numbers)} of {total}, {time.perf_counter() - started:.0f} s so far"
            say(f"--- {folder}/{script} begins ({place})\n")
            runs[folder, script] = run_script(folder, script, args)
        return runs

    runs = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            for part in pool.map(run_folder, args.articles):
                runs |= part
        except KeyboardInterrupt:  # a terminal tells the scripts, too
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return runs


def read_results(folder: str, script: str) -> dict:
    path = HERE / folder / "outputs" / f"{Path(script).stem}.json"
    if not path.is_file():
        return {"failed": f"{folder}/{script} wrote no {path.name}"}
    return json.loads(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- report
def claim_rows(runs: dict) -> list[dict]:
    """A row per claim of the folders that ran: its wording, numbers here and recorded, the verdict.

    The verdict is that of the largest run: a recorded one where claims.json names it (judged_by),
    else this one.
    """
    rows = []
    for folder in dict.fromkeys(folder for folder, _ in runs):
        here = {Path(script).stem: run for (place, script), run in runs.items() if place == folder}
        failures = [f"{name}: {run['failed']}" for name, run in here.items() if "failed" in run]
        for wording in pages.claims(folder):
            default = {key: value for key, value in wording.items() if key != "judged_by"}
            now = pages.judge(default, here)
            judged = now
            if "judged_by" in wording:
                judged = pages.judge(wording, pages.recorded(folder))
            verdict = judged["verdict"]
            if not now["measured"] and failures:
                verdict = "no result"
            before = pages.judge(default, pages.recorded(folder))
            changed = now["measured"] and before["measured"] and now["verdict"] != before["verdict"]
            row = {"folder": folder, "verdict": verdict, "now": now["measured"]}
            row |= {"changed": (before["verdict"], now["verdict"]) if changed else None}
            row |= {"failures": failures, "larger": None if judged is now else judged}
            rows.append(wording | row)
    return rows


def failed_scripts(runs: dict) -> list[str]:
    return [f"{folder}/{script}" for (folder, script), run in runs.items() if "failed" in run]


def heading(runs: dict) -> str:
    """How many scripts, how long, on what, with which versions."""
    done = [results for results in runs.values() if "failed" not in results]
    quick = any(results["config"]["quick"] for results in done)
    failed = failed_scripts(runs)
    versions = {key: value for results in done for key, value in results["versions"].items()}
    parts = [
        "QUICK RUN: these numbers are not results. " if quick else "",
        f"{len(done)} scripts of {sum(results['seconds'] for results in done):.0f} s in all, ",
        f"{done[0]['device'] if done else 'no device'}, ",
        ", ".join(f"{key} {value}" for key, value in sorted(versions.items())),
        f". FAILED: {', '.join(failed)}" if failed else "",
    ]
    return "".join(parts) + "."


def render(template: str, rows: list[dict], runs: dict) -> str:
    """Fill a template of docs/ with the claims, figures and counts of a run."""
    loader = jinja2.FileSystemLoader(HERE / "docs")
    escape = jinja2.select_autoescape(["html.j2"])
    environment = jinja2.Environment(
        loader=loader, autoescape=escape, trim_blocks=True, lstrip_blocks=True
    )
    figures = []
    for (folder, _), results in runs.items():
        for name in results.get("figures", []):
            told = reading.captions(folder).get(Path(name).stem, {"claims": []})
            spoken_of = [row["id"] for row in rows if row["id"] in told["claims"]]
            figure = {"folder": folder, "name": name, "data": figure_data(folder, name)}
            figures.append(figure | told | {"beside": spoken_of[-1] if spoken_of else None})
    folders = dict.fromkeys(folder for folder, _ in runs)
    counts = {name: sum(row["verdict"] == name for row in rows) for name in pages.VERDICTS}
    return environment.get_template(template).render(
        articles=[ARTICLES[folder] for folder in folders],
        rows=rows,
        figures=figures,
        heading=heading(runs),
        counts=counts,
        verdicts=pages.VERDICTS | {"no result": {"en": "no result", "zh": "无结果"}},
        shown=pages.shown,
    )


def figure_data(folder: str, name: str) -> str:
    """A figure as base64, so that the report needs no other file; "" if it is not there."""
    path = HERE / folder / "outputs" / name
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""


def record(runs: dict) -> None:
    """Copy a default run's results and figures to where the READMEs take them from."""
    for (folder, script), results in runs.items():
        if "failed" in results or results["config"]["quick"]:
            raise ValueError(f"{folder}/{script}: only a whole default run is recorded")
        outputs = HERE / folder / "outputs"
        for kind in ("results", "figures"):
            (HERE / folder / kind).mkdir(exist_ok=True)
        for name in results["figures"]:
            shutil.copyfile(outputs / name, HERE / folder / "figures" / name)
        name = f"{Path(script).stem}.json"
        text = (outputs / name).read_text(encoding="utf-8")
        without_home = text.replace(f"{HERE}{os.sep}", "")
        (HERE / folder / "results" / name).write_text(without_home, encoding="utf-8")


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("articles", nargs="*", metavar="FOLDER", help=f"of {', '.join(ARTICLES)}")
    parser.add_argument("--quick", action="store_true", help="every stage on little data")
    parser.add_argument("--report-only", action="store_true", help="from the last run's outputs")
    parser.add_argument("--seed", type=int, default=0, help="of every script that draws")
    parser.add_argument("--data-dir", type=Path, help="where data lie (else KEXUE_DATA_DIR)")
    parser.add_argument("--jobs", type=int, default=2, help="folders that run side by side")
    record_help = "copy results to where READMEs look; one job, so that the seconds are a script's"
    parser.add_argument("--record", action="store_true", help=record_help)
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: must be 1 or more")
    args.articles = [name.strip("/") for name in args.articles] or list(ARTICLES)
    args.jobs = 1 if args.record else min(args.jobs, len(args.articles))
    for name in args.articles:
        if name not in ARTICLES:
            parser.error(f"{name}: no such folder; choose from {', '.join(ARTICLES)}")
    if not 0 <= args.seed < 10**9:
        parser.error(f"--seed {args.seed}: must lie in 0 … 999999999")
    return args


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.data_dir:
        os.environ["KEXUE_DATA_DIR"] = str(args.data_dir.resolve())
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    os.environ.setdefault("PYTHONUTF8", "1")  # a Western Windows writes no Chinese to a pipe
    sys.stdout.reconfigure(errors="replace")
    started = time.perf_counter()
    if args.report_only:
        runs = {
            (folder, script): read_results(folder, script)
            for folder in args.articles
            for script in ARTICLES[folder]["scripts"]
        }
    else:
        runs = run_folders(args)
    rows = claim_rows(runs)
    (HERE / "outputs").mkdir(exist_ok=True)
    for name in ("report.md", "report.html"):
        text = render(f"{name}.j2", rows, runs)
        (HERE / "outputs" / name).write_text(text, encoding="utf-8")
    print("\n" + (HERE / "outputs" / "report.md").read_text(encoding="utf-8"))
    print(f"Wrote outputs/report.html in {time.perf_counter() - started:.0f} s")
    if args.record:
        record(runs)
    return 1 if failed_scripts(runs) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
