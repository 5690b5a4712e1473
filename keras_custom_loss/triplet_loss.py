"""Can a loss that is no function of (y_true, y_pred) teach a network to find the answer to a question?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/triplet_loss.py            (--quick for a short look, --ask "…" to ask the pool)
Time:    see README.md

Symbols: q → question (code)   A_right, A_wrong → right, wrong   m → margin   N → batch
         L = max(0, m + cos(q, A_wrong) − cos(q, A_right))   (the article's second loss; the model's output is L itself)
Differs from the article: real questions and answers (InsuranceQA, in Chinese or English); the LSTM's outputs are pooled
over time by their maximum instead of taking the last one; besides one random wrong answer per question (the article),
a second training takes the right answers of the batch's other questions as wrong ones, all of them at once.
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
import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent))
from insurance_qa import Triplets, bm25, load_corpus, make_ids, rank_scores  # noqa: E402

HERE = Path(__file__).resolve().parent
VOCABULARY_SIZE, WORD_SIZE, ENCODE_SIZE = 10000, 128, 64  # the article's
QUESTION_LENGTH, ANSWER_LENGTH = 12, 48  # tokens kept; a Chinese token is one or two characters
COLOURS = {"chance": "0.7", "BM25": "C7", "random": "C0", "hard": "C1", "hard + BM25": "C2"}


# ---------------------------------------------------------------- method
def unit(x):
    """x / |x| along the last axis; vectors shorter than 1e-4 are divided by 1e-4, so that 0 has a finite gradient."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-8))


def cosine(a, b):
    """cos of the angle between the rows of a and b, both (N, d) → (N, 1). Raises ValueError for shapes that differ."""
    if len(a.shape) != 2 or tuple(a.shape)[1:] != tuple(b.shape)[1:] or (
            None not in (a.shape[0], b.shape[0]) and a.shape[0] != b.shape[0]):
        raise ValueError(f"codes have shapes {tuple(a.shape)} and {tuple(b.shape)}: both must be (N, d)")
    return ops.sum(unit(a) * unit(b), axis=-1, keepdims=True)


def triplet_loss(right_cosine, wrong_cosine, margin: float = 0.1):
    """max(0, m + cos(q, A_wrong) − cos(q, A_right)), elementwise; (N, 1) each, or (N, W) wrong ones per question.

    Raises ValueError for a margin that is not positive and for shapes that do not match."""
    if not margin > 0:
        raise ValueError(f"margin {margin}: must be above 0")
    right, wrong = tuple(right_cosine.shape), tuple(wrong_cosine.shape)
    rows = {right[0], wrong[0]} - {None} if right and wrong else ()
    if len(right) != 2 or len(wrong) != 2 or right[1] != 1 or len(rows) > 1:
        raise ValueError(f"right cosines have shape {right}, wrong {wrong}: must be (N, 1) and (N, W)")
    return ops.relu(margin + wrong_cosine - right_cosine)


def batch_triplet_loss(question, right, right_id, right_ids, margin: float = 0.1):
    """The loss of every question against the right answers of all others: the mean over those within the margin.

    question, right: codes (N, d); right_id: (N, 1) names the answers; right_ids: (N, R) all right ones of a question,
    which are no wrong ones for it. Returns (N, 1). Taking only the hardest (the maximum) makes all codes equal within
    an epoch, where L = m; the mean over the active ones starts gently, then turns hard."""
    names = ops.reshape(right_id, (1, -1, 1))
    is_right = ops.any(ops.equal(ops.expand_dims(right_ids, 1), names), axis=-1)  # (N, N)
    cosines = ops.matmul(unit(question), ops.transpose(unit(right)))
    losses = triplet_loss(cosine(question, right), cosines - 4.0 * ops.cast(is_right, cosines.dtype), margin)
    active = ops.sum(ops.cast(losses > 0, losses.dtype), axis=-1, keepdims=True)
    return ops.sum(losses, axis=-1, keepdims=True) / ops.maximum(active, 1.0)


def active_fraction(y_true, y_pred):
    """Share of questions whose loss is not 0: a metric that reads the loss, because that is the output."""
    return ops.mean(ops.cast(y_pred > 0, "float32"))


