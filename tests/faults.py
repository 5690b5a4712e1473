"""Throw bad input at every command line and report what came back.

Run:   python tests/faults.py                      all cases, some minutes; writes outputs/faults.md
       python tests/faults.py --only simpler_glove  the cases of one folder

A case passes when the script ends with status 2 and a line that says "error:" (or, interrupted, with 130; or, where
the input can be used after all, with 0 and a word about it), without a traceback, and leaves nothing half-written: no
*.part file and, after a failure, no results. tests/test_faults.py runs every seventh case.
"""
import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
INTERRUPT, FULL_DISK = "Ctrl-C at a random moment", "disk full after 4 kB"
EVERY = ["make_samples", "train", "predict"], ["label_smoothing", "triplet_loss", "center_loss", "idioms"], [
    "gaussian_shift", "experiment", "train_valid_test", "label_shift", "split"], [
    "derivation", "simulate", "dsmts", "fokker_planck", "h_theorem"], ["linear_network", "gallery", "compare"], [
    "count", "train", "explore", "evaluate", "sentiment", "pmi_additivity", "adagrad"]
FOLDERS = ["captcha_xception", "keras_custom_loss", "adversarial_validation", "master_equation", "activation_functions",
           "simpler_glove"]


def make_inputs(folder: Path) -> dict:
    """Every bad (and a few good) input files, by name."""
    rng = np.random.default_rng(0)
    made = {}

    def put(name: str, data) -> None:
        made[name] = folder / name
        made[name].parent.mkdir(parents=True, exist_ok=True)
        made[name].write_bytes(data.encode("utf-8") if isinstance(data, str) else data)

    put("empty.txt", "")
    put("blank.txt", "\n\n  \n")
    put("latin1.txt", "caf\xe9 na\xefve\n".encode("latin-1") * 50)
    put("rare.txt", "every word here comes once only\n")
    put("random.bin", rng.bytes(5000))
    put("cut.txt.gz", __import__("gzip").compress(b"a b c d\n" * 9000)[:-40])
    put("not_gz.txt.gz", "plain text\n" * 20)
    put("good.txt", "the cat sat on the mat and the dog sat on the cat\n" * 60)
    put("cut.npz", b"PK\x03\x04" + rng.bytes(300))
    put("words.vec", "3 2\nthe 0.1 0.2\ncat 0.3\n")
    put("short.vec", "9 2\nthe 0.1 0.2\ncat 0.3 0.4\n")
    put("model.keras", rng.bytes(3000))
    put("page.jpg", "<html>not an image</html>")
    for name in ("empty_folder", "few", "mixed"):
        (folder / name).mkdir()
        made[name] = folder / name
    for number in range(30):
        image = Image.fromarray(rng.integers(0, 255, (53, 129, 3), dtype=np.uint8))
        image.save(folder / "mixed" / f"{number:03}abcd.jpg")
        if number < 3:
            image.save(folder / "few" / f"{number:03}abcd.jpg")
    image.resize((60, 20)).save(folder / "mixed" / "other_abcd.jpg")
    (folder / "mixed" / "bad_abcd.jpg").write_bytes(b"\xff\xd8\xff")
    image.resize((60, 20)).save(folder / "small_abcd.jpg")
    made["small.jpg"] = folder / "small_abcd.jpg"
    rows = "\n".join(f"{a:.3f},{b},{c}" for a, b, c in zip(rng.normal(size=300), rng.choice(list("xyz"), 300),
                                                           rng.integers(0, 2, 300)))
    put("train.csv", "a,b,y\n" + rows + "\n")
    put("test.csv", "a,b\n" + "\n".join(line.rsplit(",", 1)[0] for line in rows.splitlines()[::-1]) + "\n")
    put("few.csv", "a,b,y\n" + "\n".join(rows.splitlines()[:20]) + "\n")
    put("other.csv", "c,d\n" + "\n".join(f"{i},{i}" for i in range(300)) + "\n")
    put("constant.csv", "a,b,y\n" + "1,x,0\n" * 300)
    put("missing.csv", "a,b,y\n" + ",,0\n" * 300)
    put("ragged.csv", "a,b,y\n1,2,3\n1,2,3,4,5\n" * 200)
    put("negative_rate.txt", "species X = 5\nX -> 2X : -1\n")
    put("negative_count.txt", "species X = -5\nX -> 2X : 1\n")
    put("unknown_species.txt", "species X = 5\nX + Z -> 2X : 1\n")
    put("no_reaction.txt", "species X = 5\n")
    put("code.txt", "species X = 5\nX -> 2X : __import__('os').getpid()\n")
    put("dos.txt", b"\xef\xbb\xbf" + b"the cat sat on the mat and the dog sat on the cat\r\n" * 60)
    put("utf16.txt", "the cat sat on the mat\n".encode("utf-16") * 60)
    put("raw.txt", "".join(f"国王喜欢第{number}本书。\n" for number in range(300)))
    put("few.txt", "3 2\nthe 0.1 0.2\n")
    put("few.vec", "3 2\nthe 0.1 0.2\ncat 0.3 0.4\ndog 0.5 0.6\n")
    put("not_finite.vec", "3 2\nthe 1e400 0.2\ncat nan 0.4\ndog 0.5 0.6\n")
    put("no_header.csv", rows + "\n")
    put("no_header_test.csv", "\n".join(rows.splitlines()[::-1]) + "\n")
    put("open_quote.csv", 'a,b,y\n"1,x,0\n' + rows + "\n")
    put("cut.csv.gz", __import__("gzip").compress(("a,b,y\n" + rows).encode())[:-40])
    put("huge_numbers.csv", "a,b,y\n" + "".join(f"1e400{line[line.index(','):]}\n" for line in rows.splitlines()))
    put("no_target.csv", "a,b,y\n" + "\n".join(line[:-1] for line in rows.splitlines()) + "\n")
    put("no_species.txt", "X = 5\nX -> 2X : 1\n")
    put("two_arrows.txt", "species X = 5\nX <-> 2X : 1\n")
    put("huge_count.txt", "species X = 1e400\nX -> 0 : 1\n")
    put("many.txt", "species X = 1000000000000\nX -> 0 : 1\n")
    put("explosion.txt", "species X = 5\n2X -> 3X : 5\n")
    return made


