"""captcha_xception: generator, networks, the bookkeeping of letters, resuming, bad flags."""

import json
import string
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import ImageFont

import draw_captcha
import make_samples
import networks
import reading
import training
from batch_stream import BatchStream
from conftest import ROOT, load, run_script
from draw_captcha import CaptchaGenerator

FOLDER = ROOT / "captcha_xception"
WEIGHTS = FOLDER / "weights" / "compact.keras"
keras = networks.keras
train = load("captcha_xception/train.py")
predict = load("captcha_xception/predict.py")
evaluate = load("captcha_xception/evaluate.py")
ablations = load("captcha_xception/experiments/ablations.py")


@pytest.fixture(scope="module")
def generator():
    return CaptchaGenerator()


@pytest.fixture(scope="module")
def folder_of_samples(tmp_path_factory, generator):
    folder = tmp_path_factory.mktemp("samples")
    for index in range(40):
        make_samples.save_image(*generator.draw(index), index, folder)
    return folder


@pytest.fixture
def small_reader(tmp_path):
    """An untrained network of 2016, saved as train.py saves its models."""
    keras.utils.set_random_seed(0)
    model = networks.build_model("cnn2016", (53, 129, 3), 4, 26)
    facts = {"model": "cnn2016", "classes": string.ascii_lowercase, "length": 4}
    path = tmp_path / "m.keras"
    reading.save_model(model, path, {**facts, "shape": [53, 129, 3]})
    return path


def arguments(script, *flags):
    """The namespace that a script's main gets."""
    import argparse

    parser = argparse.ArgumentParser()
    script.flags(parser)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out-dir", type=type(ROOT))
    args = parser.parse_args(list(map(str, flags)))
    args.out_dir.mkdir(parents=True, exist_ok=True)
    return args


# ---------------------------------------------------------------- generator
def test_drawn_images_are_those_of_the_recorded_runs(generator):
    """Byte for byte, with the Pillow and matplotlib of constraints.txt: as the weights saw them."""
    import hashlib

    import matplotlib
    import PIL

    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().split()
    here = {f"pillow=={PIL.__version__}", f"matplotlib=={matplotlib.__version__}"}
    if not here <= set(pinned):
        pytest.skip("another Pillow or matplotlib may move a pixel")
    images, targets = generator.batch(0, 300)
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "fa859b1ef50064a5"
    assert hashlib.sha256(targets.tobytes()).hexdigest()[:16] == "475d4b4ab1524f6a"
    digits, _ = CaptchaGenerator(string.digits, length=5).batch(0, 60)
    assert hashlib.sha256(digits.tobytes()).hexdigest()[:16] == "78ad581ae059527c"


def test_same_seed_same_bytes_in_other_processes(tmp_path, generator):
    settings = {"classes": string.ascii_lowercase, "length": 4, "seed": 0}
    for name, workers in (("one", 1), ("two", 2)):
        make_samples.save_samples(settings, 6, tmp_path / name, workers)
    here = tmp_path / "here"
    here.mkdir()
    for index in reversed(range(6)):  # the order must not matter either
        make_samples.save_image(*generator.draw(index), index, here)
    names = sorted(path.name for path in here.iterdir())
    assert len(names) == 6
    for name in names:
        first = (here / name).read_bytes()
        assert first == (tmp_path / "one" / name).read_bytes()
        assert first == (tmp_path / "two" / name).read_bytes()


def test_other_seed_and_other_index_draw_other_images(generator):
    image, _ = generator.draw(0)
    assert (CaptchaGenerator(seed=1).draw(0)[0] != image).mean() > 0.5
    assert (generator.draw(1)[0] != image).mean() > 0.5
    assert image.shape == (53, 129, 3) and image.dtype == np.uint8


