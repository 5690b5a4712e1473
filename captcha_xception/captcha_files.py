"""Captchas as files: pictures as a viewer shows them, and the labels that their names carry.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Differs from the article: there a label is the four characters before ".jpg", whatever the name;
here the names of a folder are looked at first, and a folder whose labels cannot be told is refused.

Nothing here imports TensorFlow: a bad file is named at once.
"""

import contextlib
import hashlib
import json
import re
import statistics
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
LABEL_PARTS = ("auto", "first", "last", "end")  # of a file's name
LONGEST_LABEL = 12  # characters; a longer one is a hash or a sentence
LONGEST_NUMBER = 6  # digits of a label of digits; a longer one is a time or the number of a file
FEWEST_IMAGES = 20  # to train or test on


# ---------------------------------------------------------------- pictures
def list_images(paths: list) -> list[Path]:
    """The files named, and the images inside the folders named, sorted. ValueError if none."""
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [file for file in sorted(path.iterdir()) if is_image_name(file)]
            if not inside:
                raise ValueError(f"{path}: holds no {', '.join(SUFFIXES)} image")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder")
    return files


def is_image_name(path: Path) -> bool:
    """A file that is an image by its suffix; what systems hide (._a.jpg, .DS_Store) is none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def open_captcha(path: Path, shape: tuple | None = None) -> np.ndarray:
    """A picture as a viewer shows it: uint8 (height, width, 3). ValueError names file and reason.

    shape: the size to expect, looked at before the picture is decoded, so that an image made to
    exhaust the memory costs nothing.
    """
    with readable(path) as image:
        height, width = shown_size(image)
        if shape is not None and (height, width) != tuple(shape[:2]):
            raise ValueError(f"is {width}×{height} pixels, not {shape[1]}×{shape[0]}")
        pixels = pixels_of(image)
        if (pixels == pixels[0, 0]).all():
            raise ValueError("is of one colour: there is nothing to read")
    return pixels


class readable:
    """`with readable(path) as image`: Pillow's image; whatever goes wrong in the block becomes a
    ValueError of one line that names the file."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self):
        self.quiet = warnings.catch_warnings()  # Pillow's remarks on odd files
        self.quiet.__enter__()
        warnings.simplefilter("ignore")
        try:
            self.image = Image.open(self.path)
            return self.image
        except Exception as error:
            self.__exit__(type(error), error, None)

    def __exit__(self, kind, error, _):
        self.quiet.__exit__(None, None, None)
        if hasattr(self, "image"):
            self.image.close()
        if isinstance(error, Exception):  # a broken file makes a decoder raise almost anything
            raise ValueError(f"{one_line(self.path)}: {one_line(first_line(error))}") from None


def shown_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) after the turn that the camera's note asks for; Pillow turns TIFF itself."""
    turned = orientation(image) in (5, 6, 7, 8) and image.format != "TIFF"
    return (image.width, image.height) if turned else (image.height, image.width)


def orientation(image: Image.Image) -> int:
    """The EXIF number of how the picture lies: 1 upright … 8; 1 if the note cannot be read."""
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # a viewer shows a picture with a broken note as it is
        return 1


def pixels_of(image: Image.Image) -> np.ndarray:
    """What is seen on white paper: uint8 (height, width, 3).

    Transparent pixels are white, a palette and a turn are applied, 16 bits become 8. ValueError for
    numbers whose white is unknown, and for an animation, whose right frame is.
    """
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError("is an animation or has pages: save the picture to read")
    if image.mode.startswith("I;16"):
        image = eight_bits(image)
    elif image.mode in ("I", "F"):
        if image.format != "PNG":
            raise ValueError(f"holds {image.mode} numbers of unknown range, not 8 or 16 bits")
        image = eight_bits(image)  # as Pillow before 11.3 opens a PNG of 16 bits
    if orientation(image) in range(2, 9):
        image = ImageOps.exif_transpose(image)
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if transparent:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return np.asarray(image.convert("RGB"))


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits a pixel in 8: 65535 is white."""
    grey = np.asarray(image).astype(np.int64)
    if image.info.get("transparency") is not None:
        grey = np.where(grey == image.info["transparency"], 65535, grey)
    upright = Image.fromarray(np.rint(grey / 257).clip(0, 255).astype(np.uint8))
    upright.info = {key: image.info[key] for key in ("exif",) if key in image.info}
    return upright


# ---------------------------------------------------------------- labels
def parts_of(stem: str) -> list[str]:
    """The parts of a file's name, between _ - . and spaces."""
    return re.split(r"[-_. ]+", stem)


