"""captcha_xception: the generator, the bookkeeping of letters and positions, resuming, and what bad input says."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FOLDER = Path(__file__).resolve().parents[1] / "captcha_xception"
sys.path.insert(0, str(FOLDER.parent))
keras = pytest.importorskip("keras")

from captcha_xception import (  # noqa: E402
    ablations,
    batch_stream,
    draw_captcha,
    evaluate,
    make_samples,
    networks,
    predict,
    train,
)

WEIGHTS = FOLDER / "weights" / "compact.keras"


@pytest.fixture(scope="module")
def generator():
    return draw_captcha.CaptchaGenerator()


@pytest.fixture(scope="module")
def folder_of_samples(tmp_path_factory, generator):
    folder = tmp_path_factory.mktemp("samples")
    for index in range(40):
        make_samples.save_image(*generator.draw(index), index, folder)
    return folder


def run(script, *arguments, **environment):
    return subprocess.run([sys.executable, str(FOLDER / script), *map(str, arguments)], capture_output=True, text=True,
                          check=False, env={**os.environ, **environment}, timeout=600)


# ---------------------------------------------------------------- generator
def test_same_seed_same_bytes_in_other_processes(tmp_path, generator):
    settings = {"classes": "abcdefghijklmnopqrstuvwxyz", "length": 4, "seed": 0}
    for name, workers in (("one", 1), ("two", 2)):
        make_samples.save_samples(settings, 6, tmp_path / name, workers)
    here = tmp_path / "here"
    here.mkdir()
    for index in reversed(range(6)):                  # the order must not matter either
        make_samples.save_image(*generator.draw(index), index, here)
    names = sorted(path.name for path in here.iterdir())
    assert len(names) == 6
    for name in names:
        first = (here / name).read_bytes()
        assert first == (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_other_seed_and_other_index_draw_other_images(generator):
    image, _ = generator.draw(0)
    assert (draw_captcha.CaptchaGenerator(seed=1).draw(0)[0] != image).mean() > 0.5
    assert (generator.draw(1)[0] != image).mean() > 0.5
    assert image.shape == (53, 129, 3) and image.dtype == np.uint8


def test_label_is_the_text_that_is_stamped(monkeypatch):
    """The letters that reach the paper, unbent, compared with a fresh rendering of every character in every face."""
    generator, stamped = draw_captcha.CaptchaGenerator(), []
    bent = generator._bent
    monkeypatch.setattr(generator, "_bent",
                        lambda face, form, bend: stamped.append(bent(face, form, 0)) or bent(face, form, bend))
    fonts = [ImageFont.truetype(str(face), draw_captcha.GLYPH_SIZE) for face in generator.faces]
    fresh = {}
    for character in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ":
        for font in fonts:
            glyph = draw_captcha.CaptchaGenerator._glyph(font, character)
            fresh.setdefault((glyph.size, glyph.tobytes()), set()).add(character)
    upper = 0
    for index in range(60):
        stamped.clear()
        _, label = generator.draw(index)
        read = [fresh[glyph.size, glyph.tobytes()] for glyph in stamped]
        assert len(read) == 4 and all(letter in {form.lower() for form in forms} for letter, forms in zip(label, read))
        upper += any(form.isupper() for forms in read for form in forms)
    assert 30 < upper < 60                            # both cases are drawn


def test_affine_map_sends_the_centre_to_the_centre_and_undoes_turn_shear_and_scale():
    """Against the forward map, written down the other way round."""
    turn, shear, slope, scale, stretch = 0.2, 0.1, -0.3, 0.8, 0.9
    box, (a, b, c, d, e, f) = draw_captcha._affine(60.3, 25.7, 70, 50, scale, stretch, turn, shear, slope)
    left, top, width, height = box
    for x, y in ((0, 0), (70, 0), (0, 50), (70, 50), (35, 25)):                   # glyph → image
        v = (y - 25) / 2 * stretch
        u = (x - 35) / 2 * scale - shear * v
        dx, dy = np.cos(turn) * u - np.sin(turn) * v, np.sin(turn) * u + np.cos(turn) * v
        at_x, at_y = 60.3 + dx - left, 25.7 + dy + slope * dx - top
        np.testing.assert_allclose([a * at_x + b * at_y + c, d * at_x + e * at_y + f], [x, y], atol=1e-9)
        assert 0 <= at_x <= width and 0 <= at_y <= height                         # and the box holds all of it


def test_a_bent_letter_keeps_its_ink_and_hangs_on_either_side(generator):
    face, form = 1, generator.drawn.index("M")
    plain, bent = (np.asarray(generator._bent(face, form, bend)).astype(int) for bend in (0, 3))
    assert bent.sum() == plain.sum() and (bent.sum(axis=0) == plain.sum(axis=0)).all()
    assert len(bent) == len(plain) + abs(draw_captcha._hang(plain.shape[1] / 2, 3))
    heights = (np.arange(len(bent))[:, None] * bent).sum(axis=0) / np.maximum(1, bent.sum(axis=0))
    before = (np.arange(len(plain))[:, None] * plain).sum(axis=0) / np.maximum(1, plain.sum(axis=0))
    moved, middle = heights - before, plain.shape[1] // 2
    assert moved[middle] == pytest.approx(0, abs=0.01) and moved[12] > 5 and moved[-12] > 5


def test_case_sensitive_labels_tell_a_from_capital_a():
    generator = draw_captcha.CaptchaGenerator("aA", case_sensitive=True)
    texts = [generator.draw(index)[1] for index in range(10)]
    assert {letter for text in texts for letter in text} == {"a", "A"}
    numbers = generator.batch(0, 10)[1]
    assert ["".join("aA"[number] for number in row) for row in numbers] == texts


def test_label_as_drawn_changes_the_label_only(generator):
    cased = draw_captcha.CaptchaGenerator(label_as_drawn=True)
    texts = [cased.draw(index)[1] for index in range(30)]
    assert [text.lower() for text in texts] == [generator.draw(index)[1] for index in range(30)]
    assert any(text != text.lower() for text in texts)
    assert not any(letter in "Il" for text in texts for letter in text)      # one stroke, two letters
    np.testing.assert_array_equal(cased.draw(7)[0], generator.draw(7)[0])


def test_batch_and_stream_number_the_classes_of_the_labels(generator):
    images, targets = generator.batch(10, 5)
    for row in range(5):
        pixels, label = generator.draw(10 + row)
        np.testing.assert_array_equal(images[row], pixels)
        assert "".join("abcdefghijklmnopqrstuvwxyz"[number] for number in targets[row]) == label
    stream = batch_stream.BatchStream({}, workers=1, ahead=2, largest=3)
    for left_early in stream.batches(500, 90, 3):
        break                                         # what it still had drawn must not reach the next loop
    streamed, numbers = evaluate.merge(stream.batches(8, 7, 3))
    stream.close()
    assert len(left_early[0]) == 3 and len(streamed) == 7
    np.testing.assert_array_equal(streamed[2:], images)
    np.testing.assert_array_equal(numbers[2:], targets)


def test_letters_cannot_be_cut_apart_by_columns(generator):
    cut = [make_samples.pieces(generator.draw(index)[0]) == 4 for index in range(150)]
    assert np.mean(cut) < 0.35
    clean = np.full((53, 129, 3), 255, np.uint8)
    for left in (5, 40, 70, 100):
        clean[10:40, left:left + 20] = 0
    assert make_samples.pieces(clean) == 4            # and the measure does see gaps where there are some


# ---------------------------------------------------------------- networks
def test_parameter_counts():
    cnn = networks.build_model("cnn2016", (53, 129, 3), 4, 26)
    assert cnn.count_params() == 48712
    assert cnn.output_shape == (None, 4, 26)
    assert 2e5 < networks.build_model("compact", (53, 129, 3), 4, 26).count_params() < 1.2e6


@pytest.mark.slow
def test_xception_is_the_articles():
    model = networks.build_model("xception", (50, 120, 3), 4, 26)
    assert model.count_params() == 20_861_480 + 4 * (2048 * 26 + 26)
    assert all(layer.trainable for layer in model.layers)


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
        weights = [np.exp(-4 * ((column + 0.5) / 17 * 4 - position - 0.5) ** 2) for column in range(17)]
        expected = sum(weight * values[:, column] for column, weight in enumerate(weights)) / sum(weights)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(seen[position]), expected, rtol=1e-4, atol=1e-5)
    kernel = model.get_layer("look_2").get_weights()[0]
    model.get_layer("look_2").set_weights([np.random.default_rng(1).normal(size=kernel.shape), np.zeros(17)])
    steered = model.predict_on_batch(values)
    assert [np.allclose(a, b) for a, b in zip(seen, steered)] == [True, False, True, True]


def test_one_cycle_rises_and_ends_at_zero():
    rates = [networks.one_cycle(share, 2.0) for share in np.linspace(0, 1, 101)]
    assert rates[20] == pytest.approx(2.0) and max(rates) == rates[20]
    assert rates[-1] == pytest.approx(0, abs=1e-12) and rates[0] == pytest.approx(0.1)


def test_unknown_model_is_named():
    with pytest.raises(ValueError, match="nonet.*allowed"):
        networks.build_model("nonet", (53, 129, 3), 4, 26)


# ---------------------------------------------------------------- evaluation
def test_evaluate_against_a_loop():
    random = np.random.default_rng(3)
    truth = random.integers(0, 26, (500, 4))
    predicted = np.where(random.random((500, 4)) < [0.9, 0.6, 0.7, 0.8], truth, random.integers(0, 26, (500, 4)))
    result = evaluate.evaluate(predicted, truth, "abcdefghijklmnopqrstuvwxyz")
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
    assert result["product_of_positions"] == pytest.approx(np.prod([count / 500 for count in right]))
    assert result["confused"][0]["times"] == max(wrong.values())
    for row in result["confused"]:
        assert wrong[row["drawn"], row["read"]] == row["times"]


@pytest.mark.parametrize(("right", "count"), [(0, 30), (97, 100), (5000, 5000), (1700, 2000)])
def test_wilson_interval_against_scipy(right, count):
    binomtest = pytest.importorskip("scipy.stats").binomtest
    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert evaluate.wilson_interval(right, count) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_each_test_image_is_visited_once():
    images, targets = np.arange(1003)[:, None, None, None], np.arange(1003)[:, None]
    seen = np.concatenate([piece[:, 0, 0, 0] for piece, _ in evaluate.slices(images, targets)])
    np.testing.assert_array_equal(seen, np.arange(1003))


def test_split_is_disjoint_complete_and_repeats():
    rows, held = train.split(1040, seed=0)
    assert len(held) == 104 and sorted([*rows, *held]) == list(range(1040))
    np.testing.assert_array_equal(held, train.split(1040, seed=0)[1])
    # more than --images and --test-images may be
    assert evaluate.TEST_START > 10**9 and train.VALIDATION_START - evaluate.TEST_START > 10**7


def test_epoch_batches_pass_each_image_once():
    images, targets = np.arange(37)[:, None], np.arange(37)[:, None]
    first = np.concatenate([a[:, 0] for a, _ in train.epoch_batches(images, targets, 8, 0, 0)])
    second = np.concatenate([a[:, 0] for a, _ in train.epoch_batches(images, targets, 8, 0, 1)])
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
    """A model whose every letter depends on one place: covering that place, and no other, changes it."""
    images = keras.layers.Input((53, 129, 3), dtype="uint8")
    spot = keras.layers.Cropping2D(((20, 32), (64, 64)))(keras.layers.Rescaling(1 / 255)(images))
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
    decoded, _ = keras.ops.ctc_decode(logits, np.full(200, 9, "int32"), strategy="greedy", merge_repeated=True,
                                      mask_index=0)
    theirs = keras.ops.convert_to_numpy(decoded)[0]
    four = 0
    for mine, other in zip(ours, theirs):
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
    assert logits.shape == (3, 4, 26) and np.ptp(logits, axis=1).max() == 0 and np.ptp(logits) > 0


def test_fold_case():
    letters = "abcdefghijklmnopqrstuvwxyz"
    assert ablations.fold_case(np.arange(52)).tolist() == [letters.index(c.lower()) for c in letters + letters.upper()]


def test_claims_can_fail():
    row = {"whole_accuracy": 0.5, "whole_accuracy_95": [0.48, 0.52], "letter_accuracy": 0.8}
    better = {"whole_accuracy": 0.6, "whole_accuracy_95": [0.58, 0.62], "letter_accuracy": 0.9}
    rows = {"frozen": row, "trainable": better, "own_heads": better, "cased_52_classes": row, "shared_head": row}
    assert [claim["holds"] for claim in ablations.claims_of(rows, 0.0)] == [True, False, False]
    assert [claim["holds"] for claim in ablations.claims_of({}, None)] == [None, None, None]


# ---------------------------------------------------------------- training
def test_resume_ends_with_the_same_weights(tmp_path, folder_of_samples, monkeypatch):
    flags = ["--samples", str(folder_of_samples), "--length", "4", "--images", "108", "--learning-rate", "1e-4",
             "--batch-size", "12"]                     # a low rate, so that rounding is not blown up to 1e-3
    whole = train.main([*flags, "--out-dir", str(tmp_path / "whole")])
    save, calls = train.save_model, []

    def save_then_stop(*arguments):
        save(*arguments)
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "save_model", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train.main([*flags, "--out-dir", str(tmp_path / "cut")])
    monkeypatch.setattr(train, "save_model", save)
    resumed = train.main([*flags, "--resume", "--out-dir", str(tmp_path / "cut")])
    assert len(calls) == 1 and len(whole["metrics"]["history"]) == 3 == len(resumed["metrics"]["history"])
    first, second = (predict.load_reader(tmp_path / name / "compact.keras")[0].get_weights()
                     for name in ("whole", "cut"))
    # rounding sets the mean weight 3e-8 apart, a dropout state that is not restored 4e-5
    apart = np.mean(np.concatenate([np.abs(one - two).ravel() for one, two in zip(first, second)]))
    assert apart < 1e-6
    with pytest.raises(ValueError, match="batch_size"):
        train.main([*flags[:-1], "6", "--resume", "--out-dir", str(tmp_path / "cut")])


def test_real_layout_trains_without_a_change(tmp_path):
    """Five characters, digits among them, PNG, another size: as keras.io's captcha_images_v2."""
    generator = draw_captcha.CaptchaGenerator(classes="2345678bcdefgmnpwxy", length=5)
    for index in range(30):
        pixels, label = generator.draw(index)
        Image.fromarray(pixels[:50]).save(tmp_path / f"{label}.png")
    results = train.main(["--samples", str(tmp_path), "--images", "64", "--batch-size", "9", "--model", "cnn2016",
                          "--out-dir", str(tmp_path / "out")])
    assert len(results["metrics"]["position_accuracy"]) == 5
    assert results["metrics"]["test_images"] == 3
    facts = json.loads((tmp_path / "out" / "cnn2016.json").read_text(encoding="utf-8"))
    assert facts["length"] == 5 and facts["shape"] == [50, 155, 3]
    assert set(facts["classes"]) <= set("2345678bcdefgmnpwxy")


