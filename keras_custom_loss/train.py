"""The post's three losses on real data, one after the other, each in the post's own form and order.

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/train.py
Symbols: ε → epsilon   K → CLASSES   p → y_pred   one-hot q → y_true      1: a function of both
         q, A_right, A_wrong → question, right, wrong   m → margin        2: a loss as the output
         x → features   c_y → centres   λ → weight                        3: two outputs
Continued by experiments/label_smoothing.py, calibration.py, triplet.py, center.py (what each loss
changes, with seeds) and idioms.py (which ways of writing one still run). Here all three are the
post's; losses.py has forms of them that stay finite at p = 0 and refuse wrong shapes.
Differs from the article: it has no data. Here 1 tells what kind of insurance a question is about,
2 finds the answer to a question, 3 reads digits, 28×28 instead of 224×224, 10 classes of them
instead of 100. Texts are filled up at their beginning, so that the LSTM ends on their last word.
"""

import sys

import numpy as np

import cli
from keras_tools import encoded, load_keras
from real_data import load_corpus, load_digits, load_topics

CLASSES = 10  # kinds of insurance, and digits
# vocabulary, word vectors, LSTM: the post's
WORDS = 10000
WORD_SIZE = 128
ENCODE_SIZE = 64
FEATURES = 32  # size of x in the post's center loss
SHOWN = int(sys.stdout.isatty())  # Keras's progress bar, with the losses and the accuracy
LINES = (  # what is said of each loss, from the metrics
    "1 mixed loss: accuracy {plain_accuracy:.3f} → {mixed_accuracy:.3f}, p of the true class "
    "{plain_p_true:.3f} → {mixed_p_true:.3f} (best: {best_p:.3g})",
    "2 triplet loss: top-1 of 201 answers {triplet_top1:.3f} (chance {chance_top1:.3f}, "
    "BM25 {bm25_top1:.3f})",
    "3 center loss: accuracy {free_accuracy:.3f} → {pulled_accuracy:.3f}, scatter within / "
    "between classes {free_scatter:.3f} → {pulled_scatter:.3f}",
)


def flags(parser):
    share = cli.between(0.001, 0.999, float)
    above_0 = cli.between(0.0001, 1000, float)
    parser.add_argument("--epsilon", type=share, default=0.1, help="ε, of the uniform target")
    parser.add_argument("--margin", type=cli.between(0.001, 2, float), default=0.1, help="m")
    parser.add_argument("--weight", type=above_0, default=0.2, help="λ, of the center loss")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- texts
def to_ids(vocabulary, texts: list, length: int) -> np.ndarray:
    """(n, length) numbers of tokens, filled up with zeros at the beginning."""
    return np.stack([np.roll(row, np.sum(row == 0)) for row in vocabulary.ids(texts, length)])


# ---------------------------------------------------------------- 1. a function of (y_true, y_pred)
def mixed_cross_entropy(y_true, y_pred, epsilon=0.1):
    """Cross-entropy with the one-hot target, mixed with that of the uniform one: (N, K) → (N,)."""
    from keras import losses, ops

    # S(q|p) = −Σ qᵢ log pᵢ
    own = losses.categorical_crossentropy(y_true, y_pred)
    uniform = losses.categorical_crossentropy(ops.ones_like(y_pred) / CLASSES, y_pred)
    # L = −(1−ε) log p_y − ε Σ (1/K) log pᵢ
    return (1 - epsilon) * own + epsilon * uniform


def topic_model(loss):
    """From the words of a question to the probabilities of what it is about."""
    from keras import Input, Model, layers

    words = Input((None,))
    code = layers.LSTM(ENCODE_SIZE)(layers.Embedding(WORDS, WORD_SIZE)(words))
    model = Model(words, layers.Dense(CLASSES, activation="softmax")(code))
    model.compile("adam", loss=loss, metrics=["accuracy"])
    return model


