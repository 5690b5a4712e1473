"""Speed of captcha_xception: the generator beside the `captcha` package, training fed by it, reading.

Run: python tests/benchmarks/bench_captcha_xception.py [--steps 30]
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
    for start in range(0, count, 64):
        generator.batch(start, min(64, count - start))
    ours = count / (time.process_time() - started)
    try:
        from captcha.image import ImageCaptcha
    except ImportError:
        return ours, None
    peer, started = ImageCaptcha(129, 53, font_sizes=(36, 40, 44)), time.process_time()
    for _ in range(count // 10):
        np.asarray(peer.generate_image("abCD"))
    return ours, count // 10 / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    steps = parser.parse_args().steps
    ours, peer = generator_speed(5000)
    print(f"generator: {ours:.0f} images/s on one core"
          + (f"; captcha package {peer:.0f}; ratio {ours / peer:.1f}" if peer else ""))

    from captcha_xception import batch_stream, networks, predict
    model = networks.build_model("compact", (53, 129, 3), 4, 26)
    networks.compile_model(model, 1e-3)
    memory, other, same = batch_stream.measure(model, 64, rounds=8, steps=steps, warm=200, seed=0).mean(axis=0)
    print(f"training step of 64: {1000 * memory:.0f} ms on arrays in memory, {1000 * other:.0f} ms fed by another "
          f"process, ratio {other / memory:.2f}; drawn by the training process {same / memory:.2f}")

    model, facts = predict.load_reader(Path(predict.__file__).parent / "weights" / "compact.keras")
    images, _ = CaptchaGenerator().batch(0, 512)
    started = time.perf_counter()
    predict.read(model, facts["classes"], images[:1])
    first = time.perf_counter() - started
    started = time.perf_counter()
    predict.read(model, facts["classes"], images)
    seconds = time.perf_counter() - started
    print(f"reading: first image after {first:.2f} s, then {len(images) / seconds:.0f} images/s")


if __name__ == "__main__":
    main()