@pytest.mark.slow
def test_compact_learns():
    """One letter of three, 40 steps: far above a third."""
    keras.utils.set_random_seed(0)
    generator = draw_captcha.CaptchaGenerator(classes="ios", length=1)
    model = networks.build_model("compact", (53, 51, 3), 1, 3)
    networks.compile_model(model, 3e-3)
    ablations.fit(model, (generator.batch(32 * step, 32) for step in range(60)), 60, 3e-3)
    predicted, truth = evaluate.predict_classes(model, [generator.batch(10**6, 200)])
    assert (predicted == truth).mean() > 0.7


# ---------------------------------------------------------------- bad input
def spoil(folder, what):
    """Copy five good files beside a bad one."""
    files = sorted(folder.iterdir())
    if what == "truncated":
        files[3].write_bytes(files[3].read_bytes()[:300])
    elif what == "no image":
        files[3].write_text("hello", encoding="utf-8")
    elif what == "label too long":
        files[3].rename(folder / "x_abcde.jpg")
    elif what == "foreign":
        files[3].rename(folder / "x_ab!d.jpg")
    elif what == "size":
        Image.new("RGB", (60, 20)).save(files[3])


@pytest.mark.parametrize("what", ["truncated", "no image", "label too long", "foreign", "size"])
def test_one_bad_file_is_named_and_skipped_many_stop(what, tmp_path, generator, capsys):
    for index in range(30):
        make_samples.save_image(*generator.draw(index), index, tmp_path)
    spoil(tmp_path, what)
    images, labels, skipped = evaluate.read_samples(tmp_path, None, False)
    assert len(images) == len(labels) == 29 and skipped == 1
    assert "skipped" in capsys.readouterr().err
    for path in sorted(tmp_path.iterdir())[5:9]:
        path.write_text("hello", encoding="utf-8")
    with pytest.raises(ValueError, match="more than 1 %"):
        evaluate.read_samples(tmp_path, None, False)


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="holds no"):
        evaluate.read_samples(tmp_path, None, False)
    with pytest.raises(ValueError, match="holds no"):
        predict.list_images([tmp_path])