def cases(files: dict) -> list:
    """(script, arguments, what is wrong); INTERRUPT and FULL_DISK are done to the process, not to its arguments."""
    found = []
    for folder, scripts in zip(FOLDERS, EVERY):
        for script in scripts:
            name = f"{folder}/{script}"
            found += [(name, ["--seed", "many"], "a seed that is no number"),
                      (name, ["--quick", "--out-dir", files["good.txt"] / "below"], "output folder below a file")]
        first, second, last = (f"{folder}/{scripts[number]}" for number in (0, 1, -1))
        found += [(first, ["--no-such-flag"], "unknown flag"), (first, ["--quick"], FULL_DISK),
                  (last, ["--quick"], FULL_DISK), (second, ["--quick"], INTERRUPT), (last, ["--quick"], INTERRUPT)]

    def add(script, what, *arguments):
        found.append((script, list(arguments), what))

    for number in ("0", "-3", "1.5"):
        add("captcha_xception/make_samples", f"--count {number}", "--count", number)
    add("captcha_xception/make_samples", "an empty alphabet", "--count", "5", "--alphabet", "")
    add("captcha_xception/make_samples", "a font that is none", "--count", "5", "--fonts", files["page.jpg"])
    add("captcha_xception/train", "a folder without images", "--samples", files["empty_folder"])
    add("captcha_xception/train", "three images", "--samples", files["few"])
    add("captcha_xception/train", "mixed sizes and a truncated file", "--samples", files["mixed"])
    add("captcha_xception/train", "no such folder", "--samples", "nowhere")
    add("captcha_xception/train", "unknown model", "--model", "no_such_net")
    add("captcha_xception/train", "weights that are no model", "--quick", "--weights", files["model.keras"])
    add("captcha_xception/train", "learning rate −1", "--learning-rate", "-1")
    add("captcha_xception/predict", "no such image", "nowhere.jpg")
    add("captcha_xception/predict", "a page instead of an image", files["page.jpg"])
    add("captcha_xception/predict", "an image of another size", files["small.jpg"])
    add("captcha_xception/predict", "an empty folder", files["empty_folder"])
    add("captcha_xception/predict", "a broken model", "--weights", files["model.keras"])
    add("captcha_xception/predict", "confidence above 1", "--min-confidence", "2")
    for value in ("-0.1", "1", "x"):
        add("keras_custom_loss/label_smoothing", f"ε = {value}", "--epsilon", value)
    add("keras_custom_loss/label_smoothing", "no epochs", "--epochs", "0")
    add("keras_custom_loss/triplet_loss", "a negative margin", "--margin", "-0.1")
    add("keras_custom_loss/triplet_loss", "an empty question", "--ask", "")
    add("keras_custom_loss/center_loss", "λ = −1", "--weight", "-1")
    add("keras_custom_loss/idioms", "no steps", "--steps", "0")
    split = "adversarial_validation/split"
    add(split, "one file only", files["train.csv"])
    add(split, "no such file", "nowhere.csv", files["test.csv"])
    add(split, "no such column", files["train.csv"], files["test.csv"], "--target", "z")
    add(split, "no column in common", files["train.csv"], files["other.csv"], "--target", "y")
    add(split, "20 rows", files["few.csv"], files["test.csv"], "--target", "y")
    add(split, "an empty file", files["empty.txt"], files["test.csv"], "--target", "y")
    add(split, "text not in UTF-8", files["latin1.txt"], files["test.csv"], "--target", "y")
    add(split, "rows of unequal length", files["ragged.csv"], files["test.csv"], "--target", "y")
    add(split, "binary data", files["random.bin"], files["test.csv"])
    add(split, "all columns constant", files["constant.csv"], files["constant.csv"], "--target", "y")
    add(split, "all values missing", files["missing.csv"], files["missing.csv"], "--target", "y")
    add(split, "a fraction of 2", files["train.csv"], files["test.csv"], "--fraction", "2")
    add(split, "a test set that repeats the training rows", files["train.csv"], files["train.csv"], "--target", "y")
    add(split, "no header line", files["no_header.csv"], files["no_header_test.csv"])
    add(split, "the two files swapped", files["test.csv"], files["train.csv"], "--target", "y")
    add(split, "a quote that never ends", files["open_quote.csv"], files["test.csv"], "--target", "y")
    add(split, "a gz cut short", files["cut.csv.gz"], files["test.csv"], "--target", "y")
    add(split, "numbers of 1e400", files["huge_numbers.csv"], files["test.csv"], "--target", "y")
    add(split, "no target at all", files["no_target.csv"], files["test.csv"], "--target", "y")
    add(split, "a seed of −1", files["train.csv"], files["test.csv"], "--seed", "-1")
    add("adversarial_validation/experiment", "unknown task", "--tasks", "nothing")
    add("adversarial_validation/experiment", "no seeds", "--seeds", "0")
    simulate = "master_equation/simulate"
    for name, what in (("negative_rate", "a negative rate"), ("negative_count", "a negative count"), (
            "unknown_species", "an unknown species"), ("no_reaction", "no reaction"), ("code", "code for a rate"), (
            "empty", "an empty model"), ("latin1", "a model not in UTF-8"), ("no_species", "a species not declared"), (
            "two_arrows", "a reversible arrow"), ("huge_count", "a count of 1e400"), ("few", "vectors for a model")):
        add(simulate, what, files[f"{name}.txt"])
    add(simulate, "more molecules than steps", files["many.txt"], "--methods", "exact", "--max-steps", "20000",
        "--trajectories", "10")
    add(simulate, "a time of 1e12", "schlogl", "--methods", "states", "--limit", "X=900", "--times", "0,1e12",
        "--solver", "uniformisation")
    add("simpler_glove/norms", "no word so frequent", "--quick", "--least", "100000000")
    add(simulate, "a limit on an unknown species", "decay", "--limit", "Z=5")
    add(simulate, "unknown model", "no_such_model")
    add(simulate, "times that decrease", "decay", "--times", "3,2,1")
    add(simulate, "times that are no numbers", "decay", "--times", "a:b:c")
    add(simulate, "a model that explodes", files["explosion.txt"], "--methods", "exact", "--max-steps", "20000",
        "--trajectories", "100", "--times", "0:50:3")
    add(simulate, "a truncation too small", "schlogl", "--methods", "states", "--limit", "X=260", "--times", "0,4")
    add(simulate, "no trajectories", "decay", "--trajectories", "0")
    add("master_equation/dsmts", "no processes", "--processes", "0")
    add("activation_functions/linear_network", "unknown method", "--methods", "magic")
    add("activation_functions/linear_network", "no epochs", "--epochs", "0")
    add("activation_functions/compare", "no seeds", "--seeds", "0")
    train = "simpler_glove/train"
    for name, what in (("empty.txt", "an empty corpus"), ("blank.txt", "blank lines only"), (
            "latin1.txt", "not UTF-8"), ("rare.txt", "no word above the minimum count"), ("random.bin", "bytes"), (
            "cut.txt.gz", "a gz cut short"), ("not_gz.txt.gz", "a gz that is none"), ("utf16.txt", "UTF-16"), (
            "raw.txt", "raw Chinese without --segment"), ("dos.txt", "too few words, from Windows")):
        add(train, what, files[name])
    add(train, "no such corpus", "nowhere.txt")
    add(train, "a folder as corpus", files["empty_folder"])
    add(train, "more dimensions than words", files["good.txt"], "--dim", "500")
    add(train, "dimension 0", "--dim", "0")
    add(train, "memory 0", "--memory", "0")
    add(train, "a negative weight", "--unseen-weight", "-1")
    add(train, "a power of 0", "--alpha", "0")
    explore = "simpler_glove/explore"
    for name, what in (("cut.npz", "a vector file cut short"), ("words.vec", "a line with a number missing"), (
            "short.vec", "fewer words than announced"), ("not_finite.vec", "1e400 and nan"), (
            "random.bin", "binary data"), ("empty.txt", "an empty file")):
        add(explore, what, "related", "the", "--vectors", files[name])
    add(explore, "a word that is not there", "related", "king", "--vectors", files["few.vec"])
    add("simpler_glove/evaluate", "no such file", "nowhere.npz")
    add("activation_functions/float_rounding", "weights that are none", "--weights", files["random.bin"])
    add("activation_functions/float_rounding", "vectors for weights", "--weights", files["words.vec"])
    add(explore, "no such file", "related", "the", "--vectors", "nowhere.npz")
    add(explore, "unknown command", "dance")
    add("simpler_glove/sentiment", "a share of 2", "--test-share", "2")
    return found


