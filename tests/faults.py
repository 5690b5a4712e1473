"""Throw bad input at every command line and report what came back.

Run:   python tests/faults.py                       all cases, in minutes → outputs/faults.md
       python tests/faults.py --only simpler_glove  the cases of one folder

A case passes when the script ends with status 2 and a line that says "error:", or with 130 when it
was interrupted, or with 0 and a word about the input when that can be used after all. It must leave
no traceback, no half-written file and, after a failure, no results. test_faults.py runs a sample.
"""

import argparse
import gzip
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for conftest's docs.pages
from conftest import ROOT, SCRIPTS

INTERRUPT = "Ctrl-C at a random moment"
FULL_DISK = "disk full after 4 kB"

# a script, then a case a line: what is wrong | arguments, with {name} for a file of make_inputs
CASES = """
captcha_xception/make_samples.py
  --count 0 | --count 0
  --count -3 | --count -3
  --count 1.5 | --count 1.5
  an empty alphabet | --count 5 --alphabet ''
  a font that is none | --count 5 --fonts {page.jpg}
captcha_xception/train.py
  a folder without images | --samples {empty_folder}
  three images | --samples {few}
  mixed sizes and a truncated file | --samples {mixed}
  no such folder | --samples nowhere
  unknown model | --model no_such_net
  weights that are no model | --quick --weights {model.keras}
  learning rate −1 | --learning-rate -1
captcha_xception/predict.py
  no such image | nowhere.jpg
  a page instead of an image | {page.jpg}
  an image of another size | {small.jpg}
  an empty folder | {empty_folder}
  a broken model | --weights {model.keras}
  confidence above 1 | --min-confidence 2
keras_custom_loss/experiments/label_smoothing.py
  ε = -0.1 | --epsilon -0.1
  ε = 1 | --epsilon 1
  ε = x | --epsilon x
  no epochs | --epochs 0
keras_custom_loss/experiments/calibration.py
  one network per loss, which gives no interval | --seeds 1
keras_custom_loss/experiments/triplet.py
  a negative margin | --margin -0.1
keras_custom_loss/experiments/center.py
  λ = −1 | --weight -1
keras_custom_loss/experiments/idioms.py
  no steps | --steps 0
adversarial_validation/split.py
  one file only | {train.csv}
  no such file | nowhere.csv {test.csv}
  no such column | {train.csv} {test.csv} --target z
  no column in common | {train.csv} {other.csv} --target y
  20 rows | {few.csv} {test.csv} --target y
  an empty file | {empty.txt} {test.csv} --target y
  text not in UTF-8 | {latin1.txt} {test.csv} --target y
  rows of unequal length | {ragged.csv} {test.csv} --target y
  binary data | {random.bin} {test.csv}
  all columns constant | {constant.csv} {constant.csv} --target y
  all values missing | {missing.csv} {missing.csv} --target y
  a fraction of 2 | {train.csv} {test.csv} --fraction 2
  a test set that repeats the training rows | {train.csv} {train.csv} --target y
  no header line | {no_header.csv} {no_header_test.csv}
  the two files swapped | {test.csv} {train.csv} --target y
  a quote that never ends | {open_quote.csv} {test.csv} --target y
  a gz cut short | {cut.csv.gz} {test.csv} --target y
  numbers of 1e400 | {huge_numbers.csv} {test.csv} --target y
  no target at all | {no_target.csv} {test.csv} --target y
  a seed of −1 | {train.csv} {test.csv} --seed -1
adversarial_validation/run.py
  no draws | --draws 0
master_equation/simulate.py
  a negative rate | {negative_rate.txt}
  a negative count | {negative_count.txt}
  an unknown species | {unknown_species.txt}
  no reaction | {no_reaction.txt}
  code for a rate | {code.txt}
  an empty model | {empty.txt}
  a model not in UTF-8 | {latin1.txt}
  a species not declared | {no_species.txt}
  a reversible arrow | {two_arrows.txt}
  a count of 1e400 | {huge_count.txt}
  vectors for a model | {few.txt}
  more molecules than steps | {many.txt} --methods exact --max-steps 20000 --trajectories 10
  a time of 1e12 | schlogl --methods states --limit X=900 --times 0,1e12 --solver uniformisation
  a limit on an unknown species | decay --limit Z=5
  unknown model | no_such_model
  times that decrease | decay --times 3,2,1
  times that are no numbers | decay --times a:b:c
  a model that explodes | {explosion.txt} --methods exact --max-steps 20000 --times 0:50:3
  a truncation too small | schlogl --methods states --limit X=260 --times 0,4
  no trajectories | decay --trajectories 0
tests/master_equation_dsmts.py
  no processes | --processes 0
activation_functions/experiments/linear_network.py
  unknown method | --methods magic
  no epochs | --epochs 0
activation_functions/experiments/compare.py
  no seeds | --seeds 0
activation_functions/experiments/float_rounding.py
  weights that are none | --weights {random.bin}
  vectors for weights | --weights {words.vec}
simpler_glove/experiments/norms.py
  no word so frequent | --quick --least 100000000
simpler_glove/train.py
  an empty corpus | {empty.txt}
  blank lines only | {blank.txt}
  not UTF-8 | {latin1.txt}
  no word above the minimum count | {rare.txt}
  bytes | {random.bin}
  a gz cut short | {cut.txt.gz}
  a gz that is none | {not_gz.txt.gz}
  UTF-16 | {utf16.txt}
  raw Chinese without --segment | {raw.txt}
  too few words, from Windows | {dos.txt}
  no such corpus | nowhere.txt
  a folder as corpus | {empty_folder}
  more dimensions than words | {good.txt} --dim 500
  dimension 0 | --dim 0
  memory 0 | --memory 0
  a negative weight | --unseen-weight -1
  a power of 0 | --alpha 0
simpler_glove/explore.py
  a vector file cut short | related the --vectors {cut.npz}
  a line with a number missing | related the --vectors {words.vec}
  fewer words than announced | related the --vectors {short.vec}
  1e400 and nan | related the --vectors {not_finite.vec}
  binary data | related the --vectors {random.bin}
  an empty file | related the --vectors {empty.txt}
  a word that is not there | related king --vectors {few.vec}
  no such file | related the --vectors nowhere.npz
  unknown command | dance
simpler_glove/evaluate.py
  no such file | nowhere.npz
simpler_glove/experiments/sentiment.py
  a share of 2 | --test-share 2
keras_custom_loss/answer.py
  an empty question | '  '
  an answer below 1 | --answers 0
adversarial_validation/experiments/validation_gap.py
  unknown task | --tasks nothing
"""


