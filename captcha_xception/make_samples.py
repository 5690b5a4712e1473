"""Write labelled captchas as files, seeded, as many as you like: samples to train on.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/make_samples.py --count 100000 --samples-dir samples      (--quick: 200 images)
Time:    0.4 ms of one core per image (Intel Xeon)

The label stands before ".jpg", as in the article's samples. The same seed, the same bytes, by any number of processes.
Differs from the article: drawn by draw_captcha.py, not collected.
"""
import argparse
import json
import os
import platform
import signal
import string
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from captcha_xception.draw_captcha import CaptchaGenerator, save_pictures

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- files
def save_image(pixels: np.ndarray, label: str, index: int, folder: Path) -> Path:
    """Write 00000012_abcd.jpg: quality 90, the same bytes for the same pixels and Pillow."""
    path = folder / f"{index:08d}_{label}.jpg"
    Image.fromarray(pixels).save(path.with_suffix(".part"), format="JPEG", quality=90)
    os.replace(path.with_suffix(".part"), path)
    return path


_drawer: CaptchaGenerator | None = None                    # of a process that draws


def _start_drawer(settings: dict) -> None:
    global _drawer
    signal.signal(signal.SIGINT, signal.SIG_IGN)           # Ctrl-C is for the process that waits, which ends this one
    _drawer = CaptchaGenerator(**settings)


def _save_range(start: int, count: int, folder: Path) -> int:
    images, targets = _drawer.batch(start, count)
    for row, (pixels, label) in enumerate(zip(images, targets)):
        save_image(pixels, _drawer.text(label), start + row, folder)
    return count


def save_samples(settings: dict, count: int, folder: Path, workers: int) -> float:
    """Write images 0 … count − 1 into `folder`; returns images per second."""
    folder.mkdir(parents=True, exist_ok=True)
    started, done, piece = time.perf_counter(), 0, 250
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_drawer, (settings,))
    try:
        jobs = [pool.submit(_save_range, start, min(piece, count - start), folder) for start in range(0, count, piece)]
        for job in jobs:
            done += job.result()
            if sys.stdout.isatty():
                print(f"\r[{'#' * (40 * done // count):.<40}] {done}/{count}", end="\n" * (done == count), flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    return count / (time.perf_counter() - started)


# ---------------------------------------------------------------- evaluation
def pieces(pixels: np.ndarray) -> int:
    """Into how many pieces a cut at every inkless column divides the word. pixels: (53, width, 3) uint8."""
    inked = ((grey := pixels.mean(axis=2)) < np.median(grey) - 40).sum(axis=0) > 1     # one dark pixel is a dot
    return int((inked[1:] > inked[:-1]).sum() + inked[0])


# ---------------------------------------------------------------- figures
def plot_sheet(images: np.ndarray, labels, columns: int = 6) -> Figure:
    """A sheet of samples with their labels."""
    figure = Figure(figsize=(0.98 * columns, 0.55 * -(-len(images) // columns)), layout="constrained")
    for axes, image, label in zip(figure.subplots(-(-len(images) // columns), columns).flat, images, labels):
        axes.imshow(image)
        axes.set_title(label, fontsize=6, pad=1)
        axes.set_axis_off()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="images to write (the article has 100000)")
    parser.add_argument("--samples-dir", type=Path, help="where the JPEG files go (else <out-dir>/samples)")
    parser.add_argument("--alphabet", default=string.ascii_lowercase, help="characters of the labels")
    parser.add_argument("--length", type=int, default=4, help="characters per image")
    parser.add_argument("--case-sensitive", action="store_true", help="A and a are two classes (52 letters by default)")
    parser.add_argument("--fonts", nargs="*", default=[], help="more TrueType files, beside matplotlib's")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.case_sensitive and args.alphabet == string.ascii_lowercase:
        args.alphabet = string.ascii_letters
    for flag, value, low, high in (("--count", args.count, 1, 10**8), ("--length", args.length, 1, 12),
                                   ("--workers", args.workers, 1, 256)):
        if not low <= value <= high:
            parser.error(f"{flag} {value}: must lie in {low} … {high}")
    if not (args.alphabet.isascii() and args.alphabet.isalnum()) or len(set(args.alphabet)) < len(args.alphabet):
        parser.error(f"--alphabet {args.alphabet!r}: must be distinct letters A-Z, a-z and digits")
    if not args.case_sensitive and args.alphabet != args.alphabet.lower():
        parser.error(f"--alphabet {args.alphabet!r}: upper case letters need --case-sensitive")
    if not all(map(os.path.isfile, args.fonts)):
        parser.error(f"--fonts {next(font for font in args.fonts if not os.path.isfile(font))}: no such file")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    def seed(text: str) -> int:
        return range(10**9).index(int(text))               # else ValueError, from which argparse makes its message
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random draw, 0 … 999999999")
    parser.add_argument("--out-dir", type=Path, default=HERE / "outputs", help="where results and figures go")
    parser.add_argument("--data-dir", type=Path, help="where data lie (else KEXUE_DATA_DIR, else data/.cache)")


def save_results(args: argparse.Namespace, script: str, metrics: dict, claims: list, figures: list,
                 started: float) -> dict:
    """Write <out-dir>/<script>.json in one move and return what it holds."""
    packages = [name for name in ("numpy", "scipy", "keras", "tensorflow", "matplotlib") if name in sys.modules]
    results = {
        "script": script, "quick": args.quick, "seed": args.seed,
        "config": {key: str(value) if isinstance(value, Path) else value
                   for key, value in vars(args).items() if key not in ("out_dir", "data_dir")},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "device": f"{os.cpu_count()} cores, {platform.machine()}", "seconds": round(time.perf_counter() - started, 1),
        "metrics": metrics, "claims": claims, "figures": figures,
    }
    path = args.out_dir / f"{script}.json"
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(results, ensure_ascii=False, indent=1, default=float) + "\n", encoding="utf-8")
    os.replace(partial, path)
    for claim in claims:
        verdict = {True: "holds", False: "does NOT hold", None: "not measurable here"}[claim["holds"]]
        print(f"{claim['id']} {verdict}: {claim['claim']} | article: {claim['expected']} | here: {claim['measured']}")
    print(f"{'QUICK RUN, not results. ' if args.quick else ''}Wrote {path} in {results['seconds']} s")
    return results


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    args.count = min(args.count, 200) if args.quick else args.count
    folder = args.samples_dir or args.out_dir / "samples"
    settings = {"classes": args.alphabet, "length": args.length, "seed": args.seed,
                "case_sensitive": args.case_sensitive}
    generator = CaptchaGenerator(**settings, extra_fonts=args.fonts)
    speed = save_samples({**settings, "extra_fonts": args.fonts}, args.count, folder, args.workers)
    images, targets = generator.batch(0, min(args.count, 500))
    cut = np.mean([pieces(image) == args.length for image in images])
    save_pictures(plot_sheet(images[:36], map(generator.text, targets[:36])), args.out_dir / "make_samples_sheet.png")
    metrics = {"images": args.count, "images_per_second_written": round(speed, 1), "workers": args.workers,
               "cut_into_as_many_pieces_as_letters": round(float(cut), 3)}
    print(f"{args.count} images in {folder}: {speed:.0f} images/s on {args.workers} cores; cutting at empty columns "
          f"gives {args.length} pieces in {100 * metrics['cut_into_as_many_pieces_as_letters']:.0f} % of them")
    return save_results(args, "make_samples", metrics, [], ["make_samples_sheet.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
