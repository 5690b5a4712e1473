"""The same training step spread over several devices, by Keras' own distribution, and proof that it
is the same.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Needs:   jax (requirements-backends.txt)
Run:     python captcha_xception/experiments/train_distributed.py
         python captcha_xception/experiments/train_distributed.py --devices 0 --images 1000000

By default four devices are simulated on this CPU; --devices 0 takes every accelerator there is.
Simulated devices share the cores, so they show that it works and not that it is faster.

Every device holds the whole network and an equal share of each batch; batch normalisation sees the
whole batch, since the arrays are global. The loss of each step is compared with that of one device,
same weights, same images.
Differs from the article: he trained on one GPU.
"""

import json
import os
import string
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np

import cli


# ---------------------------------------------------------------- method
def losses_on_devices(
    devices: int, images: int, batch_size: int, seed: int, learning_rate: float
) -> dict:
    """Train the compact network on `devices` devices (0: all there are).

    Keras chooses its devices when it is first imported, so this must run in a process of its own.
    Returns {"losses", "devices", "seconds"}.
    """
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if devices:  # JAX then shows the CPU as so many devices
        simulated = f" --xla_force_host_platform_device_count={devices}"
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + simulated
        os.environ.setdefault("JAX_PLATFORMS", "cpu")

    from draw_captcha import CaptchaGenerator
    from networks import build_model, compile_model, keras

    names = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))
    keras.utils.set_random_seed(seed)
    generator = CaptchaGenerator(seed=seed)
    pixels, targets = generator.batch(0, batch_size)
    shape = pixels.shape[1:]
    model = build_model("compact", shape, targets.shape[1], len(string.ascii_lowercase))
    compile_model(model, learning_rate)
    losses = []
    started = time.perf_counter()
    for start in range(0, images, batch_size):
        pixels, targets = generator.batch(start, batch_size)
        model.reset_metrics()
        # Keras up to 3.12 spreads the weights of the samples, even if there are none
        equal = np.ones(targets.shape, "float32")
        losses.append(float(model.train_on_batch(pixels, targets, sample_weight=equal)))
    return {"losses": losses, "devices": names, "seconds": time.perf_counter() - started}


def in_own_process(*arguments) -> dict:
    """losses_on_devices(*arguments) in a fresh Python."""
    code = (
        "import json, sys; sys.path[:0] = sys.argv[1:3]; "
        "from train_distributed import losses_on_devices; "
        "print(json.dumps(losses_on_devices(*json.loads(sys.argv[3]))))"
    )
    folders = [str(cli.FOLDER / "experiments"), str(cli.FOLDER)]
    finished = subprocess.run(
        [sys.executable, "-c", code, *folders, json.dumps(arguments)],
        capture_output=True,
        encoding="utf-8",
    )
    if finished.returncode:
        reason = finished.stderr.strip().splitlines()[-1]
        raise OSError(f"training on {arguments[0]} devices failed: {reason}")
    return json.loads(finished.stdout.splitlines()[-1])


# ---------------------------------------------------------------- figures
def plot_losses(one: list, many: list, devices: int):
    """Loss of each step, on one device and on several, and their difference."""
    figure, (left, right) = cli.subplots(1, 2)
    left.plot(one, label="1 device")
    left.plot(many, "--", label=f"{devices} devices")
    left.set(xlabel="step", ylabel="cross-entropy of a letter (nats)")
    left.legend(frameon=False)
    right.semilogy(np.abs(np.subtract(one, many)) + 1e-12)
    right.set(xlabel="step", ylabel="difference of the losses (nats)")
    return figure


# ---------------------------------------------------------------- command line
def flags(parser):
    add = parser.add_argument
    add("--devices", type=cli.between(0, 64), default=4, help="simulated; 0: all real ones")
    add("--images", type=cli.between(2, 10**9), default=640, help="to train on")
    add("--batch-size", type=cli.between(2, 10**6), default=32, help="over all devices")
    add("--learning-rate", type=cli.between(1e-9, 0.99, float), default=1e-3, help="of Adam")
    add("--seed", **cli.SEED)


def main(args):
    if args.devices and args.batch_size % args.devices:
        raise ValueError(f"--batch-size {args.batch_size}: {args.devices} devices share a batch")
    if args.images < args.batch_size:
        raise ValueError(f"--images {args.images}: less than a batch of {args.batch_size}")
    if args.quick:
        args.images = min(args.images, 4 * args.batch_size)
    settings = (args.images, args.batch_size, args.seed, args.learning_rate)
    many = in_own_process(args.devices, *settings)
    one = in_own_process(1, *settings)
    apart = np.abs(np.subtract(one["losses"], many["losses"])) / np.abs(one["losses"])
    metrics = {
        "devices": len(many["devices"]),
        "steps": len(many["losses"]),
        "first_loss": many["losses"][0],
        "last_loss": many["losses"][-1],
        "largest_relative_difference": float(apart.max()),
        "first_step_relative_difference": float(apart[0]),
    }
    print(
        f"{metrics['devices']} devices and 1: losses differ by {apart.max():.1e} over "
        f"{metrics['steps']} steps"
    )
    if apart[0] > 1e-5 or apart.max() > 1e-2:  # Adam enlarges rounding later on
        raise ValueError(f"{metrics['devices']} devices and 1 do not train alike")
    figure = plot_losses(one["losses"], many["losses"], metrics["devices"])
    return metrics, [], {"train_distributed_losses": figure}


if __name__ == "__main__":
    cli.run(main, flags)
