"""Train a network that reads a four-letter captcha whole: one image in, four letters out, nothing is cut.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503 and 4138
Run:     python captcha_xception/train.py                                            (--quick for a one-minute look)
         python captcha_xception/train.py --model cnn2016 --samples samples --length 4 --images 2700000 --batch-size 256
         python captcha_xception/train.py --model xception --weights imagenet --images 1000000 --batch-size 100
         python captcha_xception/train.py --samples DIR --length 4                   your own labelled images
Time:    2.6 minutes on 2 cores (Intel Xeon, 4.6 minutes of CPU); 1.3 GB

Symbols: 全对率 → whole_accuracy, all letters right   p₁…p₄ → position_accuracy   Πpᵢ → product_of_positions
Differs from the article: images are drawn while training, each seen once, unless --samples names a folder; the four
softmax heads are stacked into one output (batch, 4, 26), their mean cross-entropy is the article's sum over four.
"""
import argparse
import json
import os
import platform
import string
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from captcha_xception.batch_stream import BatchStream

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if __name__ != "__mp_main__":      # the processes that draw batches import this file, and need no Keras
    import keras

    from captcha_xception.evaluate import evaluate, merge, predict_classes, read_samples, slices
    from captcha_xception.networks import PEAK_RATE, build_model, compile_model, one_cycle

HERE = Path(__file__).resolve().parent
TEST_START = 1 << 40               # training draws images 0, 1, 2 …; the test from here on: never the same image
VALIDATION_START = 1 << 41
COLOURS = {"compact": "C0", "cnn2016": "C1", "xception": "C2"}


# ---------------------------------------------------------------- data
def split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nine tenths to train, one tenth to test: disjoint, the same for the same count and seed."""
    order = np.random.default_rng(seed).permutation(count)
    return order[:count - count // 10], order[count - count // 10:]


def epoch_batches(images: np.ndarray, targets: np.ndarray, batch_size: int, seed: int, epoch: int):
    """One pass over arrays in memory in an order of (seed, epoch) alone."""
    order = np.random.default_rng((seed, epoch)).permutation(len(images))
    for start in range(0, len(order), batch_size):
        rows = order[start:start + batch_size]
        yield images[rows], targets[rows]


# ---------------------------------------------------------------- training
def load_weights(model, path: str) -> None:
    """Weights of a .weights.h5 or .keras file into `model`; ValueError in one line if they do not fit."""
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise ValueError(f"--weights {path}: {str(error).splitlines()[0]}") from None


def save_model(model, path: Path, facts: dict) -> None:
    """`path` (.keras) and beside it a .json with what the numbers mean: classes, size. Written whole or not at all."""
    partial = path.with_name(f"{path.stem}.part.keras")
    model.save(partial)
    note = path.with_name(path.stem + ".json.part")
    note.write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
    os.replace(note, path.with_suffix(".json"))


def train(model, batches_of_epoch, validation, schedule, done, checkpoint: Path, facts: dict, history: list) -> list:
    """Epochs until `done(images, seconds)` is 1, after those that `history` holds; a checkpoint after each.

    done: share of the run that is over; schedule: None, or learning rate as a function of it;
    batches_of_epoch(epoch, seen): batches; validation: (images, targets).
    """
    while not history or done(history[-1]["images"], history[-1]["seconds"]) < 1:
        seen, before = (history[-1]["images"], history[-1]["seconds"]) if history else (0, 0.0)
        first, started, total, loss = seen, time.perf_counter(), 0.0, float("nan")
        for images, targets in batches_of_epoch(len(history), seen):
            if schedule:
                model.optimizer.learning_rate.assign(schedule(done(seen, before + time.perf_counter() - started)))
            model.reset_metrics()                                    # some versions of Keras return a running mean
            total += float(model.train_on_batch(images, targets)) * len(images)
            seen += len(images)
            loss = total / (seen - first)                            # mean over the epoch so far
            if sys.stdout.isatty():
                print(f"\repoch {len(history) + 1}: {seen} images, loss {loss:.3f} ", end="", flush=True)
            if done(seen, before + time.perf_counter() - started) >= 1:
                break
        if not np.isfinite(loss):
            raise ValueError(f"epoch {len(history) + 1}: the loss is {loss}; try a smaller --learning-rate")
        seconds = time.perf_counter() - started
        predicted, truth = predict_classes(model, slices(*validation))
        hits = predicted == truth
        history.append({"images": seen, "loss": loss, "seconds": round(before + seconds, 2),
                        "position_accuracy": hits.mean(axis=0).tolist(),
                        "whole_accuracy": float(hits.all(axis=1).mean())})
        print(f"epoch {len(history)}: {seen} images, loss {loss:.3f}, per letter {hits.mean():.3f}, whole "
              f"{history[-1]['whole_accuracy']:.3f}, {(seen - first) / seconds:.0f} images/s", flush=True)
        save_model(model, checkpoint, {**facts, "history": history, "dropout": dropout_states(model)})
    return history


def dropout_states(model, new: list | None = None) -> list:
    """State of every Dropout layer's random stream, which a .keras file does not keep; with `new`, set first."""
    generators = [layer.seed_generator for layer in model.layers if getattr(layer, "seed_generator", None)]
    for generator, state in zip(generators, new or []):
        generator.state.assign(np.array(state, generator.state.dtype))
    return [keras.ops.convert_to_numpy(generator.state).tolist() for generator in generators]