def listen_to_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)   # a shell's background jobs have it ignored


def limit_file_size():
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def run_case(case: tuple, scratch: Path) -> dict:
    script, arguments, what = case
    out = scratch / "out"
    flags = [] if "--out-dir" in arguments else ["--out-dir", str(out)]
    command = [sys.executable, str(ROOT / f"{script}.py"), *map(str, arguments), *flags]
    environment = {**os.environ, "KEXUE_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(command, cwd=scratch, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, encoding="utf-8", errors="replace", start_new_session=True,
                               preexec_fn=limit_file_size if what == FULL_DISK else listen_to_interrupts)
    if what == INTERRUPT:
        until = time.time() + 60
        while not out.exists() and process.poll() is None and time.time() < until:
            time.sleep(0.05)
        time.sleep(random.Random(script).uniform(0.2, 3))   # the same moments every time, as far as a machine allows
        os.killpg(process.pid, signal.SIGINT)
    try:
        stdout, stderr = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        return dict(script=script, what=what, status="hangs", said="", problems=["hangs"])
    said = [line for line in (stderr + stdout).splitlines() if "error:" in line or "warning" in line.lower()
            or "skipped" in line or "verdict" in line.lower() or line == "interrupted"]
    problems = []
    if "Traceback" in stderr:
        problems.append("traceback")
    results = (out / f"{script.split('/')[1]}.json").exists()
    # -SIGINT, which a shell shows as 130 too: the run was over, the interrupt met Python on its way out
    if process.returncode not in ((0, 130, -signal.SIGINT) if what == INTERRUPT else (0, 2)):
        problems.append(f"status {process.returncode}")
    if process.returncode == 2 and not any("error:" in line for line in stderr.splitlines()):
        problems.append("no error line")
    if process.returncode == 0 and what != INTERRUPT and not said:
        problems.append("went through without a word")
    left = [path.name for path in out.rglob("*") if path.suffix == ".part"] if out.exists() else []
    if process.returncode == -signal.SIGINT and not results:
        problems.append("killed before it was done")
    if process.returncode not in (0, -signal.SIGINT) and results:
        left.append("results of a failed run")
    if left:
        problems.append(f"left {', '.join(left)}")
    return dict(script=script, what=what, status=process.returncode, said=said[-1].strip() if said else "",
                problems=problems, tail=stderr[-1500:])