def test_label_is_the_text_that_is_stamped(monkeypatch):
    """The letters that reach the paper, unbent, against a fresh rendering of every character."""
    generator = CaptchaGenerator()
    stamped = []
    bent = generator._bent

    def note(face, form, bend):
        stamped.append(bent(face, form, 0))
        return bent(face, form, bend)

    monkeypatch.setattr(generator, "_bent", note)
    fresh = {}
    for face in generator.faces:
        font = ImageFont.truetype(str(face), draw_captcha.GLYPH_SIZE)
        for character in string.ascii_letters:
            glyph = draw_captcha.draw_glyph(font, character)
            fresh.setdefault((glyph.size, glyph.tobytes()), set()).add(character)
    upper = 0
    for index in range(60):
        stamped.clear()
        _, label = generator.draw(index)
        read = [fresh[glyph.size, glyph.tobytes()] for glyph in stamped]
        assert len(read) == 4
        for letter, forms in zip(label, read, strict=True):
            assert letter in {form.lower() for form in forms}
        upper += any(form.isupper() for forms in read for form in forms)
    assert 30 < upper < 60  # both cases are drawn


def test_affine_map_sends_the_centre_to_the_centre_and_undoes_turn_shear_and_scale():
    """Against the forward map, written down the other way round."""
    turn, shear, slope, scale, stretch = 0.2, 0.1, -0.3, 0.8, 0.9
    settings = (scale, stretch, turn, shear, slope)
    box, (a, b, c, d, e, f) = draw_captcha.affine_map(60.3, 25.7, 70, 50, *settings)
    left, top, width, height = box
    for x, y in ((0, 0), (70, 0), (0, 50), (70, 50), (35, 25)):  # glyph → image
        v = (y - 25) / 2 * stretch
        u = (x - 35) / 2 * scale - shear * v
        dx, dy = np.cos(turn) * u - np.sin(turn) * v, np.sin(turn) * u + np.cos(turn) * v
        at_x, at_y = 60.3 + dx - left, 25.7 + dy + slope * dx - top
        back = [a * at_x + b * at_y + c, d * at_x + e * at_y + f]
        np.testing.assert_allclose(back, [x, y], atol=1e-9)
        assert 0 <= at_x <= width and 0 <= at_y <= height  # and the box holds all of it


def test_a_bent_letter_keeps_its_ink_and_hangs_on_either_side(generator):
    face, form = 1, generator.drawn.index("M")
    plain, bent = (np.asarray(generator._bent(face, form, bend)).astype(int) for bend in (0, 3))
    assert bent.sum() == plain.sum() and (bent.sum(axis=0) == plain.sum(axis=0)).all()
    assert len(bent) == len(plain) + abs(draw_captcha.hang(plain.shape[1] / 2, 3))

    def heights(glyph):
        weighted = (np.arange(len(glyph))[:, None] * glyph).sum(axis=0)
        return weighted / np.maximum(1, glyph.sum(axis=0))

    moved, middle = heights(bent) - heights(plain), plain.shape[1] // 2
    assert moved[middle] == pytest.approx(0, abs=0.01) and moved[12] > 5 and moved[-12] > 5


def test_case_sensitive_labels_tell_a_from_capital_a():
    generator = CaptchaGenerator("aA", case_sensitive=True)
    texts = [generator.draw(index)[1] for index in range(10)]
    assert {letter for text in texts for letter in text} == {"a", "A"}
    numbers = generator.batch(0, 10)[1]
    assert ["".join("aA"[number] for number in row) for row in numbers] == texts


def test_label_as_drawn_changes_the_label_only(generator):
    cased = CaptchaGenerator(label_as_drawn=True)
    texts = [cased.draw(index)[1] for index in range(30)]
    assert [text.lower() for text in texts] == [generator.draw(index)[1] for index in range(30)]
    assert any(text != text.lower() for text in texts)
    assert not any(letter in "Il" for text in texts for letter in text)  # one stroke, two letters
    np.testing.assert_array_equal(cased.draw(7)[0], generator.draw(7)[0])


def test_batch_and_stream_number_the_classes_of_the_labels(generator):
    images, targets = generator.batch(10, 5)
    for row in range(5):
        pixels, label = generator.draw(10 + row)
        np.testing.assert_array_equal(images[row], pixels)
        assert "".join(string.ascii_lowercase[number] for number in targets[row]) == label
    with BatchStream({}, workers=1, ahead=2, largest=3) as stream:
        left_early = stream.batches(500, 90, 3)
        assert len(next(left_early)[0]) == 3
        left_early.close()  # what it still had drawn must not reach the next loop
        streamed, numbers = stream.arrays(8, 7)
    assert len(streamed) == 7
    np.testing.assert_array_equal(streamed[2:], images)
    np.testing.assert_array_equal(numbers[2:], targets)