# ---------------------------------------------------------------- inputs
def put(folder: Path, name: str, data: str | bytes) -> None:
    path = folder / name
    path.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def make_inputs(folder: Path) -> None:
    """Every bad (and a few good) input files."""
    rng = np.random.default_rng(0)
    make_texts(folder, rng)
    make_vectors(folder, rng)
    make_images(folder, rng)
    make_tables(folder, rng)
    make_models(folder)


def make_texts(folder: Path, rng: np.random.Generator) -> None:
    put(folder, "empty.txt", "")
    put(folder, "blank.txt", "\n\n  \n")
    put(folder, "latin1.txt", "caf\xe9 na\xefve\n".encode("latin-1") * 50)
    put(folder, "rare.txt", "every word here comes once only\n")
    put(folder, "random.bin", rng.bytes(5000))
    put(folder, "cut.txt.gz", gzip.compress(b"a b c d\n" * 9000)[:-40])
    put(folder, "not_gz.txt.gz", "plain text\n" * 20)
    put(folder, "good.txt", "the cat sat on the mat and the dog sat on the cat\n" * 60)
    windows = b"the cat sat on the mat and the dog sat on the cat\r\n" * 60
    put(folder, "dos.txt", b"\xef\xbb\xbf" + windows)
    put(folder, "utf16.txt", "the cat sat on the mat\n".encode("utf-16") * 60)
    put(folder, "raw.txt", "".join(f"国王喜欢第{number}本书。\n" for number in range(300)))


def make_vectors(folder: Path, rng: np.random.Generator) -> None:
    put(folder, "cut.npz", b"PK\x03\x04" + rng.bytes(300))
    put(folder, "words.vec", "3 2\nthe 0.1 0.2\ncat 0.3\n")
    put(folder, "short.vec", "9 2\nthe 0.1 0.2\ncat 0.3 0.4\n")
    put(folder, "few.txt", "3 2\nthe 0.1 0.2\n")
    put(folder, "few.vec", "3 2\nthe 0.1 0.2\ncat 0.3 0.4\ndog 0.5 0.6\n")
    put(folder, "not_finite.vec", "3 2\nthe 1e400 0.2\ncat nan 0.4\ndog 0.5 0.6\n")


