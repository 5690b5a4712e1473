"""Draw a four-letter captcha in the manner of the article's lost samples: paper, curves, letters, dots and grain.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/draw_captcha.py                        (--quick: fewer images)
Time:    2 s (Intel Xeon); 0.15 ms of one core per image

A picture shows upper and lower case; its label is lower case. Image number i of seed s depends on (s, i) alone: the
same pixels in any process, any order and any batch.
Symbols: θ → turn, of a letter   u, v → place in the letter's own frame
Differs from the article: drawn, not collected (the 100,000 Tencent images sit behind a dead net-disk link). I and l,
one and the same stroke in many faces, are drawn as i and L, unless case_sensitive asks for both cases.
"""
import argparse
import hashlib
import json
import math
import os
import platform
import string
import sys
import time
from importlib.metadata import version
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HERE = Path(__file__).resolve().parent
HEIGHT = 53                     # pixels, as the article's files; four letters make a width of 129
FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSansMono-Bold",
         "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic", "STIXGeneral",
         "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta", "cmb10", "cmr10", "cmss10", "cmtt10")
GLYPH_SIZE = 96                 # pixels per em at which a letter is drawn once: twice the largest that is printed
AMBIGUOUS = {"i": "i", "l": "L"}
CURVES = 3                      # noise curves at most, the first behind the letters


# ---------------------------------------------------------------- data
def image_width(length: int) -> int:
    """Width in pixels of a captcha of `length` characters: 129 for four, as in the article."""
    return 25 + 26 * length