def is_label(text: str) -> bool:
    return text.isascii() and text.isalnum() and len(text) <= LONGEST_LABEL


def numbers_files(texts: list) -> bool:
    """Are these the numbers of the files, 0, 1, 2 … or so, or times, and not their labels?"""
    if not all(text.isascii() and text.isdigit() for text in texts):
        return False
    numbers = {int(text) for text in texts}
    dense = len(numbers) == len(texts) and max(numbers) - min(numbers) < 2 * len(texts)
    return dense or statistics.mode(map(len, texts)) > LONGEST_NUMBER


def could_be_labels(texts: list, length: int | None) -> bool:
    """Nearly all of them (99 in 100) of one length, of letters and digits, not all the same."""
    usual = length or statistics.mode(map(len, texts))
    good = [text for text in texts if is_label(text) and len(text) == usual]
    enough = len(good) >= len(texts) - max(1, 0.01 * len(texts))
    return enough and len(set(good)) > 1 and not numbers_files(good)


def ends_in_labels(stems: list, length: int) -> bool:
    """Is what stands before the last `length` characters a number and a word common to all?"""
    before = {stem[:-length].strip("0123456789") for stem in stems}
    return len(before) == 1 and could_be_labels([stem[-length:] for stem in stems], length)


def label_texts(names: list[Path], length: int | None, part: str = "auto") -> tuple[list, str]:
    """The labels that the names carry, and in words where they stand.

    length: characters of a label, if known. part: first or last (of the parts of a name), end (the
    last `length` characters, as in the article), or auto: the only place where labels can be.
    ValueError where there is none, or two.
    """
    stems = [name.stem for name in names]
    found = {
        "first": [parts_of(stem)[0] for stem in stems],
        "last": [parts_of(stem)[-1] for stem in stems],
    }
    words = {"first": "the first part of a name", "last": "the last part of a name"}
    if length:
        found["end"] = [stem[-length:] for stem in stems]
        words["end"] = f"the last {length} characters of a name"
    if found["first"] == found["last"]:
        words["first"] = words["last"] = "a whole name"
    if part == "end" and not length:
        raise ValueError("--label-part end needs --length")
    if part == "auto":
        keys = [key for key in ("first", "last") if could_be_labels(found[key], length)]
        if not keys and length and ends_in_labels(stems, length):
            keys = ["end"]
        part = only_one(names[0].name, {key: found[key] for key in keys}, length)
    return found[part], f"{words[part]} is its label"


def only_one(name: str, possible: dict, length: int | None) -> str:
    """The one place where labels can stand; ValueError, with an example, if there is not one."""
    examples = list(dict.fromkeys(texts[0] for texts in possible.values()))
    columns = {tuple(texts) for texts in possible.values()}
    if len(columns) == 1:
        return next(iter(possible))
    if columns:
        raise ValueError(
            f"the label of {one_line(name)} may be {' or '.join(map(one_line, examples))}: say "
            "--label-part first or last"
        )
    wanted = length or f"1 … {LONGEST_LABEL}"
    raise ValueError(
        f"names such as {one_line(name)} carry no labels: expected are {wanted} letters and "
        "digits, as many in every name, before or after a _ (--label-part says where)"
    )


@dataclass
class Samples:
    """Labelled pictures of one size, uint8 (count, height, width, 3)."""

    images: np.ndarray
    labels: list[str]
    skipped: int = 0  # files that could not be used

    @property
    def classes(self) -> str:
        """The characters of the labels, sorted."""
        return "".join(sorted(set("".join(self.labels))))


