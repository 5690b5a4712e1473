"""Which answers does a question get? Pools of wrong answers, codes of two parts, the answers found, and the figures.

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Used by: triplet_loss.py

A code holds two unit vectors: what the LSTM says of a text, then its terms (insurance_qa.make_term_codes).
"""
import numpy as np
from matplotlib.figure import Figure

from insurance_qa import rank_scores

COLOURS = {"chance": "0.7", "BM25": "C7", "random": "C0", "hard": "C1", "terms, untrained": "C5", "terms": "C3",
           "hard + terms": "C2"}


def normalized(codes: np.ndarray) -> np.ndarray:
    return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)


def blended(codes: np.ndarray, split: int, weight: float) -> np.ndarray:
    """Codes whose dot product is (cos of the first `split` numbers + weight · cos of the rest) / (1 + weight)."""
    return np.concatenate([codes[:, :split], np.sqrt(weight) * codes[:, split:]], axis=1) / np.sqrt(1 + weight)


def best_weight(rows: list, codes: np.ndarray, asked: np.ndarray, split: int) -> float:
    """The weight of the term part with the highest mean reciprocal rank on these rows, which are not the test's."""
    def mean_rank(weight):
        return rank_scores(rows, lambda i, places: codes[places, :split] @ asked[i, :split] + weight * (
            codes[places, split:] @ asked[i, split:]))["mrr"]
    return max((0.5, 1.0, 2.0, 4.0, 8.0), key=mean_rank)


def make_pools(rows: list, train_rows: list, answers: int, seed: int) -> dict:
    """The same questions before three pools of wrong answers: those given, which a search engine found; of these the
    ones that are right for no training question; and 200 drawn at random from all answers."""
    generator, known = np.random.default_rng(seed), {place for _, right, _ in train_rows for place in right}
    return {"": rows,
            "unseen_": [(text, right, [place for place in wrong if place not in known]) for text, right, wrong in rows],
            "drawn_": [(text, right, sorted(set(generator.integers(answers, size=200).tolist()) - set(right)))
                       for text, right, _ in rows]}


def watch(models: tuple, questions: list, right: list, wrong: list, margin: float) -> dict:
    """Active fraction and share of right > wrong on triplets that never change; each a list of an encoder's inputs."""
    q, a, w = (normalized(model.predict(inputs, batch_size=1024, verbose=0)) for model, inputs in
               zip((models[1], models[2], models[2]), (questions, right, wrong)))
    gap = np.sum(q * (a - w), axis=1)
    return {"active": float((gap < margin).mean()), "ranked": float((gap > 0).mean())}


def find_answers(question: str, code: np.ndarray, codes: np.ndarray, answers: list, top: int = 3) -> list:
    """The nearest answers, best first, as [(cosine, text)]; prints them. code: the question's; 0 = no word is known."""
    cosines = codes @ code
    if not cosines.any():
        raise ValueError(f"no word of the question {question!r} is in the vocabulary")
    best = [(float(cosines[i]), answers[i].strip()) for i in np.argsort(-cosines)[:top]]
    print("\n".join([f"? {question}", *(f"{value:.3f}  {text[:150]}" for value, text in best)]))
    return best


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
    """scores: model → {"top1", "mrr", "drawn_top1"}; a value that is missing has no bar."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    titles = {"top1": "top-1, given wrong answers", "mrr": "mean reciprocal rank, same",
              "drawn_top1": "top-1, random wrong answers"}
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), titles.items()):
        bars = axes.barh(list(scores), [score.get(key, np.nan) for score in scores.values()],
                         color=[COLOURS[name] for name in scores])
        labels = [f"{score[key]:.3f}" if key in score else "" for score in scores.values()]
        axes.bar_label(bars, labels=labels, padding=3)
        axes.set(title=title, xlim=(0, 1.3 * max(score.get(key, 0) for score in scores.values())))
    figure.axes[0].invert_yaxis()
    return figure
