"""A network of matrix products and scalings, no activation anywhere, that learns because floats are flushed to zero.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647, and the post it opens with:
         https://openai.com/index/nonlinear-computation-in-deep-linear-networks (2017)
Run:     python activation_functions/linear_network.py            5000 real digits  (--quick for a look)
         python activation_functions/linear_network.py --full     60 000 digits
Time:    32 s on 2 cores (Intel Xeon), 1.5 GB; --full without es 5 min

Symbols: scaling 2¹²⁵ → SCALE_UP   u = h·W + b → pre-activation   flush(u) = (u·2⁻¹²⁵)·2¹²⁵ → flush
TensorFlow on the CPU is the subject: its kernels flush denormals, |x| < 2⁻¹²⁶, to 0, so flush(u) = u·[|u| ≥ 1/2].
That this is what happens, and what undoes it, is proved by float_rounding.py.
Differs from the article: each layer is scaled down and up again by itself, for with h in units of 2⁻¹²⁵ (OpenAI's
graph) a CPU flushes the partial sums of the matrix product too; the surrogate gradient and the genes in units are ours.
"""
import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from scipy.special import logsumexp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from activation_functions.digits import read_mnist, shift

HERE = Path(__file__).resolve().parent
SCALE_DOWN, SCALE_UP = np.float32(2.0 ** -125), np.float32(2.0 ** 125)
LAYERS = (784, 512, 512, 10)         # OpenAI's network: 669 706 parameters
METHODS = {"linear": "a linear network", "backprop": "back-propagation, blind", "es": "evolution strategies",
           "surrogate": "surrogate gradient", "relu": "the same network with ReLU"}
SPREAD, OFFSET = 0.2, 0.3            # sd and mean of u in hidden units as `surrogate` starts: one in six is over 1/2
RATE, DROPOUT, SHIFT = 2e-3, 0.1, 1  # Adam's highest rate, share of hidden units left out, pixels


# ---------------------------------------------------------------- data
def load_digits(full: bool, data_dir: Path | None) -> tuple:
    """(x_train, y_train), (x_test, y_test): float32 pixels (n, 28, 28), standardised by the training set."""
    x_train, y_train, x_test, y_test = read_mnist(full, data_dir)
    mean, sd = np.float32(x_train.mean()), np.float32(x_train.std())
    return ((x_train.astype("float32") - mean) / sd, y_train), ((x_test.astype("float32") - mean) / sd, y_test)


# ---------------------------------------------------------------- method: the flush
def flush(u):
    """(u·2⁻¹²⁵)·2¹²⁵: the identity on paper; on TensorFlow tensors on a CPU, 0 where |u| < 1/2."""
    return (u * SCALE_DOWN) * SCALE_UP


def flush_emulated(u):
    """The same function in words: keep u where |u| ≥ 1/2 (the product keeps the sign of zero as well)."""
    return u * (np.abs(u) >= 0.5)


def forward(parameters: list, x, activation):
    """Logits (n, 10): per layer u = h·W + b, h = activation(u), the last layer included. NumPy or TensorFlow."""
    for weights, bias in zip(parameters[::2], parameters[1::2]):
        x = activation(x @ weights + bias)
    return x


# ---------------------------------------------------------------- method: three ways to train it
def make_activation(method: str, width: float = 0.5, area: float = 0.5):
    """Forward the emulated flush; backward `backprop` sees the identity, `surrogate` what the jump is worth.

    d/du u·[|u| ≥ ½] = [|u| ≥ ½] + ½·δ(|u| − ½); δ is replaced by a triangle of half-width `width`, ½ by `area`.
    """
    if method in ("relu", "linear"):
        return tf.nn.relu if method == "relu" else tf.identity

    @tf.custom_gradient
    def activation(u):
        size = tf.abs(u)
        kept = tf.cast(size >= 0.5, u.dtype)

        def gradient(upstream):
            if method == "backprop":
                return upstream
            bump = tf.maximum(0.0, 1.0 - tf.abs(size - 0.5) / width) * (area / width)
            return upstream * (kept + bump)
        return u * kept, gradient
    return activation