def read_samples(
    folder: Path, length: int | None, case_sensitive: bool, part: str = "auto"
) -> Samples:
    """All labelled images of a folder; says what it took for labels, and what it left out.

    One file in a hundred may be bad: no image, another size or another number of letters than the
    others have, or an earlier picture with another label. More are an error, and so are labels that
    cannot be labels. A picture that stands there twice is used once, so that no test image is also
    trained on.
    """
    files = list_images([folder])
    texts, place = label_texts(files, length, part)
    usual = length or statistics.mode(map(len, texts))
    shape = usual_size(files)
    kept = {}  # digest of a picture → (pixels, label, file)
    bad = []
    repeated = 0
    for path, text in tqdm(list(zip(files, texts, strict=True)), unit=" images", disable=None):
        label = text if case_sensitive else text.lower()
        try:
            check_label(path, label, usual)
            pixels = open_captcha(path, shape)
            digest = hashlib.sha256(pixels.tobytes()).digest()
            _, same, earlier = kept.setdefault(digest, (pixels, label, path))
            if same != label:
                raise ValueError(f"{one_line(path)}: is the picture of {one_line(earlier.name)}")
            repeated += earlier != path
        except ValueError as error:
            bad.append(str(error))
            print(f"skipped {error}", file=sys.stderr)
            if len(bad) > max(1, 0.01 * len(files)):
                count = f"{len(bad)} bad among {len(files)} (more than 1 %)"
                raise ValueError(f"{count}, the last: {error}") from None
    samples = Samples(np.array([]), [label for _, label, _ in kept.values()], len(bad))
    check_labels(folder, samples.labels)
    samples.images = np.stack([pixels for pixels, _, _ in kept.values()])
    _, label, path = next(iter(kept.values()))
    print(
        f"{one_line(folder)}: {len(kept)} images of {shape[1]}×{shape[0]}; {place}, {label!r} of "
        f"{one_line(path.name)}; {len(set(samples.labels))} different ones of {usual} characters "
        f"out of {samples.classes}" + f"; {repeated} repeated pictures left out" * bool(repeated)
    )
    return samples


def usual_size(files: list[Path]) -> tuple[int, int] | None:
    """The (height, width) that most images have; None if none can be read."""
    sizes = Counter()
    for path in files:
        with contextlib.suppress(ValueError), readable(path) as image:
            sizes[shown_size(image)] += 1
    return sizes.most_common(1)[0][0] if sizes else None


def check_label(path: Path, text: str, usual: int) -> None:
    if len(text) != usual:
        reason = f"label {text!r} has {len(text)} characters, the others {usual}"
    elif not is_label(text):
        reason = f"label {text!r} is not of at most {LONGEST_LABEL} letters and digits"
    else:
        return
    raise ValueError(f"{one_line(path)}: {reason}")


def check_labels(folder: Path, labels: list) -> None:
    """ValueError for labels from which nothing can be learned."""
    if len(labels) < FEWEST_IMAGES:
        raise ValueError(
            f"{folder}: {len(labels)} readable images, at least {FEWEST_IMAGES} are needed"
        )
    label, times = Counter(labels).most_common(1)[0]
    if 2 * times > len(labels):
        raise ValueError(f"{folder}: {times} of {len(labels)} labels are {label!r}")
    if len(set("".join(labels))) < 2:
        raise ValueError(f"{folder}: all labels are made of {labels[0][0]!r}")


# ---------------------------------------------------------------- models, figures, messages
def load_facts(path: Path) -> dict:
    """What the .json beside a model says: model, classes, length, shape … ValueError in a line."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    note = path.with_suffix(".json")
    try:
        facts = json.loads(note.read_text(encoding="utf-8"))
        height, width, channels = facts["shape"]
        if min(height, width, facts["length"]) < 1 or channels != 3:
            raise ValueError(f"says {facts['length']} characters on {facts['shape']}")
        if not facts["model"] or len(set(facts["classes"])) < len(facts["classes"]):
            raise ValueError("names no model, or a class twice")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = first_line(error)
        raise ValueError(f"{note}: not what train.py writes beside a model ({reason})") from None
    return facts


class FewColours:
    """A figure of noisy pictures that saves itself in few colours: a fifth of the file."""

    def __init__(self, figure, colours: int = 64):
        self.figure = figure
        self.colours = colours

    def savefig(self, path: Path, **options) -> None:
        self.figure.savefig(path, **options)
        with Image.open(path) as image:
            image.convert("RGB").quantize(self.colours).save(path, optimize=True)


def first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]


def one_line(text) -> str:
    """A name as it can be printed: no line break, nothing that an encoding lacks."""
    printable = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return printable.replace("\n", "\\n").replace("\r", "\\r")
