"""Batches of captchas, drawn by other processes while the network trains.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Differs from the article: it read 100,000 files; here nothing is left on disk, and no image comes
twice. A training step that is fed so takes about as long as one on images that lie in memory.
"""

import contextlib
import math
import os
import signal
import sys
import time
import types
from collections import deque
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context

import numpy as np

from draw_captcha import HEIGHT, CaptchaGenerator, image_width

_drawer: CaptchaGenerator | None = None  # these two: of a process that draws
_frames: np.ndarray | None = None


def _start_drawer(settings: dict, memory, shape: tuple) -> None:
    global _drawer, _frames
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    if hasattr(os, "nice"):
        os.nice(10)  # training first: drawing takes the time that it leaves
    _drawer = CaptchaGenerator(**settings)
    _frames = np.frombuffer(memory, np.uint8).reshape(shape)


def _draw_batch(place: int, start: int, count: int) -> np.ndarray:
    return _drawer.batch(start, count, _frames[place])[1]


@contextlib.contextmanager
def main_hidden():
    """Processes started in here do not import the script that starts them.

    A "spawn" of multiprocessing would run the script's imports again, and load TensorFlow into
    every process that draws: half a gigabyte and seconds for nothing.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class BatchStream:
    """Batches of captchas in order of their index, drawn ahead by `workers` processes.

    settings: arguments of CaptchaGenerator; largest: the most images of a batch; ahead: how many
    batches wait. The images are drawn into memory that the processes share. close() ends them; so
    does leaving a `with`.
    """

    def __init__(self, settings: dict, workers: int = 2, largest: int = 256, ahead: int = 8):
        context = get_context("spawn")  # a fork of a process with TensorFlow's threads may hang
        shape = (ahead, largest, HEIGHT, image_width(settings.get("length", 4)), 3)
        memory = context.RawArray("B", math.prod(shape))
        self.frames = np.frombuffer(memory, np.uint8).reshape(shape)
        arguments = (settings, memory, shape)
        self.pool = ProcessPoolExecutor(workers, context, _start_drawer, arguments)
        with main_hidden():  # a process starts when a job finds none that is idle
            wait([self.pool.submit(time.sleep, 0.01) for _ in range(workers)])

    def batches(self, start: int, count: int, batch_size: int):
        """Yield (uint8 images (batch, 53, width, 3), int32 classes (batch, length)) of the images
        start … start + count − 1.

        One such loop at a time: it uses all of the shared memory.
        """
        places = len(self.frames)
        largest = self.frames.shape[1]
        if min(batch_size, count) > largest:
            raise ValueError(f"batches of {batch_size}: this stream holds at most {largest} images")
        waiting = deque()
        position = start
        submitted = 0
        try:
            while waiting or position < start + count:
                while position < start + count and len(waiting) < places:
                    size = min(batch_size, start + count - position)
                    place = submitted % places
                    job = self.pool.submit(_draw_batch, place, position, size)
                    waiting.append((place, job))
                    position += size
                    submitted += 1
                place, job = waiting.popleft()
                targets = job.result()
                yield self.frames[place, : len(targets)].copy(), targets
        finally:  # of a loop left early, too: nobody may still draw where the next loop will
            wait([job for _, job in waiting if not job.cancel()])

    def arrays(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The images start … start + count − 1 and their classes as two arrays."""
        images, targets = zip(*self.batches(start, count, self.frames.shape[1]), strict=True)
        return np.concatenate(images), np.concatenate(targets)

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
