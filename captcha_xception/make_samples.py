"""Draw labelled four-letter captchas in the manner of the article's lost samples: seeded, as many as you like.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/make_samples.py --count 100000 --samples-dir samples      (--quick: 200 images)
Time:    0.5 ms of one core per image drawn (AMD EPYC); the file adds 0.3 ms

A picture shows upper and lower case; its label, the four characters before ".jpg", is lower case. Image number i
of seed s is drawn from a random stream of (s, i) alone: the same bytes in any process and any order.
Differs from the article: drawn, not collected (the 100,000 Tencent images sit behind a dead net-disk link). I and l,
one and the same stroke in many faces, are drawn as i and L, unless --case-sensitive asks for both cases.
"""
import argparse
import json
import math
import os
import platform
import random
import string
import sys
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
HEIGHT = 53                     # pixels, as the article's files; four letters make a width of 129
FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSansMono-Bold",
         "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic", "STIXGeneral",
         "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta", "cmb10", "cmr10", "cmss10", "cmtt10")
GLYPH_SIZE = 48                 # pixels per em at which a letter is drawn once, before it is bent and shrunk
AMBIGUOUS = {"i": "i", "l": "L"}


# ---------------------------------------------------------------- data
def image_width(length: int) -> int:
    """Width in pixels of a captcha of `length` characters: 129 for four, as in the article."""
    return 25 + 26 * length