def build_models(margin: float, hard: bool, right_width: int = 1, vocabulary_size: int = VOCABULARY_SIZE,
                 question_length: int = QUESTION_LENGTH, answer_length: int = ANSWER_LENGTH) -> tuple:
    """(train model: triplet → loss, question encoder, answer encoder), which share all their weights.

    The question passes one linear layer more: question and answer are not to be encoded by the same map."""
    embedding = keras.layers.Embedding(vocabulary_size, WORD_SIZE)
    lstm = keras.layers.LSTM(ENCODE_SIZE, return_sequences=True)
    linear = keras.layers.Dense(ENCODE_SIZE, name="question_map")

    def encode(ids):  # (N, length) → (N, 64); filling at the end cannot change what the LSTM said before it
        filling = ops.expand_dims(ops.cast(ops.equal(ids, 0), "float32"), -1)
        return ops.max(lstm(embedding(ids)) - 4.0 * filling, axis=1)

    question_in = keras.Input((question_length,), dtype="int32")
    right_in, wrong_in = (keras.Input((answer_length,), dtype="int32") for _ in range(2))
    question, right = linear(encode(question_in)), encode(right_in)
    if hard:
        inputs = [question_in, right_in, *(keras.Input((width,), dtype="int32") for width in (1, right_width))]
        loss = batch_triplet_loss(question, right, inputs[2], inputs[3], margin)
    else:
        inputs = [question_in, right_in, wrong_in]
        loss = triplet_loss(cosine(question, right), cosine(question, encode(wrong_in)), margin)
    model, encoders = keras.Model(inputs, loss), (keras.Model(question_in, question), keras.Model(right_in, right))
    # the trick: the last layer's output is the loss, so the loss function hands it through; the target is a dummy
    model.compile(keras.optimizers.Adam(3e-3), loss=lambda y_true, y_pred: y_pred, metrics=[active_fraction])
    for encoder in encoders:
        encoder.compile("adam", "mse")  # only so that predict works, as in the article
    return model, *encoders


# ---------------------------------------------------------------- evaluation
def normalized(codes: np.ndarray) -> np.ndarray:
    return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)


def watch(models: tuple, question_ids, right, wrong, margin: float) -> dict:
    """Active fraction and share of right > wrong on triplets that never change."""
    q, a, w = (normalized(model.predict(ids, batch_size=1024, verbose=0)) for model, ids in
               zip((models[1], models[2], models[2]), (question_ids, right, wrong)))
    gap = np.sum(q * (a - w), axis=1)
    return {"active": float((gap < margin).mean()), "ranked": float((gap > 0).mean())}


def dummy_difference(seed: int) -> float:
    """Largest difference of the weights after five steps with zeros and with huge random numbers as y (C2.3)."""
    generator, ends = np.random.default_rng(seed), []
    batch = [generator.integers(1, 50, size=(32, length)).astype("int32") for length in (5, 9, 9)]
    for dummy in (np.zeros((32, 1), "float32"), generator.normal(scale=1e6, size=(32, 1)).astype("float32")):
        keras.utils.set_random_seed(seed)
        model = build_models(0.1, False, vocabulary_size=50, question_length=5, answer_length=9)[0]
        for _ in range(5):
            model.train_on_batch(batch, dummy)
        ends.append(model.get_weights())
    return max(float(np.abs(a - b).max()) for a, b in zip(*ends))


def check_article_form(models: tuple, batch: list, margin: float) -> tuple:
    """(largest |output of the train model − float64 formula on the encoders' codes| (C2.3), number of triplets beyond
    the margin, largest change of any weight by one SGD step on those alone (C2.4))."""
    model = models[0]
    q, a, w = (normalized(encoder.predict(ids, batch_size=1024, verbose=0).astype("float64"))
               for encoder, ids in zip((models[1], models[2], models[2]), batch))
    losses, before = model.predict(batch, batch_size=1024, verbose=0)[:, 0], model.get_weights()
    difference = np.abs(losses - np.maximum(0, margin + np.sum(q * w, 1) - np.sum(q * a, 1))).max()
    beyond = np.flatnonzero(losses == 0)
    if not len(beyond):
        return float(difference), 0, float("nan")
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y_true, y_pred: y_pred)
    model.train_on_batch([part[beyond] for part in batch], np.ones((len(beyond), 1), "float32"))
    change = max(float(np.abs(a - b).max()) for a, b in zip(before, model.get_weights()))
    model.set_weights(before)
    return float(difference), len(beyond), change