def run_all(chosen: list, workers: int = 2) -> list:
    with tempfile.TemporaryDirectory() as scratch:
        def work(numbered):
            number, case = numbered
            folder = Path(scratch) / f"{number}"
            folder.mkdir()
            result = run_case(case, folder)
            print(f"{'FAIL ' + '; '.join(result['problems']) if result['problems'] else 'ok':40} {result['script']}: "
                  f"{result['what']}", flush=True)
            return result
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(work, enumerate(chosen)))


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run only cases whose script begins so")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        chosen = [case for case in cases(make_inputs(Path(folder))) if case[0].startswith(args.only)]
        results = run_all(chosen)
        lines = ["# What bad input gets", "", f"{len(results)} cases, "
                 f"{sum(not result['problems'] for result in results)} as they should be.", "",
                 "| script | bad input | status | what it said | |", "| --- | --- | --- | --- | --- |"]
        for result in results:
            said = result["said"].replace(folder, "…").replace("|", "\\|")[:160]
            lines.append(f"| {result['script']} | {result['what']} | {result['status']} | {said} "
                         f"| {'; '.join(result['problems']) or 'ok'} |")
    (ROOT / "outputs").mkdir(exist_ok=True)
    (ROOT / "outputs" / "faults.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    failed = [result for result in results if result["problems"]]
    for result in failed:
        print(f"\n{result['script']}: {result['what']}: {result['problems']}\n{result.get('tail', '')}")
    print(f"{len(results)} cases, {len(failed)} not as they should be; table in outputs/faults.md")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