def test_the_processes_that_draw_do_not_import_tensorflow(tmp_path):
    script = tmp_path / "trains.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(FOLDER)!r})\n"
        "from networks import keras\n"
        "from batch_stream import BatchStream\n"
        "import workers\n"
        "if __name__ == '__main__':\n"
        "    with BatchStream({}, workers=2) as stream:\n"
        "        jobs = [stream.pool.submit(workers.loaded, 0.3) for _ in range(4)]\n"
        "        print('tensorflow' in sys.modules, sorted({job.result() for job in jobs}))\n",
        encoding="utf-8",
    )
    (tmp_path / "workers.py").write_text(
        "import sys, time\n"
        "def loaded(seconds):\n"
        "    time.sleep(seconds)\n"
        "    return 'tensorflow' in sys.modules or 'keras' in sys.modules\n",
        encoding="utf-8",
    )
    finished = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert finished.stdout == "True [False]\n", finished.stderr


def test_letters_cannot_be_cut_apart_by_columns(generator):
    cut = [make_samples.pieces(generator.draw(index)[0]) == 4 for index in range(150)]
    assert np.mean(cut) < 0.35
    clean = np.full((53, 129, 3), 255, np.uint8)
    for left in (5, 40, 70, 100):
        clean[10:40, left : left + 20] = 0
    assert make_samples.pieces(clean) == 4  # and the measure does see gaps where there are some


# ---------------------------------------------------------------- networks
def test_parameter_counts():
    cnn = networks.build_model("cnn2016", (53, 129, 3), 4, 26)
    assert cnn.count_params() == 48712
    assert cnn.output_shape == (None, 4, 26)
    assert 2e5 < networks.build_model("compact", (53, 129, 3), 4, 26).count_params() < 1.2e6


@pytest.mark.slow
def test_the_articles_network_and_the_one_that_reads_for_it():
    """As post 4503 builds it; and with its weights, the stacked network answers the same."""
    keras.utils.set_random_seed(0)
    model = train.build_article(None)
    assert model.count_params() == 20_861_480 + 4 * (2048 * 26 + 26)
    assert all(layer.trainable for layer in model.layers)
    assert model.input_shape == (None, 50, 120, 3) and len(model.outputs) == 4
    dropped = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropped] == [0.5] * 4
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 53, 129, 3), dtype=np.uint8)
    outputs = model.predict_on_batch(train.network_input(images))
    reader = train.stacked(model, (53, 129, 3), string.ascii_lowercase)
    logits = reading.logits_of(reader, images)
    odds = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    for position in range(4):
        np.testing.assert_allclose(odds[:, position], outputs[position], rtol=1e-3, atol=1e-6)


def test_network_input_is_what_xception_takes():
    images = np.stack([np.full((53, 129, 3), value, np.uint8) for value in (0, 255)])
    small = keras.ops.convert_to_numpy(train.network_input(images))
    assert small.shape == (2, 50, 120, 3)
    np.testing.assert_allclose(small[0], -1)
    np.testing.assert_allclose(small[1], 1)


def test_the_articles_batches_come_from_the_training_rows_with_replacement(generator):
    images, targets = generator.batch(0, 30)
    rows, held = training.split(30, seed=0)
    batches = train.draw_batches(images, targets, rows, size=50, seed=0)
    pixels, labels = next(batches)
    assert len(pixels) == 50 and len(labels) == 4
    drawn = {tuple(letters) for letters in np.stack(labels, axis=1).tolist()}
    assert drawn <= {tuple(row) for row in targets[rows].tolist()}
    assert not drawn & {tuple(row) for row in targets[held].tolist()}
    assert len(drawn) < 27  # 50 draws of 27: some came twice


def test_each_position_has_its_own_head():
    keras.utils.set_random_seed(0)
    model = networks.build_model("compact", (53, 129, 3), 4, 26)
    image = np.random.default_rng(0).integers(0, 256, (1, 53, 129, 3), dtype=np.uint8)
    before = keras.ops.convert_to_numpy(model.predict_on_batch(image))
    head = model.get_layer("letter_3")
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    after = keras.ops.convert_to_numpy(model.predict_on_batch(image))
    np.testing.assert_array_equal(after[0, [0, 1, 3]], before[0, [0, 1, 3]])
    np.testing.assert_array_equal(after[0, 2], 0)