class CaptchaGenerator:
    """Draws captcha number `index` of `seed`, alone or in batches; holds the letters of every face, drawn once.

    classes: the characters of a label. Without `case_sensitive` a label is lower case and either case is drawn
    (`mixed_case=False`: only lower case); `label_as_drawn` draws the same images and returns the text as it looks.
    """

    def __init__(self, classes: str = string.ascii_lowercase, length: int = 4, seed: int = 0,
                 case_sensitive: bool = False, mixed_case: bool = True, label_as_drawn: bool = False,
                 extra_fonts: tuple = ()):
        self.classes, self.length, self.seed, self.width = classes, length, seed, image_width(length)
        self.label_as_drawn, self.names = label_as_drawn, string.ascii_letters if label_as_drawn else classes
        self.drawn = []                                    # characters that may be drawn; per class, which two of them:
        self.forms = np.zeros((len(classes), 2), int)
        for row, character in enumerate(classes):
            both = (character, character)
            if not case_sensitive and character in AMBIGUOUS:
                both = (AMBIGUOUS[character],) * 2
            elif not case_sensitive and mixed_case:
                both = (character.lower(), character.upper())
            self.drawn += [form for form in dict.fromkeys(both) if form not in self.drawn]
            self.forms[row] = [self.drawn.index(form) for form in both]
        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        self.faces = [folder / f"{face}.ttf" for face in FACES] + [Path(font) for font in extra_fonts]
        self.glyphs = [[self._glyph(font, form) for form in self.drawn]
                       for font in (ImageFont.truetype(str(face), GLYPH_SIZE) for face in self.faces)]
        self.sizes = np.array([[glyph.size for glyph in row] for row in self.glyphs]).transpose(2, 0, 1)
        self.bent = {}                                     # (face, form, bend) → a letter that hangs
        self._make_sheets()

    def _make_sheets(self) -> None:
        """Papers, and a sheet of grain and dots: images are cut out of them. The same for every seed.

        Paper and ink keep 24 off either end of 0 … 255, so that grain, never more, is added without clipping.
        """
        noise = np.random.default_rng(20170724)
        coarse = [Image.fromarray(noise.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
                  .resize((512, 512), Image.BICUBIC) for cells in (24, 48, 96)]
        texture = Image.blend(Image.blend(coarse[0], coarse[1], 0.5), coarse[2], 0.35)
        self.papers = []
        for top in noise.integers(0, 512 - 128, 32).tolist():      # a strip of the texture, pulled to a light tint
            tint = Image.new("RGB", (512, 128), tuple(noise.integers(170, 256, 3).tolist()))
            strip = Image.blend(texture.crop((0, top, 512, top + 128)), tint, noise.uniform(0.55, 0.85))
            self.papers.append(Image.fromarray(np.clip(strip, 24, 231)))
        grain = np.clip(noise.normal(0, 8, (512, 512, 3)), -24, 24).astype(np.int16)
        self.uncovered = np.full(grain.shape, 255, np.uint8)
        across = np.where(noise.random(960) < 0.4, noise.random(960), noise.triangular(0, 1, 1, 960))
        for x, y, size in zip(across * 510, noise.integers(0, 510, 960), noise.choice((1, 2, 2), 960)):
            dot = np.s_[y:y + size, int(x):int(x) + size]  # some 10 in an image at the sheet's left, 40 at its right
            grain[dot] = np.maximum(grain[dot] + noise.integers(0, 221, 3), 0)
            self.uncovered[dot] = 0
        self.grain = grain.astype(np.uint8)                # modulo 256, as the sum will be

    @staticmethod
    def _glyph(font, form: str) -> Image.Image:
        """A letter in grey, blurred so that every second pixel will do."""
        left, top, right, bottom = font.getbbox(form)
        glyph = Image.new("L", (right - left + 8, bottom - top + 8))
        ImageDraw.Draw(glyph).text((4 - left, 4 - top), form, fill=255, font=font)
        return glyph.filter(ImageFilter.GaussianBlur(1))

    def _bent(self, face: int, form: int, bend: int) -> Image.Image:
        """A letter whose sides hang by `bend` steps."""
        if (face, form, bend) not in self.bent:
            glyph = np.asarray(self.glyphs[face][form])
            hang = _hang(np.arange(glyph.shape[1]) - glyph.shape[1] / 2, bend)
            tall = np.zeros((len(glyph) + np.ptp(hang), len(hang)), np.uint8)
            tall[np.arange(len(glyph))[:, None] + hang - hang.min(), np.arange(len(hang))] = glyph
            self.bent[face, form, bend] = Image.fromarray(tall)
        return self.bent[face, form, bend]

    def draw(self, index: int) -> tuple[np.ndarray, str]:
        """Image `index`: uint8 array (53, width, 3), and its label."""
        images, targets = self.batch(index, 1)
        return images[0], self.text(targets[0])

    def text(self, numbers: np.ndarray) -> str:
        """The label that a row of class numbers spells."""
        return "".join(self.names[number] for number in numbers)

    def batch(self, start: int, count: int, out: np.ndarray | None = None,
              layers: int = 4) -> tuple[np.ndarray, np.ndarray]:
        """Images start … start + count − 1, uint8 (count, 53, width, 3), and class numbers int32 (count, length).

        out: where to draw the images, if not into a new array. layers: how many are drawn on the paper, of a curve
        behind the letters, the letters, curves before them, dots and grain. What can be computed for all images at
        once is.
        """
        images = np.empty((count, HEIGHT, self.width, 3), np.uint8) if out is None else out[:count]
        needed = 15, 13 * self.length, 12 * CURVES         # random numbers in [0, 1): a digest of (seed, index)
        digests = (hashlib.shake_128(f"{self.seed} {index}".encode()).digest(4 * sum(needed))
                   for index in range(start, start + count))
        uniform = np.frombuffer(b"".join(digests), "<u4").reshape(count, -1) / 2.0 ** 32
        whole, letters, curves = np.split(uniform, np.cumsum(needed)[:2], axis=1)
        paper, x, y, grain_x, grain_y, one_ink, *red_green_blue = whole[:, :9].T
        paper, x, y = _pick(paper, len(self.papers)), _pick(x, 512 - self.width), _pick(y, 128 - HEIGHT)
        grain_x, grain_y = _pick(grain_x, 512 - self.width), _pick(grain_y, 512 - HEIGHT)
        ink = 24 + _pick(np.stack(red_green_blue, axis=-1), 107)[:, None]
        label, form, stamps = self._letters(whole[:, 9:, None], letters.reshape(count, self.length, 13), ink,
                                     one_ink[:, None, None] < 0.5)
        lines = self._curves(curves.reshape(count, CURVES, 12), ink)
        places = zip(images, paper.tolist(), x.tolist(), y.tolist(), grain_x.tolist(), grain_y.tolist(), stamps, lines)
        for pixels, paper, x, y, grain_x, grain_y, stamps, lines in places:
            image = self.papers[paper].crop((x, y, x + self.width, y + HEIGHT))
            pen = ImageDraw.Draw(image)
            behind, *before = lines
            self._draw_lines(pen, [behind] if layers > 0 else [])
            for letter, colour, corner, size, affine in stamps if layers > 1 else []:
                mask = self._bent(*letter).transform(tuple(size), Image.Transform.AFFINE, affine)
                image.paste(tuple(colour), tuple(corner), mask)
            self._draw_lines(pen, before if layers > 2 else [])
            sheet = np.s_[grain_y:grain_y + HEIGHT, grain_x:grain_x + self.width]
            if layers > 3:
                np.add(np.asarray(image) & self.uncovered[sheet], self.grain[sheet], out=pixels)
            else:
                pixels[:] = image
        if self.label_as_drawn:
            label = np.array([self.names.index(character) for character in self.drawn])[form]
        return images, label.astype(np.int32)

    @staticmethod
    def _draw_lines(pen, lines: list) -> None:
        for present, path, colour, thick in lines:
            if present:
                pen.line(path, tuple(colour), thick)

    def _letters(self, whole: np.ndarray, letters: np.ndarray, ink: np.ndarray, one_ink: np.ndarray) -> tuple:
        """Letters turned, sheared, bent by a wave that runs through the word, closer than they are wide.

        whole: uniform numbers (count, 6, 1); letters: (count, length, 13). Returns classes and forms (count, length),
        and per image its stamps ((face, form, bend), colour, corner, size, affine map).
        """
        amplitude, phase, period, family, common, shift = whole.transpose(1, 0, 2)
        label, form, face, scale, overlap, radius, angle, shear, stretch, rise, *tint = letters.transpose(2, 0, 1)
        label = _pick(label, len(self.classes))
        form = self.forms[label, _pick(form, 2)]
        face = _pick(np.where(family < 0.3, common, face), len(self.faces))        # three in ten words keep to one face
        wide, high = self.sizes[:, face, form]
        scale = _between(scale, 0.75, 1.0)
        advance = wide / 2 * scale - _between(overlap, 3.0, 6.5)
        squeeze = np.minimum(1, (self.width - 10) / advance.sum(axis=1, keepdims=True))
        free = self.width - squeeze * advance.sum(axis=1, keepdims=True)            # the word sits near the middle
        begin = free / 2 + _between(shift, -0.25, 0.25) * np.maximum(0, free - 10)
        x = begin + squeeze * (advance.cumsum(axis=1) - advance / 2)
        stretch = scale * _between(stretch, 0.85, 1.15)
        y = HEIGHT / 2 + _between(rise, -0.8, 0.8) * np.clip((HEIGHT - high / 2 * stretch) / 2, 0, 9)
        turn = math.radians(13) * np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)  # normal: Box, Muller
        amplitude, period = _between(amplitude, 2, 5), _between(period, 50, 110)
        before, here, after = (amplitude * np.sin(2 * np.pi * (phase + (x + step) / period)) for step in (-13, 0, 13))
        bend = np.clip(np.rint(((before + after) / 2 - here) / 1.2), -3, 3).astype(int)
        high, scale = high + abs(_hang(wide / 2, bend)), scale * (0.5 + 0.5 * squeeze)
        box, affine = _affine(x, y, wide, high, scale, stretch, turn, shear=_between(shear, -0.25, 0.25),
                              slope=(after - before) / 26)
        tinted = np.clip(ink + _pick(np.stack(tint, axis=-1), 141) - 70, 24, 150)
        letter, colour = np.stack([face, form, bend], axis=-1), np.where(one_ink, ink, tinted)
        columns = letter, colour, box[..., :2], box[..., 2:], affine
        return label, form, [list(zip(*image)) for image in zip(*(column.tolist() for column in columns))]

    def _curves(self, curves: np.ndarray, ink: np.ndarray) -> list:
        """Noise curves, half a sine period or so, in an ink like the letters': (drawn or not, path, colour, width)."""
        height, rise, phase, period, begin, end, slope = curves[..., 1:8, None].transpose(2, 0, 1, 3)
        begin, end = _between(begin, -5, self.width * 0.35), _between(end, self.width * 0.6, self.width + 5)
        along = (end - begin) * np.linspace(0, 1, 17)
        wave = np.sin(2 * np.pi * (phase + (begin + along) / _between(period, 40, 200)))
        y = _between(height, 8, HEIGHT - 8) + _between(slope, -0.2, 0.2) * along + _between(rise, 3, 14) * wave
        path = np.stack([begin + along, y], axis=-1).reshape(*y.shape[:2], -1)
        present = (curves[..., 0] < 0.5) | (np.arange(CURVES) == 1)      # one always
        colour = np.clip(ink + _pick(curves[..., 9:12], 101) - 50, 24, 190)
        columns = present, path, colour, 1 + _pick(curves[..., 8], 2)
        return [list(zip(*image)) for image in zip(*(column.tolist() for column in columns))]


