"""Run every article's default experiment and print one table: which claims hold, with numbers.

Run:   python reproduce.py                    all six folders (make run does this in a fresh environment)
       python reproduce.py simpler_glove      one folder
       python reproduce.py --quick            every stage on little data, a few minutes; not results
Makes: outputs/report.md and outputs/report.html (one page, figures inside, English and Chinese)

Each script runs as a process of its own; one that fails is reported and does not stop the others.
"""
import argparse
import base64
import html
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ARTICLES = {  # folder: (Chinese title, English title, post numbers, scripts in the order in which a reader meets them)
    "captcha_xception": ("基于Xception的腾讯验证码识别", "Reading captchas end to end", [4503, 4138],
                         ["draw_captcha", "make_samples", "train", "evaluate", "predict"]),
    "keras_custom_loss": ("Keras中自定义复杂的loss函数", "Custom losses in Keras", [4493],
                          ["label_smoothing", "triplet_loss", "center_loss", "idioms"]),
    "adversarial_validation": ("如何划分一个跟测试集更接近的验证集? · 训练集、验证集和测试集的意义",
                               "A validation set closer to the test set", [7805, 4638],
                               ["gaussian_shift", "discriminator", "experiment", "label_shift",
                                "train_valid_test", "split"]),
    "master_equation": ("从马尔科夫过程到主方程", "From Markov processes to the master equation", [4598],
                        ["derivation", "simulate", "exact_laws", "dsmts", "planted_bugs", "tau_leaping",
                         "fokker_planck", "h_theorem"]),
    "activation_functions": ("浅谈神经网络中激活函数的设计", "The design of activation functions", [4647],
                             ["linear_network", "float_rounding", "gallery", "compare", "depth"]),
    "simpler_glove": ("更别致的词向量模型", "A simpler GloVe", [4669, 4671, 4675, 4677, 4681],
                      ["count", "train", "adagrad", "compare_modes", "evaluate", "norms", "compare_glove",
                       "sentiment", "pmi_additivity", "explore"]),
}
VERDICTS = {True: ("holds", "成立"), False: ("does not hold", "不成立"), None: ("not measurable here", "此处无法测量")}


def run_script(folder: str, script: str, flags: list) -> dict:
    """Run one script as a reader would and return its results, or {"failed": why}."""
    path = HERE / folder / "outputs" / f"{script}.json"
    path.unlink(missing_ok=True)  # so that a failure cannot show an older run's numbers
    started = time.perf_counter()
    finished = subprocess.run([sys.executable, str(HERE / folder / f"{script}.py"), *flags])
    if finished.returncode:
        return {"failed": f"exit status {finished.returncode} after {time.perf_counter() - started:.0f} s"}
    return read_results(folder, script)


def read_results(folder: str, script: str) -> dict:
    path = HERE / folder / "outputs" / f"{script}.json"
    if not path.is_file():
        return {"failed": f"{folder}/{script}.py wrote no {path.name}"}
    return json.loads(path.read_text(encoding="utf-8"))


def claim_rows(runs: dict) -> list:
    """One row per claim of the folders that ran: what the article says, what came out, and the verdict."""
    rows = []
    for claim in json.loads((HERE / "claims.json").read_text(encoding="utf-8")):
        scripts = {script: results for (folder, script), results in runs.items() if folder == claim["folder"]}
        if not scripts:
            continue
        row = dict(claim, article="", measured="not run: " + ("; ".join(
            f"{script}.py failed, {results['failed']}" for script, results in scripts.items() if "failed" in results)
            or "no script reports it"), verdict=("no result", "无结果"), holds="missing", seconds=None)
        for script, results in scripts.items():
            for found in results.get("claims", []):
                if found["id"] == claim["id"]:
                    row.update(report_of(found, results))
        recorded = recorded_claim(claim) if row["holds"] in (None, "missing") else None
        if recorded and not any("failed" in results for results in scripts.values()):
            row.update(recorded)
        rows.append(row)
    return rows


def report_of(found: dict, results: dict) -> dict:
    return {"article": str(found["expected"]), "measured": str(found["measured"]), "holds": found["holds"],
            "verdict": VERDICTS[found["holds"]], "seconds": results["seconds"]}