def train(args, corpus: tuple, hard: bool, epochs: int) -> tuple:
    """One arm: (models, {quantity: value before training and after each epoch})."""
    splits, encode, answer_ids = corpus
    keras.utils.set_random_seed(args.seed)
    rows, valid = splits["train"], splits["valid"][:1000]
    batches = Triplets(rows, encode([row[0] for row in rows], QUESTION_LENGTH), answer_ids, args.batch_size, hard,
                       args.seed)
    models = build_models(args.margin, hard, batches.all_right.shape[1])
    questions, generator = encode([row[0] for row in valid], QUESTION_LENGTH), np.random.default_rng(1)
    right = answer_ids[[row[1][0] for row in valid]]
    wrong = {"random": answer_ids[generator.integers(len(answer_ids), size=len(valid))],
             "given": answer_ids[[row[2][0] for row in valid]]}
    curves = {}
    for epoch in range(epochs + 1):
        if epoch:
            history = models[0].fit(batches, epochs=1, verbose=0).history
            curves.setdefault("active while training", []).append(float(history["active_fraction"][0]))
            print(f"{'hard' if hard else 'random'} negatives, epoch {epoch}: loss {history['loss'][0]:.4f}", flush=True)
        for kind in wrong:
            for key, value in watch(models, questions, right, wrong[kind], args.margin).items():
                curves.setdefault(f"{kind} {key}", []).append(value)
    return models, curves


def find_answers(question: str, model, codes: np.ndarray, encode, answers: list, top: int = 3) -> list:
    """The nearest answers, best first, as [(cosine, text)]; prints them."""
    if not (ids := encode([question], QUESTION_LENGTH)).any():
        raise ValueError(f"no word of the question {question!r} is in the vocabulary")
    cosines = codes @ normalized(model.predict(ids, verbose=0))[0]
    best = [(float(cosines[i]), answers[i].strip()) for i in np.argsort(-cosines)[:top]]
    print("\n".join([f"? {question}", *(f"{value:.3f}  {text[:150]}" for value, text in best)]))
    return best