@pytest.mark.parametrize(("module", "flags", "named"), [
    (make_samples, ["--count", "0"], "--count"), (make_samples, ["--alphabet", "aab"], "--alphabet"),
    (make_samples, ["--alphabet", "AB"], "--case-sensitive"), (train, ["--batch-size", "1"], "--batch-size"),
    (train, ["--samples", "/nowhere/at/all"], "--samples"), (train, ["--weights", "/nowhere"], "--weights"),
    (train, ["--weights", "imagenet"], "--weights"), (train, ["--minutes", "0"], "--minutes"),
    (predict, ["--min-confidence", "2"], "--min-confidence"), (ablations, ["--images", "3"], "--images"),
    (evaluate, ["--test-images", "1"], "--test-images"), (networks, ["--seconds", "0"], "--seconds")])
def test_bad_flags_name_themselves(module, flags, named, capsys):
    with pytest.raises(SystemExit) as stop:
        module.parse_args(flags)
    assert stop.value.code == 2 and named in capsys.readouterr().err


def make_reader(path, length=4, classes="abcdefghijklmnopqrstuvwxyz"):
    keras.utils.set_random_seed(0)
    model = networks.build_model("cnn2016", (53, 129, 3), length, len(classes))
    train.save_model(model, path, {"model": "cnn2016", "classes": classes, "length": length, "shape": [53, 129, 3]})


