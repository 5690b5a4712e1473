"""Draw captchas in the manner of the post's lost samples: paper, curves, letters, dots and grain.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/make_samples.py writes them as files; training draws them itself

A picture shows upper and lower case; its label is lower case. Image number i of seed s depends on
(s, i) alone: the same pixels in any process, any order and any batch.

Symbols: θ → turn, of a letter   (u, v) → a place in the letter's own frame
Differs from the article: drawn, not collected, since the 100,000 images of Tencent sit behind a
dead link. I and l, one stroke in many faces, are drawn as i and L, unless case_sensitive asks for
both cases.
"""

import hashlib
import math
import string
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HEIGHT = 53  # pixels, as the post's files have; four letters make a width of 129
FACES = [  # of letters: they come with matplotlib
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmtt10",
]
GLYPH_SIZE = 96  # pixels per em at which a letter is drawn once: twice the largest that is printed
ONE_STROKE = {"i": "i", "l": "L"}  # the case in which these two cannot be mistaken for each other
CURVES = 3  # at most, the first behind the letters
GRAIN = 24  # paper and ink keep this far from 0 and 255, and grain adds no more: nothing is clipped
SHEET = 512  # pixels; images are cut out of sheets of paper (128 high) and of grain (square)
STRIP = 128
PAPERS = 32
DOTS = 960  # on the sheet of grain: some 10 in an image cut at its left, 40 at its right


def image_width(length: int) -> int:
    """Width in pixels of a captcha of `length` characters: 129 for four, as in the post."""
    return 25 + 26 * length


def font_folder() -> Path:
    """Where matplotlib keeps its fonts."""
    import matplotlib  # slow to import: a wrong flag need not wait for it

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