def classify_questions(topics: tuple, epsilon: float, epochs: int, seed: int) -> tuple:
    """(accuracy and p of the true class by loss, largest p of the test questions by loss)."""
    import keras

    from insurance_qa import QUESTION_LENGTH, Vocabulary

    texts, labels, test_texts, test_labels, _ = topics
    vocabulary = Vocabulary(texts, [], "zh", WORDS)
    ids, test_ids = (to_ids(vocabulary, part, QUESTION_LENGTH) for part in (texts, test_texts))
    one_hot = keras.utils.to_categorical(labels, CLASSES)

    def mixed(y_true, y_pred):
        return mixed_cross_entropy(y_true, y_pred, epsilon)

    scores = {}
    confidence = {}
    for name, loss in {"plain": "categorical_crossentropy", "mixed": mixed}.items():
        keras.utils.set_random_seed(seed)
        model = topic_model(loss)
        model.fit(ids, one_hot, batch_size=64, epochs=epochs, verbose=SHOWN)
        p, p_train = encoded(model, test_ids), encoded(model, ids)
        scores[f"{name}_accuracy"] = float(np.mean(p.argmax(1) == test_labels))
        scores[f"{name}_p_true"] = float(p_train[np.arange(len(ids)), labels].mean())
        scores[f"{name}_confidence"] = float(p.max(1).mean())
        confidence[name] = p.max(1)
    return scores, confidence


# ---------------------------------------------------------------- 2. a loss that is the output
def triplet_models(margin):
    """(train model: triplet → loss, question encoder, answer encoder), which share all weights."""
    from keras import Input, Model, layers, ops

    question, right, wrong = (Input((None,), dtype="int32") for _ in range(3))
    embedding = layers.Embedding(WORDS, WORD_SIZE)
    lstm = layers.LSTM(ENCODE_SIZE)
    dense = layers.Dense(ENCODE_SIZE)  # question and answer are not to be encoded by the same map

    question_code = dense(lstm(embedding(question)))
    right_code = lstm(embedding(right))
    wrong_code = lstm(embedding(wrong))
    right_cos = layers.dot([question_code, right_code], -1, normalize=True)
    wrong_cos = layers.dot([question_code, wrong_code], -1, normalize=True)

    # L = max(0, m + cos(q, A_wrong) − cos(q, A_right)), the last layer's output
    loss = layers.Lambda(lambda cos: ops.relu(margin + cos[0] - cos[1]))([wrong_cos, right_cos])
    model = Model([question, right, wrong], loss)
    model.compile("adam", loss=lambda y_true, y_pred: y_pred)  # so y_true may be anything
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice
    return model, Model(question, question_code), Model(right, right_code)


def match_answers(corpus: tuple, margin: float, epochs: int, seed: int) -> dict:
    """Top-1: how often the right answer comes first, before 200 wrong ones drawn at random."""
    import keras

    from answer_search import bm25_scores, chance_top1, draw_pool, normalized, rank_scores
    from insurance_qa import ANSWER_LENGTH, QUESTION_LENGTH, Triplets, Vocabulary

    splits, answers = corpus
    questions, asked = ([row[0] for row in splits[name]] for name in ("train", "test"))
    vocabulary = Vocabulary(questions, answers, "zh", WORDS)
    answer_ids = to_ids(vocabulary, answers, ANSWER_LENGTH)
    question_ids = to_ids(vocabulary, questions, QUESTION_LENGTH)
    asked_ids = to_ids(vocabulary, asked, QUESTION_LENGTH)

    keras.utils.set_random_seed(seed)
    model, question_encoder, answer_encoder = triplet_models(margin)
    triplets = Triplets(splits["train"], question_ids, answer_ids, 128, seed)  # y: zeros
    losses = model.fit(triplets, epochs=epochs, verbose=SHOWN).history["loss"]

    pool = draw_pool(splits["test"], len(answers), np.random.default_rng(seed))
    codes = normalized(encoded(answer_encoder, answer_ids))
    asked_codes = normalized(encoded(question_encoder, asked_ids))
    bm25 = bm25_scores(asked, answers, "zh")
    return {
        "triplet_loss": losses,
        "chance_top1": chance_top1(pool),
        "triplet_top1": rank_scores(pool, lambda i, ids: codes[ids] @ asked_codes[i])["top1"],
        "bm25_top1": rank_scores(pool, lambda i, ids: bm25[i, ids])["top1"],
    }