class CaptchaGenerator:
    """Draws captcha number `index` of `seed`; holds the letters of every face, drawn once.

    classes: the characters of a label. Without `case_sensitive` a label is lower case and either case is drawn
    (`mixed_case=False`: only lower case); `label_as_drawn` draws the same images and returns the text as it looks.
    """

    def __init__(self, classes: str = string.ascii_lowercase, length: int = 4, seed: int = 0,
                 case_sensitive: bool = False, mixed_case: bool = True, label_as_drawn: bool = False,
                 extra_fonts: tuple = ()):
        self.classes, self.length, self.seed, self.label_as_drawn = classes, length, seed, label_as_drawn
        self.width = image_width(length)
        self.forms = {}                                    # label character -> what may be drawn for it
        for character in classes:
            both = dict.fromkeys((character.lower(), character.upper()))
            both = [character] if case_sensitive or not mixed_case else list(both)
            self.forms[character] = [AMBIGUOUS[character]] if character in AMBIGUOUS and not case_sensitive else both
        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        self.faces = [folder / f"{face}.ttf" for face in FACES] + [Path(font) for font in extra_fonts]
        drawn = dict.fromkeys(form for forms in self.forms.values() for form in forms)
        self.glyphs = [{form: self._glyph(font, form) for form in drawn}
                       for font in (ImageFont.truetype(str(face), GLYPH_SIZE) for face in self.faces)]
        noise = np.random.default_rng(20170724)            # texture and grain are the same for every seed
        coarse = [Image.fromarray(noise.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((512, 512), Image.BICUBIC)
                  for cells in (24, 48, 96)]
        self.texture = Image.blend(Image.blend(coarse[0], coarse[1], 0.5), coarse[2], 0.35)
        self.grain = noise.normal(0, 8, 1 << 18).astype(np.int16)

    @staticmethod
    def _glyph(font, form: str) -> Image.Image:
        left, top, right, bottom = font.getbbox(form)
        glyph = Image.new("L", (right - left + 4, bottom - top + 4))
        ImageDraw.Draw(glyph).text((2 - left, 2 - top), form, fill=255, font=font)
        return glyph

    def draw(self, index: int) -> tuple[np.ndarray, str]:
        """Image `index`: uint8 array (53, width, 3), and its label."""
        stream = random.Random((self.seed << 48) + index)
        label = "".join(stream.choices(self.classes, k=self.length))
        uniform, width = stream.uniform, self.width

        # paper: a crop of the texture, pulled towards a light tint
        x, y = stream.randrange(512 - width % 512), stream.randrange(512 - HEIGHT)
        image = self.texture.crop((x, y, x + width, y + HEIGHT))
        tint = tuple(stream.randint(170, 255) for _ in range(3))
        image = Image.blend(image, Image.new("RGB", image.size, tint), uniform(0.55, 0.85))
        ink = tuple(stream.randint(0, 130) for _ in range(3))
        one_ink = stream.random() < 0.5
        pen = ImageDraw.Draw(image)
        self._curves(pen, stream, ink, stream.randint(0, 1))          # some curves lie behind the letters

        # letters: turned, sheared, bent by a wave that runs through the whole word, closer than they are wide
        amplitude, phase, period = uniform(2, 5), uniform(0, 2 * math.pi), uniform(50, 110)
        drawn = [stream.choice(self.forms[character]) for character in label]
        family = stream.choice(self.glyphs) if stream.random() < 0.3 else None
        glyphs = [(family or stream.choice(self.glyphs))[form] for form in drawn]
        scales = [uniform(0.75, 1.0) for _ in glyphs]
        advances = [glyph.width * scale - uniform(3.0, 6.5) for glyph, scale in zip(glyphs, scales)]
        squeeze = min(1.0, (width - 10) / sum(advances))
        free = width - squeeze * sum(advances)             # the word sits near the middle
        pen_x = free / 2 - 2 + uniform(-0.25, 0.25) * max(0.0, free - 10)
        for glyph, scale, advance in zip(glyphs, scales, advances):
            turn, shear, stretch = math.radians(stream.gauss(0, 13)), uniform(-0.25, 0.25), scale * uniform(0.85, 1.15)
            centre_x = pen_x + squeeze * advance / 2 + 2
            centre_y = HEIGHT / 2 + uniform(-0.8, 0.8) * min(max(0.0, (HEIGHT - glyph.height * stretch) / 2), 9)
            pen_x += squeeze * advance
            colour = ink if one_ink else tuple(min(150, max(0, level + stream.randint(-70, 70))) for level in ink)
            self._stamp(image, glyph, colour, centre_x, centre_y, scale * (0.5 + 0.5 * squeeze), stretch, turn, shear,
                        lambda at: amplitude * math.sin(phase + 2 * math.pi * at / period))

        self._curves(pen, stream, ink, stream.randint(1, 2))
        for _ in range(stream.randint(10, 40)):
            at_x, at_y = stream.randrange(width), stream.randrange(HEIGHT)
            size = stream.choice((0, 1, 1))
            pen.rectangle((at_x, at_y, at_x + size, at_y + size), fill=tuple(stream.randint(0, 220) for _ in range(3)))
        pixels = np.asarray(image).astype(np.int16)
        start = stream.randrange(self.grain.size - pixels.size)
        pixels += self.grain[start:start + pixels.size].reshape(pixels.shape)
        return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8), "".join(drawn) if self.label_as_drawn else label

    def batch(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Images start … start + count − 1, uint8 (count, 53, width, 3), and class numbers int32 (count, length)."""
        images = np.empty((count, HEIGHT, self.width, 3), np.uint8)
        targets = np.empty((count, self.length), np.int32)
        classes = string.ascii_letters if self.label_as_drawn else self.classes
        for row in range(count):
            images[row], label = self.draw(start + row)
            targets[row] = [classes.index(character) for character in label]
        return images, targets

    @staticmethod
    def _stamp(image, glyph, colour, centre_x, centre_y, scale, stretch, turn, shear, wave) -> None:
        """Print one letter: the map from target to glyph is bilinear on a 2×2 grid of its box."""
        half_w, half_h, cos, sin = glyph.width / 2, glyph.height / 2, math.cos(turn), math.sin(turn)
        reach_x = int(abs(cos) * half_w * scale + (abs(sin) + 0.25) * half_h * stretch) + 2
        reach_y = int(abs(cos) * half_h * stretch + abs(sin) * half_w * scale) + 4
        left, top, middle = int(centre_x), int(centre_y), wave(centre_x)
        columns = []
        for offset in (-reach_x, 0, reach_x):
            bend, column = (wave(left + offset) - middle) * 1.2, []
            for drop in (-reach_y, 0, reach_y):
                # ((x, y) − centre) → turned back by θ, sheared, divided by the scale
                dx, dy = left + offset - centre_x, top + drop - centre_y - bend
                dx += 0.35 * bend * (1 if drop > 0 else -1 if drop < 0 else 0)
                u, v = cos * dx + sin * dy, cos * dy - sin * dx
                column.append(((u + shear * v) / scale + half_w, v / stretch + half_h))
            columns.append(column)
        mesh = [((i * reach_x, j * reach_y, (i + 1) * reach_x, (j + 1) * reach_y),
                 (*columns[i][j], *columns[i][j + 1], *columns[i + 1][j + 1], *columns[i + 1][j]))
                for i in range(2) for j in range(2)]
        mask = glyph.transform((2 * reach_x, 2 * reach_y), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
        image.paste(colour, (left - reach_x, top - reach_y), mask)

    def _curves(self, pen, stream, ink, count: int) -> None:
        """Noise curves: half a sine period or so, in an ink like the letters'."""
        for _ in range(count):
            height, rise = stream.uniform(8, HEIGHT - 8), stream.uniform(3, 14)
            phase, period = stream.uniform(0, 2 * math.pi), stream.uniform(40, 200)
            start, end = stream.uniform(-5, self.width * 0.35), stream.uniform(self.width * 0.6, self.width + 5)
            slope = stream.uniform(-0.2, 0.2)
            points = [(x, height + slope * (x - start) + rise * math.sin(phase + 2 * math.pi * x / period))
                      for x in (start + (end - start) * step / 22 for step in range(23))]
            colour = tuple(min(190, max(0, channel + stream.randint(-50, 50))) for channel in ink)
            pen.line(points, fill=colour, width=stream.choice((1, 1, 2, 2)))


# ---------------------------------------------------------------- batches for training, made in other processes
_drawer: CaptchaGenerator | None = None


def _start_drawer(settings: dict) -> None:
    global _drawer
    getattr(os, "nice", int)(10)                           # training first: drawing takes the time that it leaves
    _drawer = CaptchaGenerator(**settings)


def _draw_batch(start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    return _drawer.batch(start, count)


class BatchStream:
    """Batches of captchas in order of their index, drawn ahead by `workers` processes while the caller trains.

    settings: arguments of CaptchaGenerator. close() ends the processes.
    """

    def __init__(self, settings: dict, workers: int = 2, ahead: int = 8):
        # spawn: a fork of a process in which TensorFlow or JAX runs its threads may hang
        self.ahead, self.pool = ahead, ProcessPoolExecutor(workers, get_context("spawn"), _start_drawer, (settings,))

    def batches(self, start: int, count: int, batch_size: int):
        """Yield (uint8 images (batch, 53, width, 3), int32 classes (batch, length)) for start … start + count − 1."""
        waiting, position, stop = deque(), start, start + count
        while waiting or position < stop:
            while position < stop and len(waiting) < self.ahead:
                waiting.append(self.pool.submit(_draw_batch, position, min(batch_size, stop - position)))
                position += batch_size
            yield waiting.popleft().result()

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)


# ---------------------------------------------------------------- files
def save_image(pixels: np.ndarray, label: str, index: int, folder: Path) -> Path:
    """Write 00000012_abcd.jpg: quality 90, the same bytes for the same pixels and Pillow."""
    path = folder / f"{index:08d}_{label}.jpg"
    Image.fromarray(pixels).save(path.with_suffix(".part"), format="JPEG", quality=90)
    os.replace(path.with_suffix(".part"), path)
    return path


def _save_range(start: int, count: int, folder: Path) -> int:
    return len([save_image(*_drawer.draw(index), index, folder) for index in range(start, start + count)])


def save_samples(settings: dict, count: int, folder: Path, workers: int) -> float:
    """Write images 0 … count − 1 into `folder`; returns images per second."""
    folder.mkdir(parents=True, exist_ok=True)
    started, done, piece = time.perf_counter(), 0, 250
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_drawer, (settings,)) as pool:
        jobs = [pool.submit(_save_range, start, min(piece, count - start), folder) for start in range(0, count, piece)]
        for job in jobs:
            done += job.result()
            if sys.stdout.isatty():
                print(f"\r[{'#' * (40 * done // count):.<40}] {done}/{count}", end="\n" * (done == count), flush=True)
    return count / (time.perf_counter() - started)