class CaptchaGenerator:
    """Draws captcha number `index` of `seed`, alone or in batches.

    classes: the characters of a label. Without `case_sensitive` a label is lower case, and either
    case is drawn (`mixed_case=False`: only lower case); `label_as_drawn` draws the same images and
    returns the text as it looks. extra_fonts: TrueType files beside matplotlib's.
    """

    def __init__(
        self,
        classes: str = string.ascii_lowercase,
        length: int = 4,
        seed: int = 0,
        case_sensitive: bool = False,
        mixed_case: bool = True,
        label_as_drawn: bool = False,
        extra_fonts: tuple = (),
    ):
        self.classes = classes
        self.length = length
        self.seed = seed
        self.width = image_width(length)
        self.label_as_drawn = label_as_drawn
        self.names = string.ascii_letters if label_as_drawn else classes

        self.drawn = []  # the characters that may be drawn
        self.forms = np.zeros((len(classes), 2), int)  # class → which two of them
        for row, character in enumerate(classes):
            both = (character, character)
            if not case_sensitive and character in ONE_STROKE:
                both = (ONE_STROKE[character], ONE_STROKE[character])
            elif not case_sensitive and mixed_case:
                both = (character.lower(), character.upper())
            self.drawn += [form for form in dict.fromkeys(both) if form not in self.drawn]
            self.forms[row] = [self.drawn.index(form) for form in both]

        folder = font_folder()
        self.faces = [folder / f"{face}.ttf" for face in FACES]
        self.faces += [Path(font) for font in extra_fonts]
        self.glyphs = []  # [face][form], drawn once
        for face in self.faces:
            font = ImageFont.truetype(str(face), GLYPH_SIZE)
            self.glyphs.append([draw_glyph(font, form) for form in self.drawn])
        sizes = [[glyph.size for glyph in row] for row in self.glyphs]
        self.sizes = np.array(sizes).transpose(2, 0, 1)  # (width or height, face, form)
        self.hanging = {}  # (face, form, bend) → a letter whose sides hang

        noise = np.random.default_rng(20170724)  # the same sheets for every seed
        self.papers = make_papers(noise)
        self.uncovered, self.grain = make_grain(noise)

    # ------------------------------------------------------------ what a caller asks for
    def draw(self, index: int) -> tuple[np.ndarray, str]:
        """Image `index`: uint8 array (53, width, 3), and its label."""
        images, targets = self.batch(index, 1)
        return images[0], self.text(targets[0])

    def text(self, numbers: np.ndarray) -> str:
        """The label that a row of class numbers spells."""
        return "".join(self.names[number] for number in numbers)

    def batch(
        self, start: int, count: int, out: np.ndarray | None = None, layers: int = 4
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images start … start + count − 1, uint8 (count, 53, width, 3), and their class numbers,
        int32 (count, length).

        out: where to draw the images, if not into a new array. layers: how many are drawn on the
        paper, of: a curve behind the letters, the letters, curves before them, dots and grain.
        """
        images = np.empty((count, HEIGHT, self.width, 3), np.uint8) if out is None else out[:count]

        # all random choices of all images at once: uniform numbers, three groups of them
        sizes = (15, 13 * self.length, 12 * CURVES)
        uniform = uniform_numbers(self.seed, start, count, sum(sizes))
        whole, letters, curves = np.split(uniform, np.cumsum(sizes)[:2], axis=1)
        paper = pick(whole[:, 0], PAPERS)
        paper_x = pick(whole[:, 1], SHEET - self.width)
        paper_y = pick(whole[:, 2], STRIP - HEIGHT)
        grain_x = pick(whole[:, 3], SHEET - self.width)
        grain_y = pick(whole[:, 4], SHEET - HEIGHT)
        one_ink = whole[:, 5, None, None] < 0.5
        ink = 24 + pick(whole[:, None, 6:9], 107)
        letters = letters.reshape(count, self.length, 13)
        label, form, stamps = self._letters(whole[:, 9:15, None], letters, ink, one_ink)
        lines = self._curves(curves.reshape(count, CURVES, 12), ink)

        for number, pixels in enumerate(images):
            x, y = int(paper_x[number]), int(paper_y[number])
            image = self.papers[paper[number]].crop((x, y, x + self.width, y + HEIGHT))
            behind, *before = lines[number]
            if layers > 0:
                draw_lines(image, [behind])
            if layers > 1:
                self._stamp(image, stamps[number])
            if layers > 2:
                draw_lines(image, before)
            pixels[:] = image
            if layers > 3:
                x, y = grain_x[number], grain_y[number]
                window = np.s_[y : y + HEIGHT, x : x + self.width]
                np.add(pixels & self.uncovered[window], self.grain[window], out=pixels)

        if self.label_as_drawn:
            label = np.array([self.names.index(character) for character in self.drawn])[form]
        return images, label.astype(np.int32)

    # ------------------------------------------------------------ how it is drawn
    def _letters(
        self, whole: np.ndarray, letters: np.ndarray, ink: np.ndarray, one_ink: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list]:
        """Letters turned, sheared, bent by a wave through the word, closer than they are wide.

        whole: uniform numbers (count, 6, 1) of a word; letters: (count, length, 13) of its letters.
        Returns class and form of each letter, both (count, length), and per image its stamps
        ((face, form, bend), colour, corner, size, affine map).
        """
        amplitude, phase, period, family, common, shift = whole.transpose(1, 0, 2)
        label, form, face, scale, overlap, radius, angle, shear, stretch, rise = letters.transpose(
            2, 0, 1
        )[:10]
        tint = letters[..., 10:]

        # which letter, in which face: three words in ten keep to one face
        label = pick(label, len(self.classes))
        form = self.forms[label, pick(form, 2)]
        face = pick(np.where(family < 0.3, common, face), len(self.faces))
        wide, high = self.sizes[:, face, form]

        # along the word: letters overlap, and are squeezed where they are too many
        scale = between(scale, 0.75, 1.0)
        advance = wide / 2 * scale - between(overlap, 3.0, 6.5)
        squeeze = np.minimum(1, (self.width - 10) / advance.sum(axis=1, keepdims=True))
        free = self.width - squeeze * advance.sum(axis=1, keepdims=True)
        begin = free / 2 + between(shift, -0.25, 0.25) * np.maximum(0, free - 10)
        x = begin + squeeze * (advance.cumsum(axis=1) - advance / 2)

        # across it
        stretch = scale * between(stretch, 0.85, 1.15)
        room = np.clip((HEIGHT - high / 2 * stretch) / 2, 0, 9)
        y = HEIGHT / 2 + between(rise, -0.8, 0.8) * room

        # θ is normal, σ = 13° (Box and Muller)
        normal = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)
        turn = math.radians(13) * normal

        # the wave: a letter follows its slope, and bends by its curvature
        amplitude = between(amplitude, 2, 5)
        period = between(period, 50, 110)
        before, here, after = (
            amplitude * np.sin(2 * np.pi * (phase + (x + step) / period)) for step in (-13, 0, 13)
        )
        slope = (after - before) / 26
        bend = np.clip(np.rint(((before + after) / 2 - here) / 1.2), -3, 3).astype(int)

        high = high + abs(hang(wide / 2, bend))
        scale = scale * (0.5 + 0.5 * squeeze)
        shear = between(shear, -0.25, 0.25)
        box, affine = affine_map(x, y, wide, high, scale, stretch, turn, shear, slope)
        tinted = np.clip(ink + pick(tint, 141) - 70, 24, 150)
        letter = np.stack([face, form, bend], axis=-1)
        colour = np.where(one_ink, ink, tinted)
        return label, form, rows_of(letter, colour, box[..., :2], box[..., 2:], affine)

    def _curves(self, curves: np.ndarray, ink: np.ndarray) -> list:
        """Noise curves, half a sine period or so, in an ink like the letters'.

        curves: uniform numbers (count, CURVES, 12). Per image: (drawn or not, path, colour, width).
        """
        height, rise, phase, period, begin, end, slope = curves[..., 1:8, None].transpose(
            2, 0, 1, 3
        )
        begin = between(begin, -5, self.width * 0.35)
        end = between(end, self.width * 0.6, self.width + 5)
        along = (end - begin) * np.linspace(0, 1, 17)
        wave = np.sin(2 * np.pi * (phase + (begin + along) / between(period, 40, 200)))
        line = between(height, 8, HEIGHT - 8) + between(slope, -0.2, 0.2) * along
        y = line + between(rise, 3, 14) * wave
        path = np.stack([begin + along, y], axis=-1).reshape(*y.shape[:2], -1)
        present = (curves[..., 0] < 0.5) | (np.arange(CURVES) == 1)  # one always
        colour = np.clip(ink + pick(curves[..., 9:12], 101) - 50, 24, 190)
        thickness = 1 + pick(curves[..., 8], 2)
        return rows_of(present, path, colour, thickness)

    def _stamp(self, image: Image.Image, stamps: list) -> None:
        """Paste the letters of one image into it."""
        for (face, form, bend), colour, corner, size, affine in stamps:
            glyph = self._bent(face, form, bend)
            mask = glyph.transform(tuple(size), Image.Transform.AFFINE, affine)
            image.paste(tuple(colour), tuple(corner), mask)

    def _bent(self, face: int, form: int, bend: int) -> Image.Image:
        """A letter whose sides hang by `bend` steps."""
        if (face, form, bend) not in self.hanging:
            glyph = np.asarray(self.glyphs[face][form])
            columns = np.arange(glyph.shape[1])
            rows = np.arange(glyph.shape[0])[:, None]
            drop = hang(columns - glyph.shape[1] / 2, bend)
            tall = np.zeros((len(rows) + np.ptp(drop), len(columns)), np.uint8)
            tall[rows + drop - drop.min(), columns] = glyph
            self.hanging[face, form, bend] = Image.fromarray(tall)
        return self.hanging[face, form, bend]


# ---------------------------------------------------------------- random choices
def uniform_numbers(seed: int, start: int, count: int, needed: int) -> np.ndarray:
    """(count, needed) numbers in [0, 1); row i is a digest of (seed, start + i) alone."""
    rows = []
    for index in range(start, start + count):
        rows.append(hashlib.shake_128(f"{seed} {index}".encode()).digest(4 * needed))
    return np.frombuffer(b"".join(rows), "<u4").reshape(count, needed) / 2.0**32


def between(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers in [0, 1) → numbers in [low, high)."""
    return low + (high - low) * uniform


def pick(uniform: np.ndarray, count: int) -> np.ndarray:
    """Numbers in [0, 1) → 0 … count − 1, each equally likely."""
    return (uniform * count).astype(int)


def rows_of(*columns: np.ndarray) -> list:
    """Arrays (count, n, …) → per image, per letter or curve, a tuple of one value of each array."""
    lists = [column.tolist() for column in columns]
    return [list(zip(*image, strict=True)) for image in zip(*lists, strict=True)]


# ---------------------------------------------------------------- letters, curves, paper
def draw_glyph(font: ImageFont.FreeTypeFont, form: str) -> Image.Image:
    """A letter in grey, blurred so that every second pixel of it will do."""
    left, top, right, bottom = font.getbbox(form)
    glyph = Image.new("L", (right - left + 8, bottom - top + 8))
    ImageDraw.Draw(glyph).text((4 - left, 4 - top), form, fill=255, font=font)
    return glyph.filter(ImageFilter.GaussianBlur(1))


def draw_lines(image: Image.Image, lines: list) -> None:
    pen = ImageDraw.Draw(image)
    for present, path, colour, thickness in lines:
        if present:
            pen.line(path, tuple(colour), thickness)


def hang(across: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """Pixels by which a glyph's column hangs, `across` pixels from the glyph's middle.

    A wave as long as 75 printed pixels; one step of `bend` is 1.2 printed pixels at 13 from the
    middle.
    """
    wave = 1 - np.cos(np.minimum(np.pi, 0.042 * abs(across)))
    return np.rint(2.4 * bend / 0.54 * wave).astype(int)


def affine_map(x, y, wide, high, scale, stretch, turn, shear, slope):
    """Where a letter is printed, and the map from the printed pixels to those of its glyph.

    All arguments (count, length): centre (x, y), size of the glyph, and what is done to it. With
    (dx, dy) the way from the centre, the map goes
        (dx, dy − slope·dx), turned back by θ → (u, v) → 2 (u + shear·v) / scale, 2 v / stretch
    Returns the boxes (left, top, width, height), (count, length, 4), and the maps as Pillow takes
    them, (count, length, 6).
    """
    cos = np.cos(turn)
    sin = np.sin(turn)
    u = cos - sin * slope
    v = -sin - cos * slope
    # glyph x = a dx + b dy, glyph y = d dx + e dy
    a = 2 * (u + shear * v) / scale
    b = 2 * (sin + shear * cos) / scale
    d = 2 * v / stretch
    e = 2 * cos / stretch
    # how far the corners of the glyph reach, by the inverse of that matrix
    area = 2 * abs(a * e - b * d)
    reach_x = (abs(e) * wide + abs(b) * high) / area
    reach_y = (abs(d) * wide + abs(a) * high) / area
    left = np.floor(x - reach_x)
    top = np.floor(y - reach_y)
    right = np.ceil(x + reach_x)
    bottom = np.ceil(y + reach_y)
    box = np.stack([left, top, right - left, bottom - top], axis=-1).astype(int)
    c = wide / 2 + a * (left - x) + b * (top - y)
    f = high / 2 + d * (left - x) + e * (top - y)
    return box, np.stack([a, b, c, d, e, f], axis=-1)


def make_papers(noise: np.random.Generator) -> list[Image.Image]:
    """Strips of a coloured texture, each pulled towards a light tint."""
    layers = []
    for cells in (24, 48, 96):
        coarse = Image.fromarray(noise.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layers.append(coarse.resize((SHEET, SHEET), Image.BICUBIC))
    texture = Image.blend(Image.blend(layers[0], layers[1], 0.5), layers[2], 0.35)
    papers = []
    for top in noise.integers(0, SHEET - STRIP, PAPERS).tolist():
        tint = Image.new("RGB", (SHEET, STRIP), tuple(noise.integers(170, 256, 3).tolist()))
        strip = texture.crop((0, top, SHEET, top + STRIP))
        strip = Image.blend(strip, tint, noise.uniform(0.55, 0.85))
        papers.append(Image.fromarray(np.clip(strip, GRAIN, 255 - GRAIN)))
    return papers


def make_grain(noise: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A mask that is 0 under dots and 255 elsewhere, and what is added to an image, modulo 256."""
    grain = np.clip(noise.normal(0, 8, (SHEET, SHEET, 3)), -GRAIN, GRAIN).astype(np.int16)
    uncovered = np.full(grain.shape, 255, np.uint8)
    even = noise.random(DOTS) < 0.4
    across = np.where(even, noise.random(DOTS), noise.triangular(0, 1, 1, DOTS))
    down = noise.integers(0, SHEET - 2, DOTS)
    sizes = noise.choice((1, 2, 2), DOTS)
    columns = (across * (SHEET - 2)).astype(int)
    for x, y, size in zip(columns, down, sizes, strict=True):
        dot = np.s_[y : y + size, x : x + size]
        grain[dot] = np.maximum(grain[dot] + noise.integers(0, 221, 3), 0)
        uncovered[dot] = 0
    return uncovered, grain.astype(np.uint8)