def initial_parameters(gain: float, rng: np.random.Generator) -> list:
    """[W1, b1, W2, b2, W3, b3], W ~ N(0, gain²/fan_in), b = 0 (gain √2 is He's, which OpenAI used)."""
    weights = [(rng.normal(size=s) * gain / s[0] ** 0.5).astype("float32") for s in zip(LAYERS[:-1], LAYERS[1:])]
    return [p for w in weights for p in (w, np.zeros(w.shape[1], "float32"))]


def train_by_gradient(method: str, train: tuple, epochs: int, batch: int, rng, watch) -> list:
    """Adam on the cross-entropy, rate falling to 0 as a cosine; the same moved images and dropout for every method.

    `surrogate` and `relu` normalise u over the batch (mean 0, sd 1, then a trained scale and offset); that is affine,
    so it is folded into W and b and what is evaluated has none. `backprop` is OpenAI's: He's weights, no normalisation.
    """
    x, y = train
    activation, normalised = make_activation(method), method in ("surrogate", "relu")
    spread, offset = (SPREAD, OFFSET) if method == "surrogate" else (1.0, 0.0)
    variables = [tf.Variable(p) for p in initial_parameters(2 ** 0.5, rng)]
    for bias in (variables[1], variables[3]):
        bias.assign(tf.fill(bias.shape, offset))
    scales = [tf.Variable(tf.fill([units], spread)) for units in LAYERS[1:3]]
    statistics = [(tf.Variable(tf.zeros(units)), tf.Variable(tf.ones(units))) for units in LAYERS[1:3]]
    trained = variables + (scales if normalised else [])
    moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in trained]

    @tf.function
    def step(images, labels, rate, power1, power2):
        with tf.GradientTape() as tape:
            h = images
            for layer in (0, 1):
                u = h @ variables[2 * layer]
                if normalised:
                    mean, variance = tf.nn.moments(u, 0)
                    for running, now in zip(statistics[layer], (mean, variance)):
                        running.assign_add(0.01 * (now - running))
                    u = (u - mean) * tf.math.rsqrt(variance + 1e-5) * scales[layer]
                h = tf.nn.dropout(activation(u + variables[2 * layer + 1]), DROPOUT)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, h @ variables[4] + variables[5])
            loss = tf.reduce_mean(losses)
        for v, (m, s), g in zip(trained, moments, tape.gradient(loss, trained)):
            tf.raw_ops.ResourceApplyAdam(var=v.handle, m=m.handle, v=s.handle, beta1_power=power1, beta2_power=power2,
                                         lr=rate, beta1=0.9, beta2=0.999, epsilon=1e-7, grad=g)

    def folded() -> list:
        parameters = [v.numpy() for v in variables]
        for layer in (0, 1) if normalised else ():
            mean, variance = (s.numpy() for s in statistics[layer])
            factor = scales[layer].numpy() / np.sqrt(variance + 1e-5)
            parameters[2 * layer] = parameters[2 * layer] * factor
            parameters[2 * layer + 1] = parameters[2 * layer + 1] - mean * factor
        return parameters

    steps = len(x) // batch
    for epoch in range(epochs):
        images = shift(x, SHIFT, rng).reshape(len(x), -1)
        order = rng.permutation(len(x))
        for i in range(steps):
            count, chosen = epoch * steps + i + 1, order[i * batch:(i + 1) * batch]
            rate = RATE * min(1, count / 100) * (1 + np.cos(np.pi * count / (steps * epochs))) / 2
            step(images[chosen], y[chosen], *(np.float32(v) for v in (rate, 0.9 ** count, 0.999 ** count)))
        if epoch % max(1, epochs // 12) == 0 or epoch == epochs - 1:
            watch(folded(), (epoch + 1) * steps * batch)
    return folded()


def es_gradient(parameters: list, x: np.ndarray, y: np.ndarray, sigma: float, pairs: int, rng) -> list:
    """Evolution-strategy estimate of the gradient for all parameters, from losses alone: no derivative of the flush.

    Every digit meets `pairs` antithetic pairs of individuals, u = h·W + b ± σ·e with signs e of their own in every unit
    of every layer (the bias is the gene, so one matrix product serves the whole population). With D = (L₊ − L₋)/2σ the
    estimate is ∂L/∂b ≈ D·e and, u being linear in W, ∂L/∂W ≈ hᵀ·(D·e), h the mean input of the pair.
    """
    n, plus, minus, memory = len(x) * pairs, x, x, []
    for layer, (weights, bias) in enumerate(zip(parameters[::2], parameters[1::2])):
        bits = np.unpackbits(np.frombuffer(rng.bytes((n * len(bias) + 7) // 8), np.uint8))[:n * len(bias)]
        signs = (bits.astype("float32") * 2 - 1).reshape(n, -1)
        memory.append((plus, minus, signs))
        up = plus @ weights + bias
        if layer == 0:   # the same input for every individual: one product, then copies
            up = um = np.repeat(up, pairs, 0)
        else:
            um = minus @ weights + bias
        up, um = up + sigma * signs, um - sigma * signs
        plus, minus = (flush_emulated(up), flush_emulated(um)) if layer < 2 else (up, um)
    rows, labels = np.arange(n), np.repeat(y, pairs)
    losses = [logsumexp(logits, 1) - logits[rows, labels] for logits in (plus, minus)]
    difference = (losses[0] - losses[1]) / (2 * sigma * n)
    gradient = []
    for plus, minus, signs in memory:
        credit = difference[:, None] * signs
        credit = credit if len(plus) == n else credit.reshape(len(x), pairs, -1).sum(1)
        gradient += [((plus + minus) / 2).T @ credit, credit.sum(0)]
    return gradient


def train_by_evolution(train: tuple, steps: int, rng, watch, batch=256, pairs=4, sigma=0.2) -> list:
    """Adam on es_gradient. The estimates are mostly noise, in which weights walk rate·√steps: hence 0.03/√steps."""
    x, y = train[0].reshape(len(train[0]), -1), train[1]
    parameters = initial_parameters(0.5, rng)
    first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    for count in range(1, steps + 1):
        chosen = rng.integers(0, len(x), batch)
        gradient = es_gradient(parameters, x[chosen], y[chosen], sigma, pairs, rng)
        rate = 0.03 / steps ** 0.5 * min(1, count / 50) * (1 - (count - 1) / steps)
        for p, m, s, g in zip(parameters, first, second, gradient):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            p -= rate * (m / (1 - 0.9 ** count)) / (np.sqrt(s / (1 - 0.999 ** count)) + 1e-8)
        if count % max(1, steps // 25) == 0 or count == steps:
            watch(parameters, count * batch * pairs * 2)
    return parameters


# ---------------------------------------------------------------- evaluation
def accuracy(parameters: list, data: tuple, activation) -> float:
    """Share of digits named right; TensorFlow eager, in batches, so that `flush` does flush."""
    x, y = data[0].reshape(len(data[0]), -1), data[1]
    logits = [forward(parameters, tf.constant(x[i:i + 5000]), activation).numpy() for i in range(0, len(x), 5000)]
    return float((np.concatenate(logits).argmax(1) == y).mean())


# ---------------------------------------------------------------- figures
def plot_training(curves: dict, linear_limit: float | None) -> Figure:
    """Test accuracy against seconds, and of the evolution strategy against forward passes."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for color, method in enumerate(METHODS):
        points = curves.get(method, [])
        seconds, passes, test = ([point[key] for point in points] for key in ("seconds", "evaluations", "test"))
        left.plot(seconds, test, f"C{color}.-", label=METHODS[method] if points else None)
        if method == "es" and points:
            right.plot(np.array(passes) / 1e6, test, f"C{color}.-")
    right.set(xlabel="million forward passes of one digit", title="evolution strategies against their budget")
    left.set(xlabel="seconds", ylabel="test accuracy, flushed network", ylim=(0.7, 1))
    left.legend(loc="lower right", fontsize=8)
    if linear_limit:
        right.axhline(linear_limit, color="0.5", lw=1, ls="--")
        right.annotate("linear network", (0.02, linear_limit), xycoords=("axes fraction", "data"), va="top")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--full", action="store_true", help="MNIST's 60 000 digits (downloaded)")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated, of: " + ", ".join(METHODS))
    parser.add_argument("--epochs", type=int, help="default: 30; with --full 40; with --quick 3")
    parser.add_argument("--es-steps", type=int, help="of 2048 forward passes; default: 400; --full 8000; --quick 20")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if not set(args.methods.split(",")) <= set(METHODS):
        parser.error(f"--methods {args.methods}: must be of {', '.join(METHODS)}")
    for flag, value in (("--epochs", args.epochs), ("--es-steps", args.es_steps)):
        if value is not None and value < 1:
            parser.error(f"{flag} {value}: must be at least 1")
    args.epochs = args.epochs or (3 if args.quick else 40 if args.full else 30)
    args.es_steps = args.es_steps or (20 if args.quick else 8000 if args.full else 400)
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


def make_claims(accuracies: dict) -> list:
    """C6.1, C8.4 and C8.5; a claim about a training that --methods left out is not measurable."""
    limit, digits, claims = *(accuracies.get("linear", {}).get(key, 0) for key in ("test", "digits")), []
    margin = 2 * (limit * (1 - limit) / max(digits, 1)) ** 0.5   # two standard errors
    for identifier, method, text, expected in (
            ("C6.1", "surrogate", "any non-linearity can train, even float rounding", "better than linear"),
            ("C8.4", "backprop", "back-propagation stays at the linear level", "94 % train, 92 % test"),
            ("C8.5", "es", "evolution strategies pass the linear limit", "> 99 % train, 96.7 % test")):
        row = accuracies.get(method)
        if row is None or not digits:
            measured, holds = f"not run: --methods leaves out {method if digits else 'linear'}", None
        else:
            measured = (f"train {row['train']:.4f}, test {row['test']:.4f}; linear {limit:.4f} ± {margin:.4f}; "
                        f"the same weights in NumPy {row['test_numpy']:.4f}")
            holds = (row["test"] > limit + margin) != (method == "backprop")
        claims.append({"id": identifier, "claim": text, "expected": expected, "measured": measured, "holds": holds})
    return claims


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    train, test = load_digits(args.full, args.data_dir)
    if args.quick:
        train = (train[0][:1500], train[1][:1500])
    seen, curves, accuracies, saved = (train[0][:10_000], train[1][:10_000]), {}, {}, {}
    for method in [m for m in METHODS if m in args.methods.split(",")]:
        activation = {"relu": tf.nn.relu, "linear": tf.identity}.get(method, flush)
        curve, clock, processor = [], time.perf_counter(), time.process_time()

        def watch(parameters, evaluations):
            curve.append({"seconds": round(time.perf_counter() - clock, 1), "evaluations": evaluations,
                          "test": accuracy(parameters, test, activation)})

        rng = np.random.default_rng(args.seed)
        tf.random.set_seed(args.seed)
        if method == "es":
            parameters = train_by_evolution(train, args.es_steps, rng, watch)
        else:   # the two linear ones are done sooner
            epochs = max(1, min(10, args.epochs // 3)) if method in ("linear", "backprop") else args.epochs
            parameters = train_by_gradient(method, train, epochs, 256 if args.full else 64, rng, watch)
        in_numpy = forward(parameters, test[0].reshape(len(test[0]), -1), flush)   # the same, but NumPy keeps denormals
        accuracies[method] = {"train": accuracy(parameters, seen, activation), **curve[-1], "digits": len(test[1]),
                              "test_numpy": float((in_numpy.argmax(1) == test[1]).mean()),
                              "cpu_seconds": round(time.process_time() - processor, 1)}
        curves[method], saved = curve, {**saved, **{f"{method}_{i}": p for i, p in enumerate(parameters)}}
        print(f"{method:9s}" + "".join(f"  {key} {value:.4g}" for key, value in accuracies[method].items()), flush=True)
    figures = ["linear_network_training.png"]
    plot_training(curves, accuracies.get("linear", {}).get("test")).savefig(args.out_dir / figures[0], dpi=150)
    partial = args.out_dir / "linear_network.part.npz"
    np.savez_compressed(partial, **saved)
    os.replace(partial, args.out_dir / "linear_network.npz")
    metrics = {"accuracy": accuracies, "curves": curves}
    return save_results(args, "linear_network", metrics, make_claims(accuracies), figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