def make_images(folder: Path, rng: np.random.Generator) -> None:
    put(folder, "model.keras", rng.bytes(3000))
    put(folder, "page.jpg", "<html>not an image</html>")
    for name in ("empty_folder", "few", "mixed"):
        (folder / name).mkdir()
    for number in range(30):
        image = Image.fromarray(rng.integers(0, 255, (53, 129, 3), dtype=np.uint8))
        image.save(folder / "mixed" / f"{number:03}abcd.jpg")
        if number < 3:
            image.save(folder / "few" / f"{number:03}abcd.jpg")
    small = image.resize((60, 20))
    small.save(folder / "mixed" / "other_abcd.jpg")
    small.save(folder / "small_abcd.jpg")
    put(folder, "mixed/bad_abcd.jpg", b"\xff\xd8\xff")


def make_tables(folder: Path, rng: np.random.Generator) -> None:
    columns = (rng.normal(size=300), rng.choice(list("xyz"), 300), rng.integers(0, 2, 300))
    lines = [f"{a:.3f},{b},{c}" for a, b, c in zip(*columns, strict=True)]
    rows = "\n".join(lines) + "\n"
    put(folder, "train.csv", "a,b,y\n" + rows)
    put(folder, "test.csv", "a,b\n" + "\n".join(line[:-2] for line in lines[::-1]) + "\n")
    put(folder, "few.csv", "a,b,y\n" + "\n".join(lines[:20]) + "\n")
    put(folder, "other.csv", "c,d\n" + "".join(f"{i},{i}\n" for i in range(300)))
    put(folder, "constant.csv", "a,b,y\n" + "1,x,0\n" * 300)
    put(folder, "missing.csv", "a,b,y\n" + ",,0\n" * 300)
    put(folder, "ragged.csv", "a,b,y\n1,2,3\n1,2,3,4,5\n" * 200)
    put(folder, "no_header.csv", rows)
    put(folder, "no_header_test.csv", "\n".join(lines[::-1]) + "\n")
    put(folder, "open_quote.csv", 'a,b,y\n"1,x,0\n' + rows)
    put(folder, "cut.csv.gz", gzip.compress(("a,b,y\n" + rows).encode())[:-40])
    huge = "".join(f"1e400{line[line.index(',') :]}\n" for line in lines)
    put(folder, "huge_numbers.csv", "a,b,y\n" + huge)
    put(folder, "no_target.csv", "a,b,y\n" + "\n".join(line[:-1] for line in lines) + "\n")


def make_models(folder: Path) -> None:
    put(folder, "negative_rate.txt", "species X = 5\nX -> 2X : -1\n")
    put(folder, "negative_count.txt", "species X = -5\nX -> 2X : 1\n")
    put(folder, "unknown_species.txt", "species X = 5\nX + Z -> 2X : 1\n")
    put(folder, "no_reaction.txt", "species X = 5\n")
    put(folder, "code.txt", "species X = 5\nX -> 2X : __import__('os').getpid()\n")
    put(folder, "no_species.txt", "X = 5\nX -> 2X : 1\n")
    put(folder, "two_arrows.txt", "species X = 5\nX <-> 2X : 1\n")
    put(folder, "huge_count.txt", "species X = 1e400\nX -> 0 : 1\n")
    put(folder, "many.txt", "species X = 1000000000000\nX -> 0 : 1\n")
    put(folder, "explosion.txt", "species X = 5\n2X -> 3X : 5\n")


# ---------------------------------------------------------------- cases
def cases(inputs: Path) -> list[tuple[str, list[str], str]]:
    """(script, arguments, what is wrong): the table above, and what every script must endure."""
    found = []
    for line in CASES.strip().splitlines():
        if not line.startswith(" "):
            script = line
            continue
        what, arguments = (part.strip() for part in line.split("|"))
        words = shlex.split(arguments)
        found.append(
            (script, [word.replace("{", f"{inputs}/").replace("}", "") for word in words], what)
        )
    for number, path in enumerate(SCRIPTS):
        script = str(path.relative_to(ROOT))
        below_a_file = ["--quick", "--out-dir", str(inputs / "good.txt" / "below")]
        found.append((script, below_a_file, "output folder below a file"))
        found.append((script, ["--no-such-flag"], "unknown flag"))
        if "cli.SEED" in path.read_text(encoding="utf-8"):
            found.append((script, ["--seed", "many"], "a seed that is no number"))
            found.append((script, ["--seed", "-1"], "a seed below 0"))
        if number % 3 == 0:
            found.append((script, ["--quick"], FULL_DISK))
            found.append((script, ["--quick"], INTERRUPT))
    return found