# ---------------------------------------------------------------- evaluation
def pieces(pixels: np.ndarray) -> int:
    """Into how many pieces a cut at every inkless column divides the word. pixels: (53, width, 3) uint8."""
    inked = ((grey := pixels.mean(axis=2)) < np.median(grey) - 40).sum(axis=0) > 1     # one dark pixel is a dot
    return int((inked[1:] > inked[:-1]).sum() + inked[0])


# ---------------------------------------------------------------- figures
def save_pictures(figure: Figure, path: Path) -> None:
    """A figure made of noisy pictures, in 48 colours: a fifth of the file."""
    figure.savefig(path, dpi=150)
    with Image.open(path) as image:
        image.convert("RGB").quantize(48).save(path, optimize=True)


def plot_sheet(images: list, labels: list, columns: int = 6) -> Figure:
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
                                   ("--workers", args.workers, 1, 256), ("--seed", args.seed, 0, 10**9)):
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
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random draw")
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
    settings = {"classes": args.alphabet, "length": args.length, "seed": args.seed, "case_sensitive": args.case_sensitive}
    generator = CaptchaGenerator(**settings, extra_fonts=args.fonts)
    speed = save_samples({**settings, "extra_fonts": args.fonts}, args.count, folder, args.workers)
    cpu_started = time.process_time()
    pairs = [generator.draw(index) for index in range(min(args.count, 500))]
    drawn_per_second = len(pairs) / (time.process_time() - cpu_started)
    cut = np.mean([pieces(image) == args.length for image, _ in pairs])
    save_pictures(plot_sheet(*zip(*pairs[:36])), args.out_dir / "make_samples_sheet.png")
    metrics = {"images": args.count, "images_per_second_written": round(speed, 1), "workers": args.workers,
               "images_per_second_drawn_one_core": round(drawn_per_second, 1),
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
