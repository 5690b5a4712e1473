"""Speed of captcha_xception: drawing, a training step of each network, feeding it, and reading.

Run: python tests/benchmarks/bench_captcha_xception.py
     python tests/benchmarks/bench_captcha_xception.py --record     on free cores only

Prints ratios, all measured in one run, one after the other, on the same machine. --record keeps the
numbers in captcha_xception/results/: draw_captcha.json, networks.json and batch_stream.json.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "captcha_xception"))
from batch_stream import BatchStream
from cli import FOLDER
from draw_captcha import CaptchaGenerator

MODELS = ("compact", "cnn2016", "xception")


def drawing_speed(count: int) -> dict:
    """Images per second of one core."""
    generator = CaptchaGenerator()
    started = time.process_time()
    for start in range(0, count, 64):
        generator.batch(start, min(64, count - start))
    return {"images_per_second_one_core": count / (time.process_time() - started)}


def peer_drawing_speed(count: int) -> float | None:
    """The captcha package's, at the same size; None if it is not installed."""
    try:
        from captcha.image import ImageCaptcha
    except ImportError:
        return None
    peer = ImageCaptcha(129, 53, font_sizes=(36, 40, 44))
    started = time.process_time()
    for _ in range(count):
        np.asarray(peer.generate_image("abCD"))
    return count / (time.process_time() - started)


def training_speed(name: str, batch_size: int, seconds: float) -> dict:
    """Training steps on images in memory, for about `seconds` after a first step."""
    from networks import build_model, compile_model

    model = build_model(name, (53, 129, 3), 4, 26)
    compile_model(model, 1e-3)
    images, targets = CaptchaGenerator().batch(0, batch_size)
    model.train_on_batch(images, targets)
    steps = 0
    started = time.perf_counter()
    while steps == 0 or time.perf_counter() - started < seconds:
        model.train_on_batch(images, targets)
        steps += 1
    speed = steps * batch_size / (time.perf_counter() - started)
    return {
        "parameters": model.count_params(),
        "images_per_second": round(speed, 1),
        "hours_for_a_million_images": round(1e6 / speed / 3600, 2),
    }


def step_seconds(model, batches, steps: int, skip: int = 0) -> float:
    """Mean seconds of a training step, the wait for its batch included, after the first `skip`."""
    for step in range(skip + steps):
        if step == skip:
            started = time.perf_counter()
        model.train_on_batch(*next(batches))
    return (time.perf_counter() - started) / steps


def feeding_cost(batch_size: int, rounds: int, steps: int, warm: int = 200) -> dict:
    """A step on batches in memory, drawn by another process, drawn by the training process.

    In turns, so that all three meet the same machine. A stream that has waited has batches lying
    ready: steps until they are used up do not count.
    """
    from networks import build_model, compile_model

    model = build_model("compact", (53, 129, 3), 4, 26)
    compile_model(model, 1e-3)
    generator = CaptchaGenerator()
    kept = [generator.batch(batch_size * number, batch_size) for number in range(4)]
    model.train_on_batch(*kept[0])
    seconds = np.empty((rounds, 3))
    with BatchStream({}, max(1, (os.cpu_count() or 2) - 1), batch_size) as stream:
        drawn = stream.batches(0, 10**9, batch_size)
        for _ in range(warm):
            next(drawn)
        for row in range(rounds):
            time.sleep(0.3)  # the drawer fills its places and rests
            first = 10**9 + row * steps * batch_size
            here = (generator.batch(first + step * batch_size, batch_size) for step in range(steps))
            in_memory = (kept[step % 4] for step in range(steps))
            seconds[row, 0] = step_seconds(model, in_memory, steps)
            seconds[row, 1] = step_seconds(model, drawn, steps, skip=len(stream.frames) + 2)
            seconds[row, 2] = step_seconds(model, here, steps)
        drawn.close()
    memory, other, same = seconds.mean(axis=0)
    return {
        "step_ms_in_memory": round(1000 * memory, 1),
        "step_ms_drawn_by_another_process": round(1000 * other, 1),
        "step_ms_drawn_by_the_training_process": round(1000 * same, 1),
        "ratio": round(other / memory, 3),
        "ratio_of_rounds_sd": round(float((seconds[:, 1] / seconds[:, 0]).std()), 3),
        "ratio_drawn_by_the_training_process": round(same / memory, 3),
    }


def reading_speed(count: int) -> tuple[float, float]:
    """Seconds until the first image is read by the shipped model, then images per second."""
    from reading import load_model, logits_of

    model, _ = load_model(FOLDER / "weights" / "compact.keras")
    images, _ = CaptchaGenerator().batch(0, count)
    started = time.perf_counter()
    logits_of(model, images[:1])
    first = time.perf_counter() - started
    started = time.perf_counter()
    logits_of(model, images)
    return first, count / (time.perf_counter() - started)


def record(name: str, metrics: dict, config: dict, seconds: float) -> None:
    versions = {key: sys.modules[key].__version__ for key in ("numpy", "keras", "tensorflow")}
    results = {
        "config": {**config, "quick": False, "seed": 0},
        "versions": versions,
        "device": f"{platform.machine()} × {os.cpu_count()}, Python {platform.python_version()}",
        "seconds": round(seconds, 1),
        "metrics": metrics,
        "claims": [],
        "figures": [],
    }
    path = FOLDER / "results" / f"{name}.json"
    text = json.dumps(results, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30, help="of each feed in a round")
    parser.add_argument("--rounds", type=int, default=8, help="turns of the three feeds")
    parser.add_argument("--seconds", type=float, default=5.0, help="to measure each network")
    parser.add_argument("--record", action="store_true", help="keep the numbers in results/")
    args = parser.parse_args()

    found = {}
    started = time.perf_counter()
    found["draw_captcha"] = drawing_speed(10_000), {"count": 10_000}
    ours = found["draw_captcha"][0]["images_per_second_one_core"]
    peer = peer_drawing_speed(1000)
    beside = f"; captcha package {peer:.0f}; ratio {ours / peer:.1f}" if peer else ""
    print(f"generator: {ours:.0f} images/s on one core{beside}")

    speeds = {name: training_speed(name, 64, args.seconds) for name in MODELS}
    found["networks"] = speeds, {"models": MODELS, "batch_size": 64, "seconds": args.seconds}
    for name, row in speeds.items():
        print(f"{name}: {row['parameters']} parameters, {row['images_per_second']} images/s")

    cost = feeding_cost(64, args.rounds, args.steps)
    config = {"batch_size": 64, "rounds": args.rounds, "steps": args.steps}
    found["batch_stream"] = cost, config
    print(
        f"training step of 64: {cost['step_ms_in_memory']:.0f} ms on arrays in memory; fed by "
        f"another process {cost['ratio']:.2f} of that, drawing itself "
        f"{cost['ratio_drawn_by_the_training_process']:.2f}"
    )

    first, speed = reading_speed(512)
    print(f"reading: first image after {first:.2f} s, then {speed:.0f} images/s")
    if args.record:
        for name, (metrics, config) in found.items():
            record(name, metrics, config, time.perf_counter() - started)


if __name__ == "__main__":
    main()