def test_weights_that_cannot_be_used(tmp_path):
    path = tmp_path / "m.keras"
    with pytest.raises(ValueError, match="m.keras"):
        predict.load_reader(path)
    make_reader(path)
    assert predict.load_reader(path)[1]["length"] == 4
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    path.with_suffix(".json").write_text(json.dumps({**facts, "classes": "abc"}), encoding="utf-8")
    with pytest.raises(ValueError, match="does not match"):
        predict.load_reader(path)
    path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="m.keras: cannot be used"):
        predict.load_reader(path)


def test_model_with_code_inside_is_refused(tmp_path):
    images = keras.layers.Input((53, 129, 3), dtype="uint8")
    x = keras.layers.Lambda(lambda t: keras.ops.cast(t, "float32")[:, :4, :26, 0])(images)
    keras.Model(images, x).save(tmp_path / "m.keras")
    facts = {"model": "cnn2016", "classes": "abcdefghijklmnopqrstuvwxyz", "length": 4, "shape": [53, 129, 3]}
    (tmp_path / "m.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ValueError, match="m.keras.*does not match"):
        predict.load_reader(tmp_path / "m.keras")


def test_predict_reads_json_rejects_and_names_bad_files(tmp_path, folder_of_samples, capsys):
    make_reader(tmp_path / "m.keras")
    flags = ["--weights", str(tmp_path / "m.keras"), "--out-dir", str(tmp_path / "out")]
    predict.main([*flags, "--json", "--min-confidence", "1", str(folder_of_samples)])
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 40 and all(row["text"] == "?" and 0 <= row["confidence"] < 1 for row in rows)
    (tmp_path / "bad.jpg").write_text("hello", encoding="utf-8")
    Image.new("RGB", (60, 20)).save(tmp_path / "small.png")
    for name, reason in (("bad.jpg", "not a readable image"), ("small.png", "60×20"), ("none.jpg", "no such file")):
        with pytest.raises(ValueError, match=f"{name}.*{reason}"):
            predict.main([*flags, str(tmp_path / name)])


def test_bad_input_ends_with_one_line_and_status_2(tmp_path):
    done = run("predict.py", tmp_path / "none.jpg", "--out-dir", tmp_path)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] and "Traceback" not in done.stderr


# ---------------------------------------------------------------- shipped weights
@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.exists(), reason="no weights shipped")
def test_shipped_weights_read_unseen_captchas(generator):
    assert WEIGHTS.stat().st_size < 6e6
    model, facts = predict.load_reader(WEIGHTS)
    images, targets = generator.batch(predict.DEMONSTRATION + 1000, 300)
    texts, confidences = predict.read(model, facts["classes"], images)
    right = np.array([text == "".join(facts["classes"][n] for n in row) for text, row in zip(texts, targets)])
    assert right.mean() > 0.95
    assert confidences[right].mean() > confidences[~right].mean() if (~right).any() else True


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.exists(), reason="no weights shipped")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_read_the_same(backend, tmp_path, folder_of_samples):
    pytest.importorskip(backend)
    texts = []
    for name in ("tensorflow", backend):
        done = run("predict.py", "--json", "--out-dir", tmp_path, folder_of_samples, KERAS_BACKEND=name)
        assert done.returncode == 0, done.stderr
        texts.append([row["text"] for row in json.loads(done.stdout)])
    assert texts[0] == texts[1] and len(texts[0]) == 40