def test_look_is_a_weighted_mean_of_the_columns():
    """At first no column's content counts: softmax of −4 (distance in letters)², written out."""
    columns = keras.layers.Input((17, 5))
    model = keras.Model(columns, networks.look(columns, 4))
    values = np.random.default_rng(0).normal(size=(2, 17, 5)).astype("float32")
    seen = model.predict_on_batch(values)
    assert len(seen) == 4
    for position in range(4):
        places = [(column + 0.5) / 17 * 4 - position - 0.5 for column in range(17)]
        weights = [np.exp(-4 * place**2) for place in places]
        expected = sum(weight * values[:, column] for column, weight in enumerate(weights))
        expected /= sum(weights)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(seen[position]), expected, rtol=1e-4, atol=1e-5
        )
    kernel = model.get_layer("look_2").get_weights()[0]
    steering = np.random.default_rng(1).normal(size=kernel.shape)
    model.get_layer("look_2").set_weights([steering, np.zeros(17)])
    steered = model.predict_on_batch(values)
    same = [np.allclose(a, b) for a, b in zip(seen, steered, strict=True)]
    assert same == [True, False, True, True]


def test_one_cycle_rises_and_ends_at_zero():
    rates = [networks.one_cycle(share, 2.0) for share in np.linspace(0, 1, 101)]
    assert rates[20] == pytest.approx(2.0) and max(rates) == rates[20]
    assert rates[-1] == pytest.approx(0, abs=1e-12) and rates[0] == pytest.approx(0.1)


def test_unknown_model_is_named():
    with pytest.raises(ValueError, match="nonet.*allowed"):
        networks.build_model("nonet", (53, 129, 3), 4, 26)


# ---------------------------------------------------------------- evaluation
def test_score_against_a_loop():
    random = np.random.default_rng(3)
    truth = random.integers(0, 26, (500, 4))
    right_share = random.random((500, 4)) < [0.9, 0.6, 0.7, 0.8]
    predicted = np.where(right_share, truth, random.integers(0, 26, (500, 4)))
    result = reading.score(predicted, truth, string.ascii_lowercase)
    right = [0, 0, 0, 0]
    whole, wrong = 0, {}
    for row in range(500):
        all_four = True
        for position in range(4):
            if predicted[row][position] == truth[row][position]:
                right[position] += 1
            else:
                all_four = False
                key = (chr(97 + truth[row][position]), chr(97 + predicted[row][position]))
                wrong[key] = wrong.get(key, 0) + 1
        whole += all_four
    assert result["position_accuracy"] == [count / 500 for count in right]
    assert result["whole_accuracy"] == whole / 500
    product = np.prod([count / 500 for count in right])
    assert result["product_of_positions"] == pytest.approx(product)
    assert result["confused"][0]["times"] == max(wrong.values())
    for row in result["confused"]:
        assert wrong[row["drawn"], row["read"]] == row["times"]


@pytest.mark.parametrize(("right", "count"), [(0, 30), (97, 100), (5000, 5000), (1700, 2000)])
def test_wilson_interval_against_its_formula(right, count):
    z, share = 1.959963984540054, right / count
    centre = share + z * z / (2 * count)
    spread = z * ((share * (1 - share) + z * z / (4 * count)) / count) ** 0.5
    expected = [(centre - spread) / (1 + z * z / count), (centre + spread) / (1 + z * z / count)]
    assert reading.wilson_interval(right, count) == pytest.approx(expected, abs=1e-9)


def test_each_image_is_asked_once_and_in_order():
    class Echo:
        def predict_on_batch(self, images):
            return images[:, None, None].astype("float32")

    answers = reading.logits_of(Echo(), np.arange(1003))
    np.testing.assert_array_equal(answers[:, 0, 0], np.arange(1003))


