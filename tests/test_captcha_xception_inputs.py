"""captcha_xception: pictures and names that people really have: read right, or refused in a line.

Nothing here imports TensorFlow but the tests that read with a network.
"""

import hashlib
import io
import json
import os
import struct
import sys
import zlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from PIL import Image

import captcha_files
import make_samples
import predict
from captcha_files import label_texts, list_images, open_captcha, read_samples
from conftest import ROOT, run_forked, run_script
from draw_captcha import CaptchaGenerator

FOLDER = ROOT / "captcha_xception"
SHAPE = (53, 129, 3)


@pytest.fixture(scope="module")
def generator():
    return CaptchaGenerator()


@pytest.fixture(scope="module")
def grey(generator):
    """A captcha in grey, (53, 129) uint8."""
    return np.asarray(Image.fromarray(generator.draw(5)[0]).convert("L"))


def colours_of(grey):
    return np.stack([grey] * 3, axis=-1)


def shown(image: Image.Image, tmp_path, name="a.png", **options) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return open_captcha(tmp_path / name, SHAPE)


def png(width: int, height: int, bits: int, kind: int, rows) -> bytes:
    """A PNG written by hand. kind: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA; rows: of bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b"\0" + row) for row in rows) + packer.flush()
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_of_one_bit(width: int, height: int) -> bytes:
    """A valid black PNG of any size in a few kilobytes."""
    row = bytes(-(-width // 8))
    return png(width, height, 1, 0, (row for _ in range(height)))


# ---------------------------------------------------------------- what a viewer would show
def test_ink_in_the_alpha_channel_is_read_on_white_paper(grey, tmp_path):
    """RGBA (0, 0, 0, 255 − L): black where it is opaque. Exactly the grey picture on white."""
    ink = np.zeros((53, 129, 4), np.uint8)
    ink[..., 3] = 255 - grey
    pixels = shown(Image.fromarray(ink), tmp_path)
    np.testing.assert_array_equal(pixels, colours_of(grey))


@pytest.mark.slow
def test_a_captcha_in_the_alpha_channel_reads_as_on_white(generator, tmp_path):
    for index in range(8):
        pixels, label = generator.draw(predict.DEMONSTRATION + index)
        grey = np.asarray(Image.fromarray(pixels).convert("L"))
        ink = np.zeros((53, 129, 4), np.uint8)
        ink[..., 3] = 255 - grey
        Image.fromarray(ink).save(tmp_path / f"alpha_{index}.png")
        Image.fromarray(grey).save(tmp_path / f"grey_{index}.png")
    done = run_forked(FOLDER / "predict.py", "--json", tmp_path, "--out-dir", tmp_path / "out")
    texts = [row["text"] for row in json.loads(done.stdout)]
    assert texts[:8] == texts[8:] and "mmmg" not in texts and len(set(texts)) == 8
    labels = [generator.draw(predict.DEMONSTRATION + index)[1] for index in range(8)]
    assert sum(text == label for text, label in zip(texts, labels, strict=False)) >= 6


def test_grey_with_alpha(grey, tmp_path):
    both = np.stack([np.zeros_like(grey), 255 - grey], axis=-1)
    pixels = shown(Image.fromarray(both, "LA"), tmp_path)
    np.testing.assert_array_equal(pixels, colours_of(grey))


def test_a_colour_declared_transparent_is_white(grey, tmp_path):
    """tRNS of a grey PNG and of an RGB one."""
    two = np.where(grey < 128, 7, 100).astype(np.uint8)  # ink, and paper to be seen through
    expected = colours_of(np.where(two == 7, 7, 255))
    np.testing.assert_array_equal(shown(Image.fromarray(two), tmp_path, transparency=100), expected)
    image = Image.fromarray(colours_of(two))
    pixels = shown(image, tmp_path, transparency=(100, 100, 100))
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_palette_with_a_transparent_entry(name, grey, tmp_path):
    index = (grey < 128).astype(np.uint8)  # 0: paper, 1: ink
    image = Image.fromarray(index, "P")
    image.putpalette([0, 0, 0, 30, 60, 90])  # the paper is black, but transparent
    pixels = shown(image, tmp_path, name, transparency=0)
    expected = np.where(index[..., None] == 1, [30, 60, 90], 255)
    np.testing.assert_array_equal(pixels, expected)


def test_palette_without_one(grey, tmp_path):
    image = Image.fromarray(colours_of(grey)).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(shown(image, tmp_path), expected)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_a_pixel(name, grey, tmp_path):
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(shown(Image.fromarray(deep), tmp_path, name), colours_of(grey))


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_a_channel(kind, channels, grey, tmp_path):
    """RGB, grey with alpha and RGBA, the alpha opaque."""
    deep = np.full((53, 129, channels), 65535, ">u2")
    deep[..., : channels - (channels in (2, 4))] = (grey.astype(np.uint16) * 257)[..., None]
    (tmp_path / "a.png").write_bytes(png(129, 53, 16, kind, (row.tobytes() for row in deep)))
    np.testing.assert_array_equal(open_captcha(tmp_path / "a.png", SHAPE), colours_of(grey))


def test_sixteen_bits_with_a_transparent_grey(grey, tmp_path):
    deep = np.where(grey < 128, 257, 5000).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png", transparency=5000)
    with Image.open(tmp_path / "a.png") as image:
        if image.info.get("transparency") != 5000:
            pytest.skip("this Pillow writes no such PNG")
    expected = colours_of(np.where(grey < 128, 1, 255))
    np.testing.assert_array_equal(open_captcha(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_the_turn_that_a_camera_notes_is_applied(name, orientation, generator, tmp_path):
    upright, _ = generator.draw(3)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose of each orientation
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(shown(stored, tmp_path, name, exif=exif), upright)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_the_turn_of_a_lossy_picture(name, orientation, generator, tmp_path):
    back = {3: 3, 5: 5, 6: 4, 8: 2}
    height, width = (53, 129) if orientation == 3 else (129, 53)
    stored = Image.fromarray(np.resize(generator.draw(3)[0], (height, width, 3)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / name, exif=exif)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image.convert("RGB").transpose(Image.Transpose(back[orientation])))
    np.testing.assert_array_equal(open_captcha(tmp_path / name, SHAPE), expected)


def test_a_note_that_cannot_be_read_turns_nothing(generator, tmp_path):
    upright, _ = generator.draw(3)
    broken = b"Exif\x00\x00" + b"\xff" * 40
    np.testing.assert_array_equal(shown(Image.fromarray(upright), tmp_path, exif=broken), upright)


def test_one_bit_and_cmyk(grey, tmp_path):
    bits = Image.fromarray(grey > 128)
    assert set(np.unique(shown(bits, tmp_path))) == {0, 255}
    inks = Image.fromarray(colours_of(grey)).convert("CMYK")
    pixels = shown(inks, tmp_path, "a.jpg", quality=95)
    assert abs(pixels.astype(int) - colours_of(grey)).mean() < 8


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_an_animation_is_refused(name, generator, tmp_path):
    frames = [Image.fromarray(generator.draw(index)[0]) for index in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=f"{name}.*animation"):
        open_captcha(tmp_path / name, SHAPE)


def test_numbers_without_a_known_white_are_refused(grey, tmp_path):
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="a.tif.*unknown range"):
        open_captcha(tmp_path / "a.tif", SHAPE)


@pytest.mark.parametrize("colour", ["white", "black", (3, 2, 1, 0)])
def test_a_picture_of_one_colour_is_refused(colour, tmp_path):
    Image.new("RGBA", (129, 53), colour).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png.*one colour"):
        open_captcha(tmp_path / "a.png", SHAPE)


# ---------------------------------------------------------------- images made to hurt
def test_a_huge_image_alone_is_one_line(tmp_path):
    (tmp_path / "huge.png").write_bytes(png_of_one_bit(20_000, 20_000))
    done = run_script(FOLDER / "predict.py", tmp_path / "huge.png", "--out-dir", tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "huge.png" in done.stderr and done.stdout == ""


def test_a_huge_image_among_a_hundred_is_skipped(generator, tmp_path, capsys):
    for index in range(100):
        make_samples.save_image(*generator.draw(index), index, tmp_path)
    (tmp_path / "00000100_huge.png").write_bytes(png_of_one_bit(20_000, 20_000))
    images, kept, bad = predict.look_at(list_images([tmp_path]), SHAPE)
    assert images.shape == (100, *SHAPE) and len(kept) == 100
    assert [path.name for path in bad] == ["00000100_huge.png"]
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(read_samples(tmp_path, None, False).labels) == 100


@pytest.mark.parametrize("size", [(9000, 9000), (12_000, 12_000), (130, 53), (129, 52), (53, 129)])
def test_another_size_is_named_and_not_decoded(size, tmp_path):
    (tmp_path / "a.png").write_bytes(png_of_one_bit(*size)[:200])  # there is nothing to decode
    with pytest.raises(ValueError, match=f"a.png: is {size[0]}×{size[1]} pixels, not 129×53"):
        open_captcha(tmp_path / "a.png", SHAPE)


@pytest.mark.parametrize("count", [1, 2])
def test_pictures_of_another_size_are_told_what_reads_them(count, tmp_path, capsys):
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(png_of_one_bit(160, 60))
    with pytest.raises(ValueError, match="for another size: train.py --samples FOLDER"):
        predict.look_at(list_images([tmp_path]), SHAPE)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (count if count > 1 else 0)  # of one file the error says it all


def broken_files(good: bytes) -> dict:
    """Name → bytes of files that are no image, or a part of one."""
    text = io.BytesIO()
    note = {"pnginfo": None}
    Image.new("RGB", (129, 53)).save(text, "PNG", **note)
    return {
        "empty.png": b"",
        "words.jpg": b"hello",
        "cut.jpg": good[:300],
        "head.jpg": good[:2],
        "page.gif": b"<html><body>403</body></html>",
        "half.png": text.getvalue()[:60],
        "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }


def test_files_that_are_no_images_are_named_each_in_a_line(generator, tmp_path, capsys):
    good = make_samples.save_image(*generator.draw(0), 0, tmp_path)
    for name, data in broken_files(good.read_bytes()).items():
        (tmp_path / name).write_bytes(data)
    images, kept, bad = predict.look_at(list_images([tmp_path]), SHAPE)
    assert len(images) == 1 and kept == [good] and len(bad) == 7
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 7 and all(line.startswith("skipped ") for line in said)


def test_what_systems_leave_in_a_folder_is_not_an_image(generator, tmp_path):
    good = make_samples.save_image(*generator.draw(0), 0, tmp_path)
    (tmp_path / "._00000000_abcd.jpg").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
    assert list_images([tmp_path]) == [good]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_no_line_can_hold(generator, tmp_path):
    pixels = Image.fromarray(generator.draw(0)[0])
    for name in (b"caf\xe9.png", b"two\nlines.png"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            pixels.resize((60, 20)).save(file, "PNG")
    for path in list_images([tmp_path]):
        with pytest.raises(ValueError, match="is 60×20") as refused:
            open_captcha(path, SHAPE)
        line = str(refused.value)
        assert "\n" not in line and line.encode("utf-8")


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(strategies.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path_factory, data):
    """Bytes of a good JPEG, PNG or GIF changed, cut or doubled: an image, or a ValueError."""
    kind = data.draw(strategies.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]))
    good = io.BytesIO()
    Image.fromarray(CAPTCHA).save(good, kind)
    damaged = bytearray(good.getvalue())
    for _ in range(data.draw(strategies.integers(1, 6))):
        place = data.draw(strategies.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(strategies.integers(0, 255))
    cut = data.draw(strategies.integers(1, len(damaged)))
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind.lower()}"
    path.write_bytes(bytes(damaged[:cut]) if data.draw(strategies.booleans()) else bytes(damaged))
    try:
        pixels = open_captcha(path, SHAPE)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1 and path.name in str(error)
    else:
        assert pixels.shape == SHAPE and pixels.dtype == np.uint8


CAPTCHA = CaptchaGenerator().draw(1)[0]


# ---------------------------------------------------------------- the usual size
def test_an_odd_size_that_sorts_first_is_the_one_that_is_skipped(generator, tmp_path, capsys):
    for index in range(1, 31):
        make_samples.save_image(*generator.draw(index), index, tmp_path)
    Image.new("RGB", (60, 20)).save(tmp_path / "00000000_abcd.jpg")
    samples = read_samples(tmp_path, None, False)
    assert len(samples.images) == 30 and samples.skipped == 1
    assert "skipped" in (said := capsys.readouterr().err) and "00000000_abcd.jpg" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("what", ["cut", "words", "long", "foreign", "small"])
def test_one_bad_file_is_named_and_skipped_many_stop(what, tmp_path, generator, capsys):
    for index in range(30):
        make_samples.save_image(*generator.draw(index), index, tmp_path)
    victim = sorted(tmp_path.iterdir())[3]
    if what == "cut":
        victim.write_bytes(victim.read_bytes()[:300])
    elif what == "words":
        victim.write_text("hello", encoding="utf-8")
    elif what == "long":
        victim.rename(tmp_path / "x_abcde.jpg")
    elif what == "foreign":
        victim.rename(tmp_path / "x_ab!d.jpg")
    else:
        Image.new("RGB", (60, 20)).save(victim)
    samples = read_samples(tmp_path, None, False)
    assert len(samples.images) == len(samples.labels) == 29 and samples.skipped == 1
    assert "skipped" in capsys.readouterr().err
    for path in sorted(tmp_path.iterdir())[5:9]:
        path.write_text("hello", encoding="utf-8")
    with pytest.raises(ValueError, match="more than 1 %"):
        read_samples(tmp_path, None, False)


def test_empty_folder_and_too_few(tmp_path, generator):
    for read in (lambda: read_samples(tmp_path, None, False), lambda: list_images([tmp_path])):
        with pytest.raises(ValueError, match="holds no"):
            read()
    for index in range(3):
        make_samples.save_image(*generator.draw(index), index, tmp_path)
    with pytest.raises(ValueError, match="3 readable images, at least 20"):
        read_samples(tmp_path, None, False)


# ---------------------------------------------------------------- labels in names
HASHES = [hashlib.md5(str(number).encode()).hexdigest() for number in range(96)]


def names(pattern: str, count: int = 60) -> list:
    """File names with {label}, {number}, {hash}, filled with `count` different values."""
    random = np.random.default_rng(1)
    found = []
    for number in range(count):
        label = "".join(random.choice(list("23456789bcdfghjkmnpqrstvwxyz"), 4))
        digits = f"{random.integers(10_000):04d}"
        values = {"label": label, "digits": digits, "number": number, "hash": HASHES[number]}
        found.append(type(ROOT)(pattern.format(**values)))
    return found


def labels_of(paths: list, pattern: str) -> list:
    return [str(path) for path in names(pattern, len(paths))]


@pytest.mark.parametrize(
    ("pattern", "length", "part"),
    [
        ("{label}_{hash}.jpg", None, "first"),  # a hash behind: of 32 characters
        ("{label}_{hash}.jpg", 4, "first"),
        ("{label}-{hash}.png", None, "first"),
        ("{number:08d}_{label}.jpg", None, "last"),  # as make_samples writes them
        ("{number:08d}_{label}.jpg", 4, "last"),
        ("{label}_{number}.jpg", None, "first"),
        ("{label}_1546224{number:06d}.jpg", None, "first"),  # a time
        ("{label} ({number}).jpg", None, "first"),
        ("captcha_{label}.png", None, "last"),  # a word that all names begin with
        ("{label}.png", None, "last"),  # as captcha_images_v2
        ("{label}.png", 4, "last"),
        ("img{number}{label}.jpg", 4, "end"),  # as in the article: the last four characters
        ("{number:05d}{label}.jpg", 4, "end"),
        ("sample.{number}.{label}.jpg", None, "last"),
    ],
)
def test_where_the_label_of_a_name_stands(pattern, length, part):
    paths = names(pattern)
    texts, words = label_texts(paths, length)
    assert texts == labels_of(paths, "{label}")
    expected = {"first": "first part", "last": "last part|whole name", "end": "last 4 characters"}
    assert any(word in words for word in expected[part].split("|"))


@pytest.mark.parametrize(
    ("pattern", "length", "reason"),
    [
        ("{hash}.jpg", None, "carry no labels"),
        ("{hash}.jpg", 4, "carry no labels"),  # its last four characters are no label
        ("{hash}_{hash}.jpg", None, "carry no labels"),
        ("{number:08d}.jpg", None, "carry no labels"),
        ("photo_{number}.jpg", None, "carry no labels"),
        ("{label}_{hash:.8}.jpg", None, "may be"),  # a short hash looks like a label
        ("{label}_{label}x.jpg", None, "may be"),
        ("{digits}_{label}.jpg", None, "may be"),
        ("abcd_{number}.jpg", None, "carry no labels"),  # all the same
    ],
)
def test_names_from_which_no_label_can_be_told_are_refused(pattern, length, reason):
    with pytest.raises(ValueError, match=reason):
        label_texts(names(pattern), length)


def test_label_part_decides():
    paths = names("{label}_{hash:.8}.jpg")
    assert label_texts(paths, None, "first")[0] == labels_of(paths, "{label}")
    assert label_texts(paths, None, "last")[0] == labels_of(paths, "{hash:.8}")
    assert label_texts(paths, 4, "end")[0] == [text[4:8] for text in labels_of(paths, "{hash:.8}")]
    with pytest.raises(ValueError, match="needs --length"):
        label_texts(paths, None, "end")


def test_a_subset_of_numbered_files_is_still_numbered():
    """60 files out of 100,000: their numbers are no labels, though far apart."""
    paths = [
        type(ROOT)(f"{1663 * number:08d}_{path}") for number, path in enumerate(names("{label}"))
    ]
    assert label_texts(paths, None)[0] == labels_of(paths, "{label}")


def test_training_on_hashed_names_says_what_it_takes_for_labels(generator, tmp_path, capsys):
    for index in range(60):
        path = make_samples.save_image(*generator.draw(index), index, tmp_path)
        path.rename(tmp_path / f"{path.stem[-4:]}_{HASHES[index]}.jpg")
    samples = read_samples(tmp_path, None, False)
    assert sorted(samples.labels) == sorted(generator.draw(index)[1] for index in range(60))
    said = capsys.readouterr().out
    assert "the first part of a name is its label" in said and "of 4 characters" in said


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["abcd"] * 25 + ["wxyz", "efgh"], "25 of 27 labels are 'abcd'"),
        (["aaaa"] * 27, "carry no labels"),
    ],
)
def test_labels_from_which_nothing_is_learned_are_refused(labels, reason, generator, tmp_path):
    for index, label in enumerate(labels):
        make_samples.save_image(generator.draw(index)[0], label, index, tmp_path)
    with pytest.raises(ValueError, match=reason):
        read_samples(tmp_path, None, False)


def test_a_picture_that_stands_there_twice_is_used_once(generator, tmp_path, capsys):
    for index in range(30):
        make_samples.save_image(*generator.draw(index), index, tmp_path)
    for index in range(5):
        make_samples.save_image(*generator.draw(index), 100 + index, tmp_path)
    samples = read_samples(tmp_path, None, False)
    assert len(samples.images) == 30 and samples.skipped == 0
    assert "5 repeated pictures left out" in capsys.readouterr().out
    make_samples.save_image(generator.draw(7)[0], "oops", 200, tmp_path)
    assert read_samples(tmp_path, None, False).skipped == 1
    assert "00000200_oops.jpg: is the picture of 00000007_" in capsys.readouterr().err


def test_upper_case_labels_keep_their_case_only_if_told(generator, tmp_path):
    cased = CaptchaGenerator("abAB", case_sensitive=True)
    for index in range(30):
        make_samples.save_image(*cased.draw(index), index, tmp_path)
    assert read_samples(tmp_path, None, False).classes == "ab"
    assert read_samples(tmp_path, None, True).classes == "ABab"


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    alphabet=strategies.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=3, max_size=36),
    length=strategies.integers(2, 12),
    count=strategies.integers(40, 120),
)
def test_names_that_make_samples_writes_read_back(alphabet, length, count):
    classes = "".join(dict.fromkeys(alphabet))
    hypothesis.assume(len(classes) >= 3 and any(letter.isalpha() for letter in classes))
    random = np.random.default_rng(length)
    labels = ["".join(random.choice(list(classes), length)) for _ in range(count)]
    paths = [type(ROOT)(f"{index:08d}_{label}.jpg") for index, label in enumerate(labels)]
    assert label_texts(paths, None)[0] == labels


# ---------------------------------------------------------------- the tools say it
@pytest.mark.slow
def test_predict_reads_what_it_can_and_lists_the_rest(tmp_path, generator):
    for index in range(3):
        make_samples.save_image(*generator.draw(index), index, tmp_path)
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    flags = [tmp_path, "--out-dir", tmp_path / "out"]
    done = run_forked(FOLDER / "predict.py", "--json", "--min-confidence", "1", *flags)
    rows = json.loads(done.stdout)
    assert [row["text"] for row in rows] == ["?", "?", "?", None]
    assert all(0.5 < row["confidence"] <= 1 for row in rows[:3])
    assert "page.jpg" in rows[3]["error"] and "page.jpg" in rows[3]["file"]
    assert len(done.stderr.splitlines()) == 1 and done.returncode == 0
    for name in ("page.jpg", "none.jpg"):
        done = run_forked(FOLDER / "predict.py", tmp_path / name, "--out-dir", tmp_path / "out")
        assert done.returncode == 2 and f"{name}: " in done.stderr


@pytest.mark.slow
def test_real_layout_trains_without_a_change(tmp_path):
    """Five characters, digits among them, PNG, another size: as keras.io's captcha_images_v2."""
    generator = CaptchaGenerator(classes="2345678bcdefgmnpwxy", length=5)
    for index in range(30):
        pixels, label = generator.draw(index)
        Image.fromarray(pixels[:50]).save(tmp_path / f"{label}.png")
    flags = ["--samples", tmp_path, "--images", 64, "--batch-size", 9, "--model", "cnn2016"]
    done = run_forked(FOLDER / "train.py", *flags, "--out-dir", tmp_path / "out")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    results = json.loads((tmp_path / "out" / "train.json").read_text(encoding="utf-8"))
    assert len(results["metrics"]["position_accuracy"]) == 5
    assert results["metrics"]["test_images"] == 3
    facts = json.loads((tmp_path / "out" / "cnn2016.json").read_text(encoding="utf-8"))
    assert facts["length"] == 5 and facts["shape"] == [50, 155, 3]
    assert set(facts["classes"]) <= set("2345678bcdefgmnpwxy")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not what train.py writes"),
        ("[]", "not what train.py writes"),
        ('{"model": "compact"}', "shape"),
        ('{"model": "compact", "classes": "aab", "length": 4, "shape": [53, 129, 3]}', "twice"),
        ('{"model": "compact", "classes": "ab", "length": 0, "shape": [53, 129, 3]}', "0 char"),
        ('{"model": "compact", "classes": "ab", "length": 4, "shape": [53, 129]}', "not what"),
    ],
)
def test_a_note_beside_a_model_that_says_nonsense(text, reason, tmp_path):
    (tmp_path / "m.keras").write_bytes(b"x")
    (tmp_path / "m.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=reason):
        captcha_files.load_facts(tmp_path / "m.keras")