# ---------------------------------------------------------------- figures
def plot_training(watched: dict, margin: float) -> Figure:
    """watched: negatives → {quantity: one value per epoch, the first before training}."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    titles = {"active": f"active triplets (gap < m = {margin:g})", "ranked": "right answer nearer than the wrong one"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items()):
        for name, curves in watched.items():
            for kind, style in (("random", "-"), ("given", "--")):
                axes.plot(curves[f"{kind} {key}"], style, marker="o", ms=3, color=COLOURS[name],
                          label=f"trained on {name}, {kind} wrong answers")
        axes.set(xlabel="epoch", ylabel="share of validation triplets", ylim=(0, 1.02), title=title)
    figure.axes[0].legend(fontsize=7)
    return figure


def plot_ranking(scores: dict) -> Figure:
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 2), {"top1": "top-1", "mrr": "mean reciprocal rank"}.items()):
        shown = {name: score[key] for name, score in scores.items() if np.isfinite(score[key])}
        bars = axes.barh(list(shown), list(shown.values()), color=[COLOURS[name] for name in shown])
        axes.bar_label(bars, fmt="%.3f", padding=3)
        axes.set(title=title, xlim=(0, 1.4 * max(shown.values())))
        axes.invert_yaxis()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--ask", metavar="QUESTION", help="answer this, with the last run's weights if any")
    parser.add_argument("--language", choices=("zh", "en"), default="zh", help="of questions and answers")
    parser.add_argument("--margin", type=float, default=0.1, help="m, above 0")
    parser.add_argument("--epochs", type=int, default=3, help="with hard negatives")
    parser.add_argument("--random-epochs", type=int, default=3, help="with random negatives, as the article; 0 = none")
    parser.add_argument("--batch-size", type=int, default=256, help="questions per step")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.ask is not None and not args.ask.strip():
        parser.error("--ask '': the question is empty")
    if not 0 < args.margin < 2:
        parser.error(f"--margin {args.margin}: must lie in (0, 2), the range of a difference of cosines")
    for name, low in (("epochs", 1), ("random_epochs", 0), ("batch_size", 2)):
        if getattr(args, name) < low:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: must be {low} or more")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random draw")
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
    slices = {"train": (600, 2), "valid": (100, 1), "test": (60, 20)} if args.quick else None
    splits, answers = load_corpus(args.language, args.data_dir, slices)
    encode, answer_ids = make_ids([row[0] for row in splits["train"]], answers, args.language, VOCABULARY_SIZE,
                                  (QUESTION_LENGTH, ANSWER_LENGTH))
    saved = args.out_dir / f"triplet_loss_{args.language}{'_quick' if args.quick else ''}.npz"  # codes and weights
    if args.ask and saved.is_file():
        with np.load(saved) as file:
            model, codes = build_models(args.margin, False)[1], file["codes"]
            model.set_weights([file[f"w{i}"] for i in range(len(file.files) - 1)])
        return {"answers": find_answers(args.ask, model, codes, encode, answers)}
    rows, tuning = splits["test"], splits["valid"][:300]
    chance = float(np.mean([len(right) / (len(right) + len(wrong)) for _, right, wrong in rows]))
    counts, weights = bm25([row[0] for row in rows + tuning], answers, args.language)

    def lexical(i, ids):
        return (weights[ids] @ counts[i].T).toarray()[:, 0]

    scores = {"BM25": rank_scores(rows, lexical)}
    metrics, watched = {"backend": keras.backend.backend(), "language": args.language, "chance_top1": chance,
                        "train_questions": len(splits["train"]), "test_questions": len(rows)}, {}
    for name, epochs in [("random", args.random_epochs)] * (args.random_epochs > 0) + [("hard", args.epochs)]:
        models, watched[name] = train(args, (splits, encode, answer_ids), name == "hard",
                                      min(epochs, 2) if args.quick else epochs)
        codes = normalized(models[2].predict(answer_ids, batch_size=1024, verbose=0))  # each answer once
        asked = normalized(models[1].predict(encode([row[0] for row in rows + tuning], QUESTION_LENGTH), verbose=0))
        scores[name] = rank_scores(rows, lambda i, ids: codes[ids] @ asked[i])

    def both(weight, first=0):  # cos + weight · BM25 / (that of the best answer in the pool)
        return lambda i, ids: codes[ids] @ asked[first + i] + weight * lexical(first + i, ids) / top[first + i]

    top = [max(1e-9, lexical(i, right + wrong).max()) for i, (_, right, wrong) in enumerate(rows + tuning)]
    metrics["bm25_weight"] = max((0.1, 0.2, 0.5, 1.0, 2.0), key=lambda weight: rank_scores(
        tuning, both(weight, len(rows)))["mrr"])  # chosen on validation questions
    scores["hard + BM25"] = rank_scores(rows, both(metrics["bm25_weight"]))
    np.savez(saved.with_suffix(".part.npz"), codes=codes, **{f"w{i}": w for i, w in enumerate(models[1].get_weights())})
    os.replace(saved.with_suffix(".part.npz"), saved)
    # C2.3 and C2.4 on the article's own form (one wrong answer each) with the trained weights
    article, generator = build_models(args.margin, False), np.random.default_rng(args.seed)
    article[0].set_weights(models[0].get_weights())
    questions, rights = zip(*[row[:2] for row in splits["valid"][:1000]])
    batch = [encode(questions, QUESTION_LENGTH), answer_ids[[right[0] for right in rights]],
             answer_ids[generator.integers(len(answers), size=len(rights))]]
    by_hand, beyond, step = check_article_form(article, batch, args.margin)
    for name, score in scores.items():
        metrics |= {f"{name.lower().replace(' + ', '_')}_{key}": value for key, value in score.items()}
    metrics |= {"watched": watched, "handwritten_difference": by_hand,
                "dummy_difference": dummy_difference(args.seed), "inactive_triplets": beyond, "inactive_step": step}
    plot_training(watched, args.margin).savefig(args.out_dir / "triplet_loss_training.png", dpi=150)
    bars = plot_ranking({"chance": {"top1": chance, "mrr": np.nan}, **scores})
    bars.savefig(args.out_dir / "triplet_loss_ranking.png", dpi=150)
    active, ranked = (next(iter(watched.values()))[f"random {key}"] for key in ("active", "ranked"))
    claims = [
        {"id": "C2.3", "claim": "a loss passed through as the output is the hand-written one; dummy y has no effect",
         "expected": "identical", "measured": f"difference to a float64 copy {by_hand:.1e}; of the weights for two "
         f"dummy y {metrics['dummy_difference']:g}",
         "holds": by_hand < 1e-5 and metrics["dummy_difference"] == 0},
        {"id": "C2.4", "claim": "beyond the margin the gradient is 0; active triplets become fewer and ranking better",
         "expected": "exactly 0; falls; rises",
         "measured": f"{beyond} triplets beyond the margin change the weights by {step:g}; active {active[0]:.3f} → "
                     f"{active[-1]:.3f}, right first {ranked[0]:.3f} → {ranked[-1]:.3f}",
         "holds": bool(step == 0 and active[-1] < active[0] and ranked[-1] > ranked[0])},
    ]
    print("; ".join(f"{name}: top-1 {score['top1']:.3f}, MRR {score['mrr']:.3f}" for name, score in scores.items()))
    find_answers(args.ask or rows[0][0], models[1], codes, encode, answers)
    figures = ["triplet_loss_training.png", "triplet_loss_ranking.png"]
    return save_results(args, "triplet_loss", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