def test_confidence_is_the_product_of_the_highest_probabilities():
    logits = np.log([[[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]])
    texts, confidence = reading.texts_of(logits, "abc")
    assert texts == ["ac"] and confidence == pytest.approx([0.35])


def test_split_is_disjoint_complete_and_repeats():
    rows, held = training.split(1040, seed=0)
    assert len(held) == 104 and sorted([*rows, *held]) == list(range(1040))
    np.testing.assert_array_equal(held, training.split(1040, seed=0)[1])
    # more than --images and --test-images may be
    assert training.TEST_START > 10**9
    assert training.VALIDATION_START - training.TEST_START > 10**7
    assert predict.DEMONSTRATION - training.VALIDATION_START > 10**7


def test_kept_images_pass_once_in_each_epoch():
    images, targets = np.arange(37)[:, None], np.arange(37)[:, None]
    source = training.KeptImages(images, targets, batch_size=8, seed=0)
    first, second = (
        np.concatenate([batch[:, 0] for batch, _ in source.batches(epoch, 0)]) for epoch in (0, 1)
    )
    assert sorted(first) == list(range(37)) == sorted(second) and list(first) != list(second)


def test_reject_curve_against_a_loop():
    random = np.random.default_rng(0)
    sure, right = random.random(50), random.random(50) < 0.7
    answered, accuracy = evaluate.reject_curve(sure, right)
    for count in (1, 17, 50):
        chosen = sorted(range(50), key=lambda row: -sure[row])[:count]
        assert answered[count - 1] == count / 50
        assert accuracy[count - 1] == pytest.approx(np.mean([right[row] for row in chosen]))


def test_occlusion_map_finds_the_pixel_that_matters():
    """A model whose every letter depends on one place: covering that place alone changes it."""
    images = keras.layers.Input((53, 129, 3), dtype="uint8")
    crop = keras.layers.Cropping2D(((20, 32), (64, 64)))
    spot = crop(keras.layers.Rescaling(1 / 255)(images))
    two = keras.layers.Dense(2, use_bias=False)(keras.layers.Flatten()(spot))
    model = keras.Model(images, keras.layers.Reshape((1, 2))(two))
    model.layers[-2].set_weights([np.array([[9.0, -9.0]] * 3)])
    image = np.zeros((53, 129, 3), np.uint8)
    image[20, 64] = 255
    falls = evaluate.occlusion_map(model, image, size=11, step=4)[0]
    for row in range(falls.shape[0]):
        for column in range(falls.shape[1]):
            covers = 4 * row <= 20 < 4 * row + 11 and 4 * column <= 64 < 4 * column + 11
            assert (falls[row, column] > 0.4) == covers


# ---------------------------------------------------------------- ablations
def test_ctc_text_against_keras():
    random = np.random.default_rng(1)
    logits = random.normal(size=(200, 9, 6)).astype("float32") * 3
    ours = ablations.ctc_text(logits.argmax(-1))
    decoded, _ = keras.ops.ctc_decode(
        logits, np.full(200, 9, "int32"), strategy="greedy", merge_repeated=True, mask_index=0
    )
    theirs = keras.ops.convert_to_numpy(decoded)[0]
    four = 0
    for mine, other in zip(ours, theirs, strict=True):
        letters = [number - 1 for number in other if number > 0]
        if len(letters) == 4:
            four += 1
            assert list(mine) == letters
        else:
            assert list(mine) == [-1] * 4
    assert four > 10


def test_shared_head_answers_alike_at_every_position():
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (3, 53, 129, 3), dtype=np.uint8)
    logits = keras.ops.convert_to_numpy(ablations.build_shared_head().predict_on_batch(images))
    assert logits.shape == (3, 4, 26)
    assert np.ptp(logits, axis=1).max() == 0 and np.ptp(logits) > 0


def test_fold_case():
    letters = string.ascii_lowercase
    expected = [letters.index(character.lower()) for character in letters + letters.upper()]
    assert ablations.fold_case(np.arange(52)).tolist() == expected


def run_of(whole, seed=0, count=1000):
    """What run_variant returns of a run that reads `whole` of its test images."""
    return {
        "seed": seed,
        "test_images": count,
        "letter_accuracy": whole**0.25,
        "whole_accuracy": whole,
        "position_accuracy": [whole**0.25] * 4,
        "history": [{"images": 64, "whole_accuracy": whole}],
        "seconds": 1.0,
        "spread": 0.0,
    }


