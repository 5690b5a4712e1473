"""The same training step spread over several devices, with Keras' own distribution, and proof that it is the same.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Needs:   jax (requirements-backends.txt)
Run:     python captcha_xception/train_distributed.py                      (4 simulated devices of this CPU)
         python captcha_xception/train_distributed.py --devices 0 --images 1000000      (every accelerator there is)
Time:    2 min on 2 cores; simulated devices share the cores, so they show that it works and not that it is faster

Every device holds the whole network and an equal share of each batch; batch normalisation sees the whole batch, since
the arrays are global. The loss of each step is compared with that of one device, same weights, same images.
Differs from the article: he trained on one GPU.
"""
import argparse
import json
import os
import platform
import string
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- method
def losses_on_devices(devices: int, images: int, batch_size: int, seed: int, learning_rate: float) -> dict:
    """Train the compact network on `devices` devices (0: all there are) → {"losses", "devices", "seconds"}.

    Keras chooses its devices when it is first imported, so this must run in a process of its own.
    """
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if devices:   # JAX then shows the CPU as so many devices
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={devices}"
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import keras

    from captcha_xception.draw_captcha import CaptchaGenerator
    from captcha_xception.networks import build_model, compile_model
    names = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))
    keras.utils.set_random_seed(seed)
    generator = CaptchaGenerator(seed=seed)
    first = generator.batch(0, batch_size)
    model = build_model("compact", first[0].shape[1:], first[1].shape[1], len(string.ascii_lowercase))
    compile_model(model, learning_rate)
    losses, started = [], time.perf_counter()
    for start in range(0, images, batch_size):
        pixels, targets = generator.batch(start, batch_size)
        model.reset_metrics()
        equal = np.ones(targets.shape, "float32")          # Keras up to 3.12 spreads weights, even if there are none
        losses.append(float(model.train_on_batch(pixels, targets, sample_weight=equal)))
    return {"losses": losses, "devices": names, "seconds": time.perf_counter() - started}


def in_own_process(*arguments) -> dict:
    """losses_on_devices(*arguments) in a fresh Python."""
    code = ("import json, sys; sys.path.insert(0, sys.argv[1]); "
            "from captcha_xception.train_distributed import losses_on_devices; "
            "print(json.dumps(losses_on_devices(*json.loads(sys.argv[2]))))")
    finished = subprocess.run([sys.executable, "-c", code, str(HERE.parent), json.dumps(arguments)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    if finished.returncode:
        raise OSError(f"training on {arguments[0]} devices failed: {finished.stderr.strip().splitlines()[-1]}")
    return json.loads(finished.stdout.splitlines()[-1])


# ---------------------------------------------------------------- figures
def plot_losses(one: list, many: list, devices: int) -> Figure:
    """Loss of each step, on one device and on several, and their difference."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(one, label="1 device")
    left.plot(many, "--", label=f"{devices} devices")
    left.set(xlabel="step", ylabel="cross-entropy, sum over the letters (nats)")
    left.legend(frameon=False)
    right.semilogy(np.abs(np.subtract(one, many)) + 1e-12)
    right.set(xlabel="step", ylabel="difference of the losses")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--devices", type=int, default=4, help="simulated CPU devices; 0: the real ones, all of them")
    parser.add_argument("--images", type=int, default=640, help="images to train on")
    parser.add_argument("--batch-size", type=int, default=32, help="images per step, over all devices")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.devices <= 64:
        parser.error(f"--devices {args.devices}: must lie in 0 … 64")
    if args.batch_size < 2 or args.devices and args.batch_size % args.devices:
        parser.error(f"--batch-size {args.batch_size}: must be a multiple of --devices {args.devices}")
    if args.images < args.batch_size:
        parser.error(f"--images {args.images}: must be at least one batch of {args.batch_size}")
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
    args.out_dir.mkdir(parents=True, exist_ok=True)   # before any work
    if args.quick:
        args.images = min(args.images, 4 * args.batch_size)
    settings = args.images, args.batch_size, args.seed, args.learning_rate
    many = in_own_process(args.devices, *settings)
    one = in_own_process(1, *settings)
    difference = float(np.max(np.abs(np.subtract(one["losses"], many["losses"])) / np.abs(one["losses"])))
    metrics = {"devices": len(many["devices"]), "steps": len(many["losses"]), "first_loss": many["losses"][0],
               "last_loss": many["losses"][-1], "largest_relative_difference": difference,
               "first_step_relative_difference": abs(one["losses"][0] - many["losses"][0]) / one["losses"][0]}
    print(f"{metrics['devices']} devices and 1: losses differ by {difference:.1e} over {metrics['steps']} steps")
    if not (metrics["first_step_relative_difference"] < 1e-5 and difference < 1e-2):   # Adam enlarges rounding later on
        raise ValueError(f"{metrics['devices']} devices and 1 do not train alike: losses differ by {difference:.1e}")
    figures = ["train_distributed_losses.png"]
    plot_losses(one["losses"], many["losses"], metrics["devices"]).savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "train_distributed", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