# ---------------------------------------------------------------- 3. center loss, two outputs
def center_models(weight):
    """(train model: image and label → p and ‖x − c_y‖², image → p, image → x), sharing weights."""
    from keras import Input, Model, layers, ops

    image = Input((28, 28, 1))
    x = layers.MaxPooling2D(2)(layers.Conv2D(10, 2)(image))
    features = layers.Dense(FEATURES, activation="relu")(layers.Flatten()(x))
    p = layers.Dense(CLASSES, activation="softmax", name="softmax")(features)

    label = Input((1,), dtype="int32")
    centre = layers.Flatten()(layers.Embedding(CLASSES, FEATURES)(label))  # the table's row y: c_y
    # ‖x − c_y‖²
    distance = layers.Lambda(lambda t: ops.sum((t[0] - t[1]) ** 2, -1, True), name="l2_loss")
    model = Model([image, label], [p, distance([features, centre])])
    # L = −log softmax_y(Wx + b) + λ‖x − c_y‖²; as two outputs, so that the accuracy is still shown
    model.compile(
        "adam",
        loss=["sparse_categorical_crossentropy", lambda y_true, y_pred: y_pred],
        loss_weights=[1, weight],
        metrics=[["accuracy"], []],
    )
    return model, Model(image, p), Model(image, features)


def read_digits(digits: tuple, weight: float, epochs: int, seed: int) -> dict:
    """Accuracy, and scatter within over between classes, without and with the center loss."""
    import keras

    from losses import scatter_ratio

    x, y, x_test, y_test = digits
    dummy = np.zeros((len(y), 1))
    scores = {}
    for name, pull in {"free": 0.0, "pulled": weight}.items():
        keras.utils.set_random_seed(seed)
        model, predictor, encoder = center_models(pull)
        model.fit([x, y[:, None]], [y, dummy], batch_size=64, epochs=epochs, verbose=SHOWN)
        scores[f"{name}_accuracy"] = float(np.mean(encoded(predictor, x_test).argmax(1) == y_test))
        scores[f"{name}_scatter"] = scatter_ratio(encoded(encoder, x_test), y_test)
    return scores


# ---------------------------------------------------------------- what came out
def plot(metrics: dict, confidence: dict):
    figure, (first, second, third) = cli.subplots(1, 3, height=3.2)
    for name, colour in {"plain": "C0", "mixed": "C1"}.items():
        first.hist(confidence[name], np.linspace(0, 1, 41), color=colour, alpha=0.6, label=name)
    first.axvline(metrics["best_p"], color="0.3", ls="--", lw=1)
    first.set(xlabel="largest p of a test question", ylabel="questions", title="1 mixed loss")
    first.legend(loc="upper left", title="cross-entropy")
    names = ["chance", "triplet", "BM25"]
    tops = [metrics[f"{name.lower()}_top1"] for name in names]
    second.bar_label(second.bar(names, tops, color=["0.7", "C1", "C7"]), fmt="%.3f")
    second.set(ylabel="top-1 of 201 answers", title="2 triplet loss", ylim=(0, 1.15 * max(tops)))
    scatters = [metrics["free_scatter"], metrics["pulled_scatter"]]
    third.bar_label(third.bar(["without", "with"], scatters, color=["C0", "C1"]), fmt="%.2f")
    third.set(ylabel="scatter within / between", title="3 center loss")
    third.set(ylim=(0, 1.15 * max(scatters)))
    return figure


def main(args):
    slices = {"train": (600, 2), "valid": (1, 1), "test": (60, 20)} if args.quick else None
    topics = load_topics("zh", CLASSES, args.data_dir)
    corpus = load_corpus("zh", args.data_dir, slices)
    digits = load_digits(args.data_dir)
    epochs = (3, 5, 10)  # passes of each loss; the post: 10 for the second and the third
    if args.quick:
        topics = tuple(part[:800] for part in topics)
        digits = tuple(part[:600] for part in digits)
        epochs = (1, 1, 2)
    load_keras()

    metrics = {"best_p": 1 - args.epsilon + args.epsilon / CLASSES}
    scores, confidence = classify_questions(topics, args.epsilon, epochs[0], args.seed)
    metrics |= scores
    print(LINES[0].format(**metrics), flush=True)
    metrics |= match_answers(corpus, args.margin, epochs[1], args.seed)
    print(LINES[1].format(**metrics), flush=True)
    metrics |= read_digits(digits, args.weight, epochs[2], args.seed)
    print(LINES[2].format(**metrics), flush=True)
    return metrics, [], {"train_losses": plot(metrics, confidence)}


if __name__ == "__main__":
    cli.run(main, flags)