def row_of(*wholes):
    return ablations.pooled([run_of(whole, seed) for seed, whole in enumerate(wholes)])


def test_pooled_counts_the_test_images_of_all_seeds():
    row = row_of(0.5, 0.52, 0.6)
    assert row["whole_accuracy"] == pytest.approx(1620 / 3000) and row["seconds"] == 3
    assert row["whole_accuracy_95"] == reading.wilson_interval(1620, 3000)


def test_mean_interval_is_students():
    import scipy

    gains = [0.011, 0.013, 0.008, 0.02]
    expected = scipy.stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert ablations.mean_interval(gains) == pytest.approx(tuple(expected))
    assert ablations.mean_interval([0.3]) == (-1, 1)  # one seed tells nothing


@pytest.mark.parametrize(
    ("apart", "sides"),
    [
        ([0.95, 0.96, 0.955], (1, 1)),  # two classes read better
        ([0.85, 0.86, 0.855], (-1, -1)),  # one class does
        ([0.90, 0.93, 0.89], (-1, 1)),  # the seeds do not tell
        ([0.99], (-1, 1)),
    ],
)
def test_case_is_judged_in_both_directions(apart, sides):
    merged = row_of(*[0.9, 0.905, 0.91][: len(apart)])
    measured, holds = ablations.case_gain(merged, row_of(*apart))
    assert (np.sign(measured["low"]), np.sign(measured["high"])) == sides
    assert holds == (sides == (1, 1)) and measured["seeds"] == len(apart)


def test_claims_can_fail():
    few, many = row_of(0.5), row_of(0.6)
    rows = {"frozen": few, "trainable": many, "own_heads": many, "cased_52_classes": few}
    claims = ablations.claims_of({**rows, "shared_head": few})
    assert {claim["id"]: claim["holds"] for claim in claims} == {
        "C1.4": True,
        "C1.5": False,
        "C1.6": False,
    }
    assert ablations.claims_of({"ctc": few}) == []


def test_labels_of_the_curves_keep_apart_and_in_order():
    heights = [0.0, 0.93, 0.951, 0.94, 0.1, 0.95]
    placed = ablations.spread_out(heights, gap=0.07)
    order = np.argsort(heights)
    assert (np.diff(placed[order]) > 0.069).all()
    assert np.abs(placed - heights)[[0, 4]].max() < 1e-9  # those that stand alone do not move


def test_a_learning_curve_ends_with_the_result_and_a_finished_run_is_kept(tmp_path, monkeypatch):
    flags = ["--images", 192, "--every", 64, "--test-images", 20, "--batch-size", 32]
    flags += ["--out-dir", tmp_path]
    rows, _, _ = ablations.main(arguments(ablations, "--only", "ctc", *flags))
    run = rows["ctc"]["runs"][0]
    assert [point["images"] for point in run["history"]] == [64, 128, 192]
    assert run["history"][-1]["whole_accuracy"] == run["whole_accuracy"]
    asked = []

    def fake(variant, args, seed, data, learned):
        asked.append((variant, seed))
        return run_of(0.5, seed)

    monkeypatch.setattr(ablations, "run_variant", fake)
    both = ["--only", "ctc", "shared_head", *flags, "--resume"]
    again, _, _ = ablations.main(arguments(ablations, *both))
    assert asked == [("shared_head", 0)] and again["ctc"] == rows["ctc"]
    ablations.main(arguments(ablations, "--only", "shared_head", *both[3:], "--seeds", 2))
    assert asked[1:] == [("shared_head", 1)]
    with pytest.raises(ValueError, match="--resume.*192"):
        ablations.main(arguments(ablations, *both, "--images", 160))


def test_foils_are_trained_as_long_as_the_network_they_stand_beside():
    """Every variant of the recorded run saw as many images as the default run of train.py."""
    results = FOLDER / "results"
    default = json.loads((results / "train.json").read_text(encoding="utf-8"))
    for name in ("ablations.long", "ablations.case"):
        rows = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))["metrics"]
        for row in rows.values():
            lengths = {run["history"][-1]["images"] for run in row["runs"]}
            assert lengths == {default["metrics"]["images_seen"]}
            seeds = [run["seed"] for run in row["runs"]]
            assert seeds == list(range(9 if name == "ablations.case" else 1))


