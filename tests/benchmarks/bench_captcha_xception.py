"""Speed of captcha_xception: the generator beside the `captcha` package, training fed by it, reading.

Run: python tests/benchmarks/bench_captcha_xception.py [--steps 40]
Prints ratios; all measured in one run, one after the other, on the same machine.
"""
import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
from captcha_xception.draw_captcha import CaptchaGenerator


def generator_speed(count: int) -> tuple[float, float | None]:
    """Images per second of one core: ours, and the captcha package's at the same size (None: not installed)."""
    generator, started = CaptchaGenerator(), time.process_time()
    for index in range(count):
        generator.draw(index)
    ours = count / (time.process_time() - started)
    try:
        from captcha.image import ImageCaptcha
    except ImportError:
        return ours, None
    peer, started = ImageCaptcha(129, 53, font_sizes=(36, 40, 44)), time.process_time()
    for _ in range(count):
        np.asarray(peer.generate_image("abCD"))
    return ours, count / (time.process_time() - started)


def step_seconds(model, batches) -> float:
    """Mean seconds of a training step, waiting for its batch included; the first is not counted."""
    batches = iter(batches)
    model.train_on_batch(*next(batches))
    started, steps = time.perf_counter(), 0
    for images, targets in batches:
        model.train_on_batch(images, targets)
        steps += 1
    return (time.perf_counter() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    ours, peer = generator_speed(500)
    print(f"generator: {ours:.0f} images/s on one core" + (f"; captcha package {peer:.0f}; ratio {ours / peer:.1f}" if peer else ""))

    from captcha_xception import networks, predict
    model = networks.build_model("compact", (53, 129, 3), 4, 26)
    networks.compile_model(model, 1e-3)
    images, targets = CaptchaGenerator().batch(0, 64 * 8)
    memory = step_seconds(model, [(images[64 * (i % 8):][:64], targets[64 * (i % 8):][:64]) for i in range(steps + 1)])
    stream = BatchStream({"seed": 0}, workers=max(1, os.cpu_count() - 1))
    drawn = step_seconds(model, stream.batches(0, 64 * (steps + 1), 64))
    stream.close()
    print(f"training step of 64: {1000 * memory:.0f} ms on arrays in memory, {1000 * drawn:.0f} ms fed by the generator; "
          f"ratio {drawn / memory:.2f}")

    model, facts = predict.load_reader(Path(predict.__file__).parent / "weights" / "compact.keras")
    started = time.perf_counter()
    predict.read(model, facts["classes"], images[:1])
    first = time.perf_counter() - started
    started = time.perf_counter()
    predict.read(model, facts["classes"], images)
    print(f"reading: first image after {first:.2f} s, then {len(images) / (time.perf_counter() - started):.0f} images/s")


if __name__ == "__main__":
    main()
