"""Batches of captchas, drawn by other processes while the network trains: what does that cost a training step?

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/batch_stream.py                        (--quick for a few steps)
Time:    84 s on 2 cores (Intel Xeon), 1 GB

A step of the compact network is timed with its batch in memory already, with a batch that another process drew in the
meantime, and with one that the training process first draws itself; in turns, so that all three meet the same machine.
Differs from the article: it read 100,000 files; here nothing is left on disk, and no image comes twice.
"""
import argparse
import json
import math
import os
import platform
import signal
import sys
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor, wait
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from captcha_xception.draw_captcha import HEIGHT, CaptchaGenerator, image_width

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HERE = Path(__file__).resolve().parent
FEEDS = ("in memory", "drawn by another process", "drawn by the training process")


# ---------------------------------------------------------------- data: batches made in other processes
_drawer: CaptchaGenerator | None = None
_frames: np.ndarray | None = None


def _start_drawer(settings: dict, memory, shape: tuple) -> None:
    global _drawer, _frames
    signal.signal(signal.SIGINT, signal.SIG_IGN)           # Ctrl-C is for the process that trains, which ends this one
    getattr(os, "nice", int)(10)                           # training first: drawing takes the time that it leaves
    _drawer, _frames = CaptchaGenerator(**settings), np.frombuffer(memory, np.uint8).reshape(shape)


def _draw_batch(place: int, start: int, count: int) -> np.ndarray:
    return _drawer.batch(start, count, _frames[place])[1]


class BatchStream:
    """Batches of captchas in order of their index, drawn ahead by `workers` processes while the caller trains.

    settings: arguments of CaptchaGenerator; largest: the most images of a batch, `ahead`: how many batches wait. The
    images are drawn into memory that the processes share. close() ends the processes.
    """

    def __init__(self, settings: dict, workers: int = 2, largest: int = 256, ahead: int = 8):
        context = get_context("spawn")       # a fork of a process in which TensorFlow or JAX runs its threads may hang
        shape = ahead, largest, HEIGHT, image_width(settings.get("length", 4)), 3
        memory = context.RawArray("B", math.prod(shape))
        self.frames = np.frombuffer(memory, np.uint8).reshape(shape)
        self.pool = ProcessPoolExecutor(workers, context, _start_drawer, (settings, memory, shape))

    def batches(self, start: int, count: int, batch_size: int):
        """Yield (uint8 images (batch, 53, width, 3), int32 classes (batch, length)) for start … start + count − 1.

        One such loop at a time: it uses all of the shared memory.
        """
        if min(batch_size, count) > self.frames.shape[1]:
            raise ValueError(f"batches of {batch_size}: this stream holds at most {self.frames.shape[1]} images each")
        waiting, position, stop, place = deque(), start, start + count, 0
        try:
            while waiting or position < stop:
                while position < stop and len(waiting) < len(self.frames):
                    size = min(batch_size, stop - position)
                    waiting.append((place, self.pool.submit(_draw_batch, place, position, size)))
                    position, place = position + size, (place + 1) % len(self.frames)
                ready, job = waiting.popleft()
                targets = job.result()
                yield self.frames[ready, :len(targets)].copy(), targets
        finally:                             # of a loop left early, too: nobody may still draw where the next loop will
            wait([job for _, job in waiting if not job.cancel()])

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)


# ---------------------------------------------------------------- evaluation
def step_seconds(model, batches, steps: int, skip: int = 0) -> float:
    """Mean seconds of a training step, the wait for its batch included, after the first `skip`."""
    for step in range(skip + steps):
        if step == skip:
            started = time.perf_counter()
        model.train_on_batch(*next(batches))
    return (time.perf_counter() - started) / steps