# ---------------------------------------------------------------- training
def test_resume_ends_with_the_same_weights(tmp_path, folder_of_samples, monkeypatch):
    flags = ["--samples", folder_of_samples, "--length", 4, "--images", 108]
    # a low rate, so that rounding is not blown up to 1e-3
    flags += ["--learning-rate", 1e-4, "--batch-size", 12]
    whole, _, _ = train.main(arguments(train, *flags, "--out-dir", tmp_path / "whole"))
    save, calls = training.save_checkpoint, []

    def save_then_stop(*checkpoint):
        save(*checkpoint)
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train.main(arguments(train, *flags, "--out-dir", tmp_path / "cut"))
    monkeypatch.setattr(training, "save_checkpoint", save)
    resumed, _, _ = train.main(arguments(train, *flags, "--resume", "--out-dir", tmp_path / "cut"))
    assert len(calls) == 1 and len(whole["history"]) == 3 == len(resumed["history"])
    first, second = (
        reading.load_model(tmp_path / name / "compact.keras")[0].get_weights()
        for name in ("whole", "cut")
    )
    # rounding sets the mean weight 3e-8 apart, a dropout state that is not restored 4e-5
    differences = [np.abs(one - two).ravel() for one, two in zip(first, second, strict=True)]
    assert np.mean(np.concatenate(differences)) < 1e-6
    flags[-1] = 6
    with pytest.raises(ValueError, match="batch_size"):
        train.main(arguments(train, *flags, "--resume", "--out-dir", tmp_path / "cut"))


@pytest.mark.slow
def test_the_articles_run_from_samples_to_a_model_that_predict_reads(tmp_path, folder_of_samples):
    flags = ["--model", "article", "--samples", folder_of_samples, "--quick", "--batch-size", 16]
    args = arguments(train, *flags, "--out-dir", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # nothing but our lines on the console
        metrics, claims, _ = train.main(args)
    assert metrics["parameters"] == 20_861_480 + 4 * (2048 * 26 + 26)
    assert metrics["test_images"] == 4 and claims[-1]["id"] == "C1.3"
    model, facts = reading.load_model(tmp_path / "article.keras")
    assert facts["shape"] == [53, 129, 3] and facts["resize"] == [50, 120]
    assert reading.logits_of(model, np.zeros((1, 53, 129, 3), np.uint8)).shape[1] == 4


@pytest.mark.slow
def test_xception_is_trained_at_the_articles_size(tmp_path):
    flags = ["--model", "xception", "--images", 64, "--batch-size", 32, "--test-images", 20]
    _, claims, _ = train.main(arguments(train, *flags, "--out-dir", tmp_path))
    assert claims[-1]["id"] == "C1.3" and claims[-1]["holds"] is False
    model, facts = reading.load_model(tmp_path / "xception.keras")
    assert facts["shape"] == [53, 129, 3] and facts["resize"] == [50, 120]
    assert model.get_layer("block1_conv1").output.shape[1:3] == (24, 59)
    normalised = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in normalised} == {0.9}  # else its tests lag far behind


@pytest.mark.slow
def test_compact_learns():
    """One letter of three, 60 steps: far above a third."""
    keras.utils.set_random_seed(0)
    generator = CaptchaGenerator(classes="ios", length=1)
    model = networks.build_model("compact", (53, 51, 3), 1, 3)
    networks.compile_model(model, 3e-3)
    ablations.fit(model, (generator.batch(32 * step, 32) for step in range(60)), 60, 3e-3)
    images, truth = generator.batch(10**6, 200)
    assert (reading.predict_classes(model, images) == truth).mean() > 0.7


