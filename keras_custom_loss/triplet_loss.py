"""Can a loss that is no function of (y_true, y_pred) teach a network to find the answer to a question?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/triplet_loss.py            (--quick for a short look, --ask "…" to ask the pool)
Time:    94 s on 2 cores (Intel Xeon), 1.5 GB

Symbols: q → question (code)   A_right, A_wrong → right, wrong   m → margin   N → batch
         L = max(0, m + cos(q, A_wrong) − cos(q, A_right))   (the article's second loss; the model's output is L itself)
Differs from the article: real questions and answers (InsuranceQA, in Chinese or English); the LSTM's outputs are pooled
over time by their maximum instead of taking the last one. A second training, "hard", takes as wrong answers all right
answers of the batch's other questions; its code has a part more, past the LSTM: a bag of the text's terms, hashed to
2048 numbers, with a linear layer for the question that is trained on wrong answers which a search engine found.
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

sys.path.insert(0, str(Path(__file__).resolve().parent))
from answer_ranking import (best_weight, blended, find_answers, make_pools, normalized, plot_ranking,  # noqa: E402
                            plot_training, watch)
from insurance_qa import Triplets, bm25, load_corpus, make_ids, make_term_codes, rank_scores  # noqa: E402

HERE = Path(__file__).resolve().parent
VOCABULARY_SIZE, WORD_SIZE, ENCODE_SIZE = 10000, 128, 64  # the article's
QUESTION_LENGTH, ANSWER_LENGTH = 12, 48  # tokens kept; a Chinese token is one or two characters
TERM_SIZE = 2048  # numbers of a term code: in 64 the noise of a cosine, 0.12, is as large as what is to be told apart


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
                 question_length: int = QUESTION_LENGTH, answer_length: int = ANSWER_LENGTH, wrongs: int = 8,
                 term_size: int = TERM_SIZE) -> tuple:
    """(train model: triplet → loss, question encoder, answer encoder), which share all their weights.

    The question passes one linear layer more: question and answer are not to be encoded by the same map. `hard`: the
    codes have a second part, the text's term code (see insurance_qa.py) past the LSTM, again with one linear layer more
    for the question, which starts as no change; either part has its loss, and the output is their sum."""
    embedding = keras.layers.Embedding(vocabulary_size, WORD_SIZE)
    lstm = keras.layers.LSTM(ENCODE_SIZE, return_sequences=True)
    linear = keras.layers.Dense(ENCODE_SIZE, name="question_map")

    def encode(ids):  # (N, length) → (N, 64); filling at the end cannot change what the LSTM said before it
        filling = ops.expand_dims(ops.cast(ops.equal(ids, 0), "float32"), -1)
        return ops.max(lstm(embedding(ids)) - 4.0 * filling, axis=1)

    question_in = keras.Input((question_length,), dtype="int32")
    right_in, wrong_in = (keras.Input((answer_length,), dtype="int32") for _ in range(2))
    question, right = linear(encode(question_in)), encode(right_in)
    ends = [question_in], [right_in]
    if hard:
        names_in = [keras.Input((width,), dtype="int32") for width in (1, right_width)]
        terms_in = [keras.Input(shape) for shape in ((term_size,), (term_size,), (wrongs, term_size))]
        term_map = keras.layers.Dense(term_size, use_bias=False, kernel_initializer="zeros", name="term_map")
        forget = keras.layers.Dropout(0.5)  # else the map learns the training answers by heart within an epoch
        q, a, w = (forget(terms) for terms in terms_in)
        q = q + 0.1 * term_map(q)  # 0.1: the map learns ten times more slowly than the rest
        wrong_cosines = ops.sum(unit(w) * ops.expand_dims(unit(q), 1), axis=-1)  # (N, W)
        losses = triplet_loss(cosine(q, a), wrong_cosines, margin)
        active = ops.sum(ops.cast(losses > 0, losses.dtype), axis=-1, keepdims=True)
        loss = batch_triplet_loss(question, right, *names_in, margin) + (
            ops.sum(losses, axis=-1, keepdims=True) / ops.maximum(active, 1.0))
        question, right = (ops.concatenate([unit(x), unit(y)], axis=-1) for x, y in ((question, q), (right, a)))
        inputs = [question_in, right_in, *names_in, *terms_in]
        ends = [question_in, terms_in[0]], [right_in, terms_in[1]]
    else:
        inputs = [question_in, right_in, wrong_in]
        loss = triplet_loss(cosine(question, right), cosine(question, encode(wrong_in)), margin)
    model, encoders = keras.Model(inputs, loss), (keras.Model(ends[0], question), keras.Model(ends[1], right))
    # the trick: the last layer's output is the loss, so the loss function hands it through; the target is a dummy
    model.compile(keras.optimizers.Adam(3e-3), loss=lambda y_true, y_pred: y_pred, metrics=[active_fraction])
    for encoder in encoders:
        encoder.compile("adam", "mse")  # only so that predict works, as in the article
    return model, *encoders


# ---------------------------------------------------------------- evaluation
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


def train(args, splits: dict, encoders: tuple, answer_inputs: list, hard: bool, epochs: int) -> tuple:
    """One arm: (models, {quantity: value before training and after each epoch}).

    encoders: functions from texts to an encoder's inputs; answer_inputs: what they give for all answers."""
    keras.utils.set_random_seed(args.seed)
    rows, valid = splits["train"], splits["valid"][:1000]
    question_ids, *terms = (encode([row[0] for row in rows]) for encode in encoders)
    batches = Triplets(rows, question_ids, answer_inputs[0], args.batch_size, args.seed,
                       (terms[0], answer_inputs[1]) if hard else None)
    models = build_models(args.margin, hard, batches.all_right.shape[1], wrongs=batches.wrongs,
                          term_size=args.term_size)
    questions, generator = [encode([row[0] for row in valid]) for encode in encoders], np.random.default_rng(1)
    chosen = ([row[1][0] for row in valid], generator.integers(len(answer_inputs[0]), size=len(valid)),
              [row[2][0] for row in valid])
    right, *wrong = ([part[places] for part in answer_inputs] for places in chosen)
    curves = {}
    for epoch in range(epochs + 1):
        if epoch:
            history = models[0].fit(batches, epochs=1, verbose=0).history
            curves.setdefault("active while training", []).append(float(history["active_fraction"][0]))
            print(f"{'hard' if hard else 'random'} negatives, epoch {epoch}: loss {history['loss'][0]:.4f}", flush=True)
        for kind, answers in zip(("random", "given"), wrong):
            for key, value in watch(models, questions, right, answers, args.margin).items():
                curves.setdefault(f"{kind} {key}", []).append(value)
    return models, curves


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--ask", metavar="QUESTION", help="answer this, with the last run's weights if any")
    parser.add_argument("--language", choices=("zh", "en"), default="zh", help="of questions and answers")
    parser.add_argument("--margin", type=float, default=0.1, help="m, above 0")
    parser.add_argument("--epochs", type=int, default=5, help="with hard negatives")
    parser.add_argument("--random-epochs", type=int, default=2, help="with random negatives, as the article")
    parser.add_argument("--batch-size", type=int, default=256, help="questions per step")
    parser.add_argument("--term-size", type=int, default=TERM_SIZE, help="size of the code of a text's terms")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.ask is not None and not args.ask.strip():
        parser.error("--ask '': the question is empty")
    if not 0 < args.margin < 2:
        parser.error(f"--margin {args.margin}: must lie in (0, 2), the range of a difference of cosines")
    for name, low in (("epochs", 1), ("random_epochs", 1), ("batch_size", 2), ("term_size", 1)):
        if getattr(args, name) < low:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: must be {low} or more")
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
    slices = {"train": (600, 2), "valid": (100, 1), "test": (60, 20)} if args.quick else None
    splits, answers = load_corpus(args.language, args.data_dir, slices)
    ids, answer_ids = make_ids([row[0] for row in splits["train"]], answers, args.language, VOCABULARY_SIZE,
                               (QUESTION_LENGTH, ANSWER_LENGTH))
    terms, answer_terms = make_term_codes(answers, args.language, args.term_size)
    encoders, answer_inputs = (lambda texts: ids(texts, QUESTION_LENGTH), terms), [answer_ids, answer_terms]
    saved = args.out_dir / f"triplet_loss_{args.language}{'_quick' if args.quick else ''}.npz"  # weights
    weight = None
    if args.ask and saved.is_file():
        with np.load(saved) as file:
            weights = [file[f"w{i}"] for i in range(len(file.files) - 1)]
            models, weight = build_models(args.margin, True, term_size=args.term_size), float(file["weight"])
        if [w.shape for w in weights] != [w.shape for w in models[0].get_weights()]:
            raise ValueError(f"--term-size {args.term_size}: the weights in {saved} are of another size")
        models[0].set_weights(weights)
    rows, tuning = splits["test"], splits["valid"][:500]

    def ask(texts):  # not a code but 0 for a text without known words
        inputs = [encode(texts) for encode in encoders]
        known = inputs[0].any(axis=1, keepdims=True) | inputs[1].any(axis=1, keepdims=True)
        return known * models[1].predict(inputs, batch_size=1024, verbose=0)

    if weight is not None:
        codes = blended(models[2].predict(answer_inputs, batch_size=1024, verbose=0), ENCODE_SIZE, weight)
        return {"answers": find_answers(args.ask, blended(ask([args.ask]), ENCODE_SIZE, weight)[0], codes, answers)}
    chance = float(np.mean([len(right) / (len(right) + len(wrong)) for _, right, wrong in rows]))
    counts, weights = bm25([row[0] for row in rows], answers, args.language)
    pools = make_pools(rows, splits["train"], len(answers), args.seed)

    def score(name, fit):
        found = {pool + key: value for pool, chosen in pools.items() for key, value in rank_scores(chosen, fit).items()}
        short = name.lower().replace(", ", "_").replace(" + ", "_")
        metrics.update({f"{short}_{key}": value for key, value in found.items()})
        scores[name] = found

    scores, watched, metrics = {}, {}, {
        "backend": keras.backend.backend(), "language": args.language, "chance_top1": chance,
        "train_questions": len(splits["train"]), "test_questions": len(rows)}
    score("BM25", lambda i, places: (weights[places] @ counts[i].T).toarray()[:, 0])
    for name, epochs in ("random", args.random_epochs), ("hard", args.epochs):
        hard, few = name == "hard", min(epochs, 2) if args.quick else epochs
        models, watched[name] = train(args, splits, encoders[:1 + hard], answer_inputs[:1 + hard], hard, few)
        if not hard:
            article, codes = models, normalized(models[2].predict(answer_ids, batch_size=1024, verbose=0))
            asked = normalized(models[1].predict(encoders[0]([row[0] for row in rows]), batch_size=1024, verbose=0))
            score(name, lambda i, places: codes[places] @ asked[i])
    asked = terms([row[0] for row in rows])
    score("terms, untrained", lambda i, places: answer_terms[places] @ asked[i])
    codes = models[2].predict(answer_inputs, batch_size=1024, verbose=0)  # each answer once
    asked, tuned = (ask([row[0] for row in part]) for part in (rows, tuning))
    lstm, rest = np.s_[:ENCODE_SIZE], np.s_[ENCODE_SIZE:]
    score("hard", lambda i, places: codes[places, lstm] @ asked[i, lstm])
    score("terms", lambda i, places: codes[places, rest] @ asked[i, rest])
    weight = best_weight(tuning, codes, tuned, ENCODE_SIZE)
    codes, asked = blended(codes, ENCODE_SIZE, weight), blended(asked, ENCODE_SIZE, weight)
    score("hard + terms", lambda i, places: codes[places] @ asked[i])
    metrics["term_weight"] = weight
    np.savez(saved.with_suffix(".part.npz"), weight=weight,
             **{f"w{i}": w for i, w in enumerate(models[0].get_weights())})
    os.replace(saved.with_suffix(".part.npz"), saved)
    # C2.3 and C2.4 on the article's own form (one wrong answer each) with its trained weights
    generator = np.random.default_rng(args.seed)
    questions, rights = zip(*[row[:2] for row in splits["valid"][:1000]])
    batch = [ids(questions, QUESTION_LENGTH), answer_ids[[right[0] for right in rights]],
             answer_ids[generator.integers(len(answers), size=len(rights))]]
    by_hand, beyond, step = check_article_form(article, batch, args.margin)
    metrics |= {"watched": watched, "handwritten_difference": by_hand,
                "dummy_difference": dummy_difference(args.seed), "inactive_triplets": beyond, "inactive_step": step}
    plot_training(watched, args.margin).savefig(args.out_dir / "triplet_loss_training.png", dpi=150)
    bars = plot_ranking({"chance": {"top1": chance}, **scores})
    bars.savefig(args.out_dir / "triplet_loss_ranking.png", dpi=150)
    active, ranked = (watched["random"][f"random {key}"] for key in ("active", "ranked"))
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
    print("; ".join(f"{name}: top-1 {found['top1']:.3f}, MRR {found['mrr']:.3f}" for name, found in scores.items()))
    question = args.ask or rows[0][0]
    find_answers(question, blended(ask([question]), ENCODE_SIZE, weight)[0], codes, answers)
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