def load_checkpoint(path: Path, facts: dict):
    """Model and history of an interrupted run; ValueError if it is not the same run."""
    try:
        noted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        different = [key for key in facts if noted.get(key) != facts[key]]
        if different:
            raise ValueError(f"was made with {different[0]} = {noted.get(different[0])!r}, this run has "
                             f"{facts[different[0]]!r}")
        model = keras.saving.load_model(path)
        dropout_states(model, noted["dropout"])
        return model, noted["history"]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"--resume {path}: {str(error).splitlines()[0]}") from None


# ---------------------------------------------------------------- figures
def plot_curves(histories: dict) -> Figure:
    """Whole-captcha accuracy and loss against images seen (logarithmic). histories: model name → list of epochs."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, history in histories.items():
        seen = [row["images"] / 1000 for row in history]
        whole = [row["whole_accuracy"] for row in history]
        left.plot(seen, whole, ".-", color=COLOURS.get(name, "C3"))
        left.annotate(name, (seen[-1], whole[-1]), xytext=(-3, 4), textcoords="offset points", ha="right",
                      color=COLOURS.get(name, "C3"))
        right.plot(seen, [row["loss"] for row in history], ".-", color=COLOURS.get(name, "C3"), label=name)
    left.axhline(0.85, color="grey", linestyle="--", linewidth=1)
    grey = {"color": "grey", "fontsize": 8, "transform": left.get_yaxis_transform()}
    left.text(0.98, 0.86, "article, Xception: 0.85", ha="right", **grey)
    left.axhline(0.46, color="grey", linestyle=":", linewidth=1)
    left.text(0.3, 0.42, "article, 2016: 0.46", **grey)
    left.set(xlabel="thousand images seen", ylabel="whole-captcha accuracy, unseen", ylim=(-0.02, 1.08))
    for axes in (left, right):
        axes.set_xscale("log")
    left.margins(x=0.12)
    right.set(xlabel="thousand images seen", ylabel="cross-entropy per letter (nats)")
    right.legend(frameon=False)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="compact", help="compact, cnn2016, or a keras.applications name (xception)")
    parser.add_argument("--weights", help="imagenet, or a weights file for the model; None starts from nothing")
    parser.add_argument("--samples", type=Path, help="folder of labelled images (…abcd.jpg) instead of the generator")
    parser.add_argument("--length", type=int, help="letters per image (generator: 4; --samples: the file name's last)")
    parser.add_argument("--case-sensitive", action="store_true", help="A and a are two classes")
    parser.add_argument("--images", type=int, default=100000, help="to train on; --samples: repeated to reach it")
    parser.add_argument("--minutes", type=float, help="train for this long instead of a number of images")
    parser.add_argument("--test-images", type=int, default=2000, help="unseen images to test on (generator)")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step (the article: 100)")
    parser.add_argument("--learning-rate", type=float, help="peak (compact: 0.01), constant otherwise (0.001)")
    parser.add_argument("--bfloat16", action="store_true", help="half-length numbers: faster where the chip has them")
    parser.add_argument("--resume", action="store_true", help="go on from <out-dir>/<model>.checkpoint.keras")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    args.model = args.model.lower()
    if args.quick:
        args.images, args.test_images = min(args.images, 2000), min(args.test_images, 200)
    for flag, value, low, high in (("--length", args.length or 4, 1, 12), ("--images", args.images, 64, 10**9),
                                   ("--test-images", args.test_images, 20, 10**7),
                                   ("--batch-size", args.batch_size, 2, 10**4)):
        if not low <= value <= high:
            parser.error(f"{flag} {value}: must lie in {low} … {high}")
    if args.learning_rate is not None and not 0 < args.learning_rate < 1:
        parser.error(f"--learning-rate {args.learning_rate}: must lie in (0, 1)")
    if args.minutes is not None and not 0 < args.minutes <= 10000:
        parser.error(f"--minutes {args.minutes}: must lie in (0, 10000]")
    if args.samples and not args.samples.is_dir():
        parser.error(f"--samples {args.samples}: no such folder")
    if args.weights and args.weights != "imagenet" and not Path(args.weights).is_file():
        parser.error(f"--weights {args.weights}: neither 'imagenet' nor a file")
    if args.weights == "imagenet" and args.model in ("compact", "cnn2016"):
        parser.error(f"--weights imagenet: there are none for --model {args.model}; allowed: a file, or leave it out")
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


def claims_of(args, metrics: dict) -> list:
    """C1.1, C1.2 and C1.3, each from the model that they speak of."""
    whole, product = metrics["whole_accuracy"], metrics["product_of_positions"]
    letters = " / ".join(f"{value:.3f}" for value in metrics["position_accuracy"])
    other = "measured by another --model; see README"
    first = args.model == "compact" and not args.samples
    claims = [{"id": "C1.1", "claim": "one network with a head per letter reads the whole image, no segmentation",
               "expected": "better than the 0.46 of 2016, chance being 2e-6; 0.85 in 2017",
               "measured": f"{whole:.3f} from nothing after {metrics['images_seen']} images" if first else other,
               "holds": bool(metrics["whole_accuracy_95"][0] > 0.46) if first else None}]
    claims.append({"id": "C1.2", "claim": "the 48,712-parameter network of 2016 gets about half, more than Πpᵢ",
                   "expected": "0.46 whole; 0.89 / 0.72 / 0.73 / 0.87; product 0.41",
                   "measured": f"{whole:.3f} whole; {letters}; product {product:.3f}"
                               if args.model == "cnn2016" else other,
                   "holds": bool(0.30 <= whole <= 0.60 and product < whole) if args.model == "cnn2016" else None})
    claims.append({"id": "C1.3", "claim": "fine-tuned Xception reads at least 0.85 after a million draws",
                   "expected": "≥ 0.85",
                   "measured": f"{whole:.3f}" if args.model == "xception" else "not run: needs a GPU; see README",
                   "holds": whole >= 0.85 if args.model == "xception" else None})
    return claims


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    if args.bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    checkpoint, skipped = args.out_dir / f"{args.model}.checkpoint.keras", 0
    peak = args.learning_rate or (PEAK_RATE if args.model == "compact" else 1e-3)
    if args.samples:
        images, labels, skipped = read_samples(args.samples, args.length, args.case_sensitive)
        classes = "".join(sorted(set("".join(labels))))
        targets = np.array([[classes.index(character) for character in label] for label in labels], np.int32)
        rows, held = split(len(images), args.seed)
        test, validation = (images[held], targets[held]), (images[held][:1000], targets[held][:1000])
        images, targets = images[rows], targets[rows]
        shape, length, per_epoch = images.shape[1:], targets.shape[1], len(images)
        stream = None
    else:
        classes, length = string.ascii_letters if args.case_sensitive else string.ascii_lowercase, args.length or 4
        drawn = {"classes": classes, "length": length, "seed": args.seed, "case_sensitive": args.case_sensitive}
        stream = BatchStream(drawn, max(1, (os.cpu_count() or 2) - 1), max(250, args.batch_size))
        per_epoch = min(10000, args.images)
        validation = merge(stream.batches(VALIDATION_START, min(1000, args.test_images), 250))
        test = merge(stream.batches(TEST_START, args.test_images, 250))
        shape = validation[0].shape[1:]
    facts = {"model": args.model, "classes": classes, "length": length, "shape": list(shape), "images": args.images,
             "minutes": args.minutes, "batch_size": args.batch_size, "seed": args.seed}
    dropout = 0.2 if args.samples else 0.0        # of the compact network: drawn images come once, files many times
    if args.resume and checkpoint.exists():
        model, history = load_checkpoint(checkpoint, facts)
    else:
        model, history = build_model(args.model, shape, length, len(classes), args.weights, dropout), []
        if args.weights and args.weights != "imagenet":
            load_weights(model, args.weights)
        compile_model(model, peak)
    print(f"{args.model}: {model.count_params()} parameters, images {shape[1]}×{shape[0]}, {length} of {len(classes)} "
          "letters")

    def done(seen: int, seconds: float) -> float:
        return seconds / (60 * args.minutes) if args.minutes else seen / args.images

    def batches_of_epoch(epoch: int, seen: int):
        if stream:
            count = per_epoch if args.minutes else min(per_epoch, args.images - seen)
            return stream.batches(seen, count, args.batch_size)
        return epoch_batches(images, targets, args.batch_size, args.seed, epoch)

    schedule = (lambda share: one_cycle(share, peak)) if args.model == "compact" else None
    try:
        history = train(model, batches_of_epoch, validation, schedule, done, checkpoint, facts, history)
    finally:
        if stream:
            stream.close()
    keras.config.set_dtype_policy("float32")      # the finished model: float32 everywhere, without Adam's memory
    trained, model = model, build_model(args.model, shape, length, len(classes))
    model.set_weights(trained.get_weights())
    finished = args.out_dir / f"{args.model}.keras"
    save_model(model, finished, {**facts, "images": history[-1]["images"]})
    predicted, truth = predict_classes(model, slices(*test))
    metrics = {"parameters": model.count_params(), "images_seen": history[-1]["images"], "skipped_files": skipped,
               "training_seconds": round(history[-1]["seconds"], 1),
               "cpu_seconds": round(sum(os.times()[:4]), 1),          # of all cores and processes, whatever else ran
               "images_per_second": round(history[-1]["images"] / history[-1]["seconds"], 1),
               **evaluate(predicted, truth, classes), "history": history}
    low, high = metrics["whole_accuracy_95"]
    print(f"whole-captcha accuracy {metrics['whole_accuracy']:.4f} [{low:.4f}, {high:.4f}] on {len(truth)} unseen "
          f"images; product of the letters {metrics['product_of_positions']:.4f}; model in {finished}")
    histories = {path.stem.split(".")[1]: json.loads(path.read_text(encoding="utf-8"))["metrics"]["history"]
                 for path in sorted((HERE / "results").glob("train.*.json"))}     # recorded runs, for comparison
    plot_curves({**histories, args.model: history}).savefig(args.out_dir / "train_curves.png", dpi=150)
    return save_results(args, "train", metrics, claims_of(args, metrics), ["train_curves.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