# ---------------------------------------------------------------- flags and models that are wrong
@pytest.mark.parametrize(
    ("script", "flags", "named"),
    [
        ("make_samples.py", ["--count", "0"], "--count"),
        ("make_samples.py", ["--alphabet", "aab"], "--alphabet"),
        ("make_samples.py", ["--alphabet", "AB"], "--case-sensitive"),
        ("make_samples.py", ["--fonts", __file__], "test_captcha_xception.py"),
        ("make_samples.py", ["--fonts", "/nowhere/none.ttf"], "none.ttf"),
        ("train.py", ["--batch-size", "1"], "--batch-size"),
        ("train.py", ["--samples", "/nowhere/at/all"], "--samples"),
        ("train.py", ["--weights", "/nowhere"], "--weights"),
        ("train.py", ["--weights", "imagenet"], "--weights"),
        ("train.py", ["--minutes", "0"], "--minutes"),
        ("train.py", ["--model", "article", "--minutes", "3"], "--minutes"),
        ("predict.py", ["--min-confidence", "2"], "--min-confidence"),
        ("predict.py", ["/nowhere/none.jpg"], "none.jpg"),
        ("predict.py", ["--weights", "/nowhere/none.keras"], "none.keras"),
        ("evaluate.py", ["--test-images", "1"], "--test-images"),
        ("evaluate.py", ["--samples", "/nowhere/at/all"], "/nowhere/at/all"),
        ("experiments/ablations.py", ["--images", "3"], "--images"),
        ("experiments/network_2016.py", ["--passes", "0"], "--passes"),
        ("experiments/train_distributed.py", ["--devices", "65"], "--devices"),
    ],
)
def test_bad_flags_name_themselves_before_tensorflow_is_imported(script, flags, named, tmp_path):
    command = ["-X", "importtime", FOLDER / script, *flags, "--out-dir", tmp_path]
    finished = run_script(*command)
    said = [line for line in finished.stderr.splitlines() if not line.startswith("import time:")]
    assert finished.returncode == 2 and named in "\n".join(said)
    assert "Traceback" not in finished.stderr and " tensorflow\n" not in finished.stderr


def test_weights_that_cannot_be_used(tmp_path, small_reader):
    with pytest.raises(ValueError, match="none.keras"):
        reading.load_model(tmp_path / "none.keras")
    assert reading.load_model(small_reader)[1]["length"] == 4
    note = small_reader.with_suffix(".json")
    facts = json.loads(note.read_text(encoding="utf-8"))
    note.write_text(json.dumps({**facts, "classes": "abc"}), encoding="utf-8")
    with pytest.raises(ValueError, match="does not match"):
        reading.load_model(small_reader)
    note.write_text(json.dumps(facts), encoding="utf-8")
    small_reader.write_bytes(small_reader.read_bytes()[:2000])
    with pytest.raises(ValueError, match="m.keras: cannot be used"):
        reading.load_model(small_reader)


def test_model_with_code_inside_is_refused(tmp_path):
    images = keras.layers.Input((53, 129, 3), dtype="uint8")
    x = keras.layers.Lambda(lambda t: keras.ops.cast(t, "float32")[:, :4, :26, 0])(images)
    keras.Model(images, x).save(tmp_path / "m.keras")
    facts = {"model": "cnn2016", "classes": string.ascii_lowercase, "length": 4}
    text = json.dumps({**facts, "shape": [53, 129, 3]})
    (tmp_path / "m.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="m.keras.*does not match"):
        reading.load_model(tmp_path / "m.keras")


# ---------------------------------------------------------------- shipped weights
@pytest.mark.slow
def test_shipped_weights_read_unseen_captchas(generator):
    assert WEIGHTS.stat().st_size < 6e6
    model, facts = reading.load_model(WEIGHTS)
    images, targets = generator.batch(predict.DEMONSTRATION + 1000, 300)
    texts, confidences = reading.texts_of(reading.logits_of(model, images), facts["classes"])
    labels = [generator.text(row) for row in targets]
    right = np.array([text == label for text, label in zip(texts, labels, strict=True)])
    assert right.mean() > 0.95
    assert right.all() or confidences[right].mean() > confidences[~right].mean()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_read_the_same(backend, tmp_path, folder_of_samples):
    pytest.importorskip(backend)
    texts = []
    for name in ("tensorflow", backend):
        flags = ["--json", "--out-dir", tmp_path, folder_of_samples]
        finished = run_script(FOLDER / "predict.py", *flags, KERAS_BACKEND=name)
        assert finished.returncode == 0, finished.stderr
        texts.append([row["text"] for row in json.loads(finished.stdout)])
    assert texts[0] == texts[1] and len(texts[0]) == 40