def recorded_claim(claim: dict):
    """What a committed longer run measured of a claim that the default runs do not reach; the row says so."""
    default = {f"{script}.json" for script in ARTICLES[claim["folder"]][3]}
    for path in sorted((HERE / claim["folder"] / "results").glob("*.json")):
        results = json.loads(path.read_text(encoding="utf-8")) if path.name not in default else {}
        for found in results.get("claims", []):
            if found["id"] == claim["id"] and found["holds"] is not None:
                row = report_of(found, results)
                return dict(row, measured=f"{row['measured']} (recorded in {claim['folder']}/results/{path.name}, "
                                          f"a run of {results['seconds']:.0f} s; not run again here)", seconds=None)
    return None


def markdown_report(rows: list, runs: dict) -> str:
    def cell(text) -> str:
        return str(text).replace("|", "\\|").replace("\n", " ")
    lines = ["# Report", "", heading(runs), "", "| claim | article | measured | holds | seconds |",
             "| --- | --- | --- | --- | --- |"]
    for row in rows:
        lines.append(f"| {row['id']} {cell(row['en'])} | [{row['post']}](https://kexue.fm/archives/{row['post']}) "
                     f"{cell(row['article'])} | {cell(row['measured'])} | {row['verdict'][0]} "
                     f"| {row['seconds'] or ''} |")
    lines += ["", "Seconds are those of the script that reports the claim.", "", "## Figures", ""]
    for (folder, script), results in runs.items():
        lines += [f"![{name}](../{folder}/outputs/{name})" for name in results.get("figures", [])]
    return "\n".join(lines) + "\n"