def measure(model, batch_size: int, rounds: int, steps: int, warm: int, seed: int) -> np.ndarray:
    """Seconds of a step in each round and for each of FEEDS: (rounds, 3). The stream first draws `warm` batches.

    A stream that has waited has batches lying ready, so steps until they are used up do not count.
    """
    stream = BatchStream({"seed": seed}, max(1, (os.cpu_count() or 2) - 1), batch_size)
    generator = CaptchaGenerator(seed=seed)
    kept = [generator.batch(batch_size * number, batch_size) for number in range(4)]
    drawn = stream.batches(0, 10**9, batch_size)
    for _ in range(warm):
        next(drawn)
    model.train_on_batch(*kept[0])
    seconds = np.empty((rounds, len(FEEDS)))
    for row in range(rounds):
        first = 10**9 + row * steps * batch_size
        time.sleep(0.3)                      # the drawer fills its places and rests
        seconds[row] = (step_seconds(model, (kept[step % 4] for step in range(steps)), steps),
                        step_seconds(model, drawn, steps, skip=len(stream.frames) + 2),
                        step_seconds(model, (generator.batch(first + step * batch_size, batch_size)
                                             for step in range(steps)), steps))
        print(f"round {row + 1}: {' / '.join(f'{1000 * value:.1f}' for value in seconds[row])} ms", flush=True)
    drawn.close()
    stream.close()
    return seconds


# ---------------------------------------------------------------- figures
def plot_steps(seconds: np.ndarray) -> Figure:
    """Time of a step of every round relative to the mean of those in memory, and the mean of each feed."""
    figure = Figure(figsize=(6.5, 2.2), layout="constrained")
    axes = figure.subplots()
    relative = seconds / seconds[:, 0].mean()
    for row, name in enumerate(FEEDS):
        axes.plot(relative[:, row], [name] * len(relative), "o", color=f"C{row}", alpha=0.4)
        axes.plot(relative[:, row].mean(), [name], "|", color=f"C{row}", markersize=22)
    axes.axvline(1.1, color="grey", linestyle="--", linewidth=1)
    axes.margins(y=0.3)
    axes.invert_yaxis()
    axes.set(xlabel="time of a training step, relative to batches in memory")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64, help="images per step")
    parser.add_argument("--rounds", type=int, default=8, help="turns of the three feeds")
    parser.add_argument("--steps", type=int, default=30, help="steps of each feed in a round")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.steps, args.batch_size = min(args.rounds, 2), min(args.steps, 3), min(args.batch_size, 16)
    for flag, value, low, high in (("--batch-size", args.batch_size, 2, 10**4), ("--rounds", args.rounds, 1, 1000),
                                   ("--steps", args.steps, 1, 10**4)):
        if not low <= value <= high:
            parser.error(f"{flag} {value}: must lie in {low} … {high}")
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
    import keras                             # here, because the processes that draw import this file and need none

    from captcha_xception.networks import build_model, compile_model

    keras.utils.set_random_seed(args.seed)
    model = build_model("compact", (HEIGHT, image_width(4), 3), 4, 26)
    compile_model(model, 1e-3)
    seconds = measure(model, args.batch_size, args.rounds, args.steps, 4 if args.quick else 200, args.seed)
    memory, other, same = seconds.mean(axis=0)
    ratios = seconds[:, 1] / seconds[:, 0]
    metrics = {"step_ms_in_memory": round(1000 * memory, 1), "step_ms_drawn_by_another_process": round(1000 * other, 1),
               "step_ms_drawn_by_the_training_process": round(1000 * same, 1), "ratio": round(other / memory, 3),
               "ratio_of_rounds_sd": round(float(ratios.std()), 3),
               "ratio_drawn_by_the_training_process": round(same / memory, 3)}
    print(f"a step fed by another process takes {metrics['ratio']:.2f} of one fed from memory; drawing in the training "
          f"process {metrics['ratio_drawn_by_the_training_process']:.2f}")
    plot_steps(seconds).savefig(args.out_dir / "batch_stream_steps.png", dpi=150)
    return save_results(args, "batch_stream", metrics, [], ["batch_stream_steps.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