def _between(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + (high - low) * uniform


def _pick(uniform: np.ndarray, count: int) -> np.ndarray:
    return (uniform * count).astype(int)


def _hang(across: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """Pixels by which a glyph's column hangs, `across` pixels from its middle: a wave as long as 75 printed pixels.

    One step of `bend` is 1.2 printed pixels at 13 from the middle.
    """
    return np.rint(2.4 * bend / 0.54 * (1 - np.cos(np.minimum(np.pi, 0.042 * abs(across))))).astype(int)


def _affine(x, y, wide, high, scale, stretch, turn, shear, slope) -> tuple[np.ndarray, np.ndarray]:
    """Box (left, top, width, height) of a letter centred at (x, y), and the map from its pixels to the glyph's.

    (dx, dy) from the centre → dy − slope·dx → turned back by θ: (u, v) → 2 (u + shear·v) / scale, 2 v / stretch
    """
    cos, sin = np.cos(turn), np.sin(turn)
    u, v = cos - sin * slope, -sin - cos * slope
    a, b, d, e = 2 * (u + shear * v) / scale, 2 * (sin + shear * cos) / scale, 2 * v / stretch, 2 * cos / stretch
    area = 2 * abs(a * e - b * d)
    reach_x, reach_y = (abs(e) * wide + abs(b) * high) / area, (abs(d) * wide + abs(a) * high) / area
    left, top = np.floor(x - reach_x), np.floor(y - reach_y)
    box = np.stack([left, top, np.ceil(x + reach_x) - left, np.ceil(y + reach_y) - top], axis=-1).astype(int)
    affine = [a, b, wide / 2 + a * (left - x) + b * (top - y), d, e, high / 2 + d * (left - x) + e * (top - y)]
    return box, np.stack(affine, axis=-1)


# ---------------------------------------------------------------- figures
def save_pictures(figure: Figure, path: Path, colours: int = 48) -> None:
    """A figure made of noisy pictures, in few colours: a fifth of the file."""
    figure.savefig(path, dpi=150)
    with Image.open(path) as image:
        image.convert("RGB").quantize(colours).save(path, optimize=True)


def plot_layers(generator: CaptchaGenerator, count: int = 4) -> Figure:
    """A few captchas, a row each, layer by layer."""
    titles = ("paper", "a curve behind", "letters", "curves before", "dots and grain")
    figure = Figure(figsize=(7.5, 0.2 + 0.65 * count), layout="constrained")
    for column, (title, axes) in enumerate(zip(titles, figure.subplots(count, len(titles)).T)):
        for image, cell in zip(generator.batch(0, count, layers=column)[0], axes):
            cell.imshow(image)
            cell.set_axis_off()
        axes[0].set_title(title, fontsize=9)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--count", type=int, default=10000, help="images to draw for the measurement of speed")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    args.count = min(args.count, 500) if args.quick else args.count
    if not 1 <= args.count <= 10**8:
        parser.error(f"--count {args.count}: must lie in 1 … 100000000")
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
    generator, begun = CaptchaGenerator(seed=args.seed), time.process_time()
    for start in range(0, args.count, 64):
        generator.batch(start, min(64, args.count - start))
    metrics = {"images_per_second_one_core": round(args.count / (time.process_time() - begun), 1)}
    print(f"{metrics['images_per_second_one_core']:.0f} images/s on one core")
    save_pictures(plot_layers(generator), args.out_dir / "draw_captcha_layers.png", 200)
    return save_results(args, "draw_captcha", metrics, [], ["draw_captcha_layers.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
