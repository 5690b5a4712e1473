"""Write labelled captchas as files, seeded, as many as you like: samples to train on.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/make_samples.py --count 100000 --samples-dir samples

The label stands before ".jpg", as in the post's samples. The same seed gives the same bytes, by any
number of processes.
Differs from the article: drawn by draw_captcha.py, not collected.
"""

import argparse
import os
import signal
import string
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont
from tqdm import tqdm

import cli
from captcha_files import FewColours
from draw_captcha import CaptchaGenerator

PIECE = 250  # images of a job


# ---------------------------------------------------------------- files
def save_image(pixels: np.ndarray, label: str, index: int, folder: Path) -> Path:
    """Write 00000012_abcd.jpg: quality 90, the same bytes for the same pixels and Pillow."""
    path = folder / f"{index:08d}_{label}.jpg"
    partial = path.with_suffix(".part")
    Image.fromarray(pixels).save(partial, format="JPEG", quality=90)
    os.replace(partial, path)
    return path


_drawer: CaptchaGenerator | None = None  # of a process that draws


def _start_drawer(settings: dict) -> None:
    global _drawer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    _drawer = CaptchaGenerator(**settings)


def _save_range(start: int, count: int, folder: Path) -> int:
    images, targets = _drawer.batch(start, count)
    for row in range(count):
        save_image(images[row], _drawer.text(targets[row]), start + row, folder)
    return count


def save_samples(settings: dict, count: int, folder: Path, workers: int) -> float:
    """Write images 0 … count − 1 into `folder`; returns images per second."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_drawer, (settings,))
    try:
        jobs = []
        for start in range(0, count, PIECE):
            jobs.append(pool.submit(_save_range, start, min(PIECE, count - start), folder))
        with tqdm(total=count, unit=" images", disable=None) as bar:
            for job in jobs:
                bar.update(job.result())
    finally:
        pool.shutdown(cancel_futures=True)
    return count / (time.perf_counter() - started)


# ---------------------------------------------------------------- evaluation
def pieces(pixels: np.ndarray) -> int:
    """Into how many pieces a cut at every column without ink divides a word.

    pixels: uint8 (height, width, 3). The post calls its captchas hard to cut; this is the simplest
    way to try.
    """
    grey = pixels.mean(axis=2)
    dark = grey < np.median(grey) - 40
    inked = dark.sum(axis=0) > 1  # a single dark pixel is a dot
    begins = inked[1:] > inked[:-1]
    return int(inked[0] + begins.sum())


# ---------------------------------------------------------------- figures
def plot_sheet(images: np.ndarray, labels: list, columns: int = 4):
    """Samples with their labels."""
    rows = -(-len(images) // columns)
    figure, grid = cli.subplots(rows, columns, height=1.05 * rows, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, label in zip(grid.flat, images, labels, strict=False):
        axes.imshow(image)
        axes.set_title(label)
    return FewColours(figure)


def plot_layers(generator: CaptchaGenerator, count: int = 3):
    """How a captcha is drawn: a few of them, a row each, layer by layer."""
    titles = ("paper", "curve behind", "letters", "curves before", "dots, grain")
    figure, grid = cli.subplots(count, len(titles), height=0.2 + 0.75 * count, squeeze=False)
    for column, title in enumerate(titles):
        images, _ = generator.batch(0, count, layers=column)
        for axes, image in zip(grid[:, column], images, strict=True):
            axes.imshow(image)
            axes.set_axis_off()
        grid[0, column].set_title(title)
    return FewColours(figure)


# ---------------------------------------------------------------- command line
def alphabet(text: str) -> str:
    if not (text.isascii() and text.isalnum()) or len(set(text)) < len(text):
        raise argparse.ArgumentTypeError(f"{text!r}: must be distinct letters A-Z, a-z and digits")
    return text


def font(text: str) -> str:
    try:
        ImageFont.truetype(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None
    return text


def flags(parser):
    letters = string.ascii_lowercase
    add = parser.add_argument
    add("--count", type=cli.between(1, 10**8), default=1000, help="images (the article: 100000)")
    add("--samples-dir", type=Path, help="where the JPEG files go (else <out-dir>/samples)")
    add("--alphabet", type=alphabet, default=letters, help="characters of the labels")
    add("--length", type=cli.between(1, 12), default=4, help="characters of an image")
    add("--case-sensitive", action="store_true", help="A and a are two: 52 letters if not told")
    add("--fonts", nargs="*", type=font, default=[], help="TrueType files beside matplotlib's")
    add("--workers", type=cli.between(1, 256), default=os.cpu_count(), help="processes")
    add("--seed", **cli.SEED)


def main(args):
    if args.case_sensitive and args.alphabet == string.ascii_lowercase:
        args.alphabet = string.ascii_letters
    if not args.case_sensitive and args.alphabet != args.alphabet.lower():
        raise ValueError(f"--alphabet {args.alphabet}: upper case needs --case-sensitive")
    args.count = min(args.count, 200) if args.quick else args.count
    folder = args.samples_dir or args.out_dir / "samples"
    settings = {
        "classes": args.alphabet,
        "length": args.length,
        "seed": args.seed,
        "case_sensitive": args.case_sensitive,
        "extra_fonts": tuple(args.fonts),
    }
    generator = CaptchaGenerator(**settings)
    speed = save_samples(settings, args.count, folder, args.workers)

    images, targets = generator.batch(0, min(args.count, 500))
    cut = np.mean([pieces(image) == args.length for image in images])
    print(
        f"{args.count} images in {folder}: {speed:.0f} images/s on {args.workers} cores; cutting "
        f"at empty columns gives {args.length} pieces in {100 * cut:.0f} % of them"
    )
    metrics = {
        "images": args.count,
        "images_per_second_written": round(speed, 1),
        "workers": args.workers,
        "cut_into_as_many_pieces_as_letters": round(float(cut), 3),
    }
    labels = [generator.text(row) for row in targets[:12]]
    figures = {
        "make_samples_sheet": plot_sheet(images[:12], labels),
        "make_samples_layers": plot_layers(generator, min(3, args.count)),
    }
    return metrics, [], figures


if __name__ == "__main__":
    cli.run(main, flags)