# ---------------------------------------------------------------- running
def listen_to_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs have it ignored


def limit_file_size() -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def start(script: str, arguments: list[str], what: str, scratch: Path) -> subprocess.Popen:
    out = [] if "--out-dir" in arguments else ["--out-dir", str(scratch / "out")]
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments, *out],
        cwd=scratch,
        env={**os.environ, "KEXUE_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        preexec_fn=limit_file_size if what == FULL_DISK else listen_to_interrupts,
    )


def interrupt(process: subprocess.Popen, script: str, out: Path) -> None:
    """Ctrl-C some moment after the script began to work: the same moment every time, nearly."""
    until = time.time() + 60
    while not out.exists() and process.poll() is None and time.time() < until:
        time.sleep(0.05)
    time.sleep(random.Random(script).uniform(0.2, 3))
    os.killpg(process.pid, signal.SIGINT)


def run_case(case: tuple[str, list[str], str], scratch: Path) -> dict:
    script, arguments, what = case
    process = start(script, arguments, what, scratch)
    if what == INTERRUPT:
        interrupt(process, script, scratch / "out")
    try:
        stdout, stderr = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {
            "script": script,
            "what": what,
            "status": "hangs",
            "said": "",
            "problems": ["hangs"],
        }
    marks = ("error:", "warning", "skipped", "verdict", "taken for")
    lines = [line.strip() for line in (stderr + stdout).splitlines()]
    said = [
        line for line in lines if line == "interrupted" or any(m in line.lower() for m in marks)
    ]
    problems = judge(script, what, process.returncode, stderr, said, scratch / "out")
    return {
        "script": script,
        "what": what,
        "status": process.returncode,
        "said": said[-1] if said else "",
        "problems": problems,
        "tail": stderr[-1500:],
    }


def judge(script: str, what: str, status: int, stderr: str, said: list, out: Path) -> list[str]:
    """What is wrong with an answer."""
    problems = ["traceback"] if "Traceback" in stderr else []
    results = (out / f"{Path(script).stem}.json").exists()
    # -SIGINT, which a shell shows as 130: the run was over, Python on its way out
    allowed = (0, 130, -signal.SIGINT) if what == INTERRUPT else (0, 2)
    if status not in allowed:
        problems.append(f"status {status}")
    if status == 2 and "error:" not in stderr:
        problems.append("no error line")
    if status == 0 and what != INTERRUPT and not said:
        problems.append("went through without a word")
    if status == -signal.SIGINT and not results:
        problems.append("killed before it was done")
    if out.exists() and list(out.rglob("*.part*")):
        problems.append("left a half-written file")
    if status not in (0, -signal.SIGINT) and results:
        problems.append("left the results of a failed run")
    return problems


def run_all(chosen: list, workers: int = 2) -> list[dict]:
    with tempfile.TemporaryDirectory() as scratch:

        def work(numbered):
            number, case = numbered
            folder = Path(scratch) / f"{number}"
            folder.mkdir()
            result = run_case(case, folder)
            state = f"FAIL {'; '.join(result['problems'])}" if result["problems"] else "ok"
            print(f"{state:40} {result['script']}: {result['what']}", flush=True)
            return result

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(work, enumerate(chosen)))


def table(results: list[dict], inputs: str) -> str:
    good = sum(not result["problems"] for result in results)
    lines = ["# What bad input gets", "", f"{len(results)} cases, {good} as they should be.", ""]
    lines += ["| script | bad input | status | what it said | |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        said = result["said"].replace(inputs, "…").replace("|", "\\|")[:160]
        state = "; ".join(result["problems"]) or "ok"
        row = [result["script"], result["what"], str(result["status"]), said, state]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run only cases whose script begins so")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as inputs:
        make_inputs(Path(inputs))
        chosen = [case for case in cases(Path(inputs)) if case[0].startswith(args.only)]
        results = run_all(chosen)
    (ROOT / "outputs").mkdir(exist_ok=True)
    path = ROOT / "outputs" / "faults.md"
    path.write_text(table(results, inputs), encoding="utf-8")
    failed = [result for result in results if result["problems"]]
    for result in failed:
        print(f"\n{result['script']}: {result['what']}: {result['problems']}")
        print(result.get("tail", ""))
    print(f"{len(results)} cases, {len(failed)} not as they should be; table in outputs/faults.md")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