def heading(runs: dict) -> str:
    done = [results for results in runs.values() if "failed" not in results]
    quick = "QUICK RUN: these numbers are not results. " if any(results["quick"] for results in done) else ""
    failed = [f"{folder}/{script}.py" for (folder, script), results in runs.items() if "failed" in results]
    versions = {key: value for results in done for key, value in results["versions"].items()}
    return (f"{quick}{len(done)} scripts in {sum(results['seconds'] for results in done):.0f} s, "
            f"{done[0]['device'] if done else 'no device'}, "
            + ", ".join(f"{key} {value}" for key, value in sorted(versions.items()))
            + (f". FAILED: {', '.join(failed)}" if failed else "") + ".")


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>kexue.fm, reproduced</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ text-align: left; vertical-align: top; padding: .4rem }}
tr {{ border-bottom: 1px solid #ddd }} .zh {{ color: #555 }} img {{ max-width: 100%; height: auto }}
.yes {{ color: #17682c }} .no {{ color: #a1260d }} .none {{ color: #666 }} td {{ overflow-wrap: anywhere }}
td:first-child {{ white-space: nowrap }}
@media (max-width: 40rem) {{ thead {{ display: none }} td {{ display: block; padding: .1rem .4rem }} }}
</style></head><body>
<h1>kexue.fm, reproduced <span class="zh">科学空间文章复现</span></h1><p>{heading}</p>
<p><b class="yes">{yes} hold · 成立</b>, <b class="no">{no} do not · 不成立</b>,
<b class="none">{none} not measurable here · 此处无法测量</b>{missing}</p>
{sections}</body></html>
"""


def html_report(rows: list, runs: dict) -> str:
    """The whole report as one page that needs no other file and no network."""
    sections = []
    for folder in dict.fromkeys(folder for folder, _ in runs):
        zh, en, posts, _ = ARTICLES[folder]
        links = " · ".join(f'<a href="https://kexue.fm/archives/{post}">{post}</a>' for post in posts)
        body = "".join(
            f'<tr class="claim" id="{row["id"]}"><td><b>{row["id"]}</b></td><td>{html.escape(row["en"])}'
            f'<div class="zh" lang="zh">{html.escape(row["zh"])}</div></td><td>{html.escape(row["article"])}</td>'
            f'<td>{html.escape(row["measured"])}</td><td class="{css_class(row["holds"])}"><b>{row["verdict"][0]}</b>'
            f'<div lang="zh">{row["verdict"][1]}</div></td></tr>' for row in rows if row["folder"] == folder)
        images = "".join(figure_tag(HERE / folder / "outputs" / name) for (place, _), results in runs.items()
                         if place == folder for name in results.get("figures", []))
        sections.append(f'<h2>{html.escape(en)} <span class="zh" lang="zh">{html.escape(zh)}</span></h2><p>{links}, '
                        f'folder {folder}</p><table><thead><tr><th></th><th>claim · 论断</th><th>article · 原文</th>'
                        f'<th>measured · 实测</th><th>holds · 结论</th></tr></thead><tbody>{body}</tbody></table>'
                        + images)
    count = [sum(row["holds"] is value for row in rows) for value in (True, False, None)]
    missing = len(rows) - sum(count)
    return PAGE.format(heading=html.escape(heading(runs)), yes=count[0], no=count[1], none=count[2],
                       missing=f", {missing} without result · 无结果" if missing else "", sections="".join(sections))


def css_class(holds) -> str:
    return {True: "yes", False: "no"}.get(holds, "none")


def figure_tag(path: Path) -> str:
    if not path.is_file():
        return f"<p>{html.escape(path.name)}: missing</p>"
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}"></p>'


def record(runs: dict) -> None:
    """Copy a default run's results and figures to where the READMEs take them from."""
    for (folder, script), results in runs.items():
        if "failed" in results or results["quick"]:
            raise ValueError(f"{folder}/{script}.py: only a whole default run is recorded")
        outputs = HERE / folder / "outputs"
        for kind in ("results", "figures"):
            (HERE / folder / kind).mkdir(exist_ok=True)
        for name in results["figures"]:
            shutil.copyfile(outputs / name, HERE / folder / "figures" / name)
        text = (outputs / f"{script}.json").read_text(encoding="utf-8").replace(f"{HERE}/", "")   # no one's own folder
        (HERE / folder / "results" / f"{script}.json").write_text(text, encoding="utf-8")


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("articles", nargs="*", metavar="FOLDER", help=f"of {', '.join(ARTICLES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="every stage on little data; not results")
    parser.add_argument("--report-only", action="store_true", help="make the report of the last run's outputs")
    parser.add_argument("--record", action="store_true", help="copy results and figures into the folders (for commits)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every script (default: 0)")
    parser.add_argument("--data-dir", type=Path, help="where data lie (else KEXUE_DATA_DIR, else data/.cache)")
    args = parser.parse_args(argv)
    for name in args.articles:
        if name.strip("/") not in ARTICLES:
            parser.error(f"{name}: no such folder; choose from {', '.join(ARTICLES)}")
    if not 0 <= args.seed < 10**9:
        parser.error(f"--seed {args.seed}: must lie in 0 … 999999999")
    return args


def main(argv=None) -> int:
    args = parse_args(argv)
    folders = [name.strip("/") for name in args.articles] or list(ARTICLES)
    jobs = [(folder, script) for folder in folders for script in ARTICLES[folder][3]]
    flags = ["--seed", str(args.seed)] + ["--quick"] * args.quick
    flags += ["--data-dir", str(args.data_dir)] if args.data_dir else []
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    os.environ.setdefault("PYTHONUTF8", "1")               # a Western Windows writes no Chinese to a file or pipe
    sys.stdout.reconfigure(errors="replace")
    started, runs = time.perf_counter(), {}
    for number, (folder, script) in enumerate(jobs, 1):
        if not args.report_only:
            print(f"\n=== {number}/{len(jobs)} {folder}/{script}.py, {time.perf_counter() - started:.0f} s so far",
                  flush=True)
        runs[folder, script] = read_results(folder, script) if args.report_only else run_script(folder, script, flags)
    rows = claim_rows(runs)
    report = markdown_report(rows, runs)
    (HERE / "outputs").mkdir(exist_ok=True)
    (HERE / "outputs" / "report.md").write_text(report, encoding="utf-8")
    (HERE / "outputs" / "report.html").write_text(html_report(rows, runs), encoding="utf-8")
    print("\n" + report.partition("\n## Figures")[0])
    print(f"Wrote outputs/report.md and outputs/report.html in {time.perf_counter() - started:.0f} s")
    if args.record:
        record(runs)
    return 1 if any("failed" in results for results in runs.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
