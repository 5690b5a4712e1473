"""How good are the vectors? Word similarity, analogies, and the article's similar words, with covered and total.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/evaluate.py                       our default beside the article's loss to the letter
         python simpler_glove/evaluate.py mine.npz theirs.txt   one row a file
Time:    15 CPU s on one core (AMD EPYC), 0.7 GB; 8 s more for each of three sets of vectors that is missing

Symbols: A + B − C → offset of answer_analogies (3CosAdd, unit vectors, as gensim)
         Pearson of ⟨v_i, v_k⟩ and ⟨v_j, v_k⟩ over k ≤ N (eq. 31–35) = cos(v_i U, v_j U) (eq. 36–39)
Differs from the article: it shows nine analogies and no benchmark; here are WordSim-240/353, CA-translated (Chen et al.
         2015), Google's questions-words, and parts of speech for "syntactic".
"""
import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch  # noqa: E402
from simpler_glove.explore import WordVectors, context_factor  # noqa: E402
from simpler_glove.vectors import load_vectors, train_variants, word_classes  # noqa: E402

HERE = Path(__file__).resolve().parent
SETS = {"similarity": ("wordsim240", "wordsim353"), "analogy": ("ca-translated", "questions-words")}
# the article's own questions A + B − C and the answers it shows or means; False: it says itself that top-1 fails
LISTED = [("机场", "火车", "飞机", ("火车站",), True), ("国王", "女人", "男人", ("王后",), False),
          ("北京", "英国", "中国", ("伦敦",), True), ("伦敦", "美国", "英国", ("纽约", "华盛顿"), True),
          ("广州", "浙江", "广东", ("杭州",), True), ("广州", "江苏", "广东", ("南京", "常州"), True),
          ("中学", "大学生", "大学", ("中学生",), False), ("人民币", "美国", "中国", ("美元",), True),
          ("兵马俑", "敦煌", "西安", ("莫高窟",), False)]
LABELS = {"default": "ours: unseen pairs held", "article": "article's loss", "untruncated": "the same, not truncated"}
CONTEXTS = (100, 200, 500, 1000, 2000, 5000, 10_000)     # N of eq. 31: the article names 500 and 10,000


# ---------------------------------------------------------------- data
def read_similarity(path: Path) -> list[tuple[str, str, float]]:
    """Lines "word, word, human score" parted by tabs; # starts a comment."""
    lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    fields = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    return [(first.strip().lower(), second.strip().lower(), float(score)) for first, second, score in fields]


def read_analogies(path: Path) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """[(section, [(a, b, c, d)])]: a is to b as c to d; sections start with a colon."""
    sections = []
    for line in Path(path).read_text(encoding="utf-8-sig").splitlines():
        if line.startswith(":"):
            sections.append((line[1:].strip(), []))
        elif line.strip():
            sections[-1][1].append(tuple(line.lower().split()))
    return sections


def read_sets(kind: str, data_dir: Path | None) -> dict:
    """name → content of the evaluation sets that are here; a missing one is named and left out."""
    found = {}
    for name in SETS[kind]:
        try:
            found[name] = (read_similarity if kind == "similarity" else read_analogies)(fetch(name, data_dir))
        except OSError as error:
            print(f"{str(error).splitlines()[0]} Left out; python data/download.py {name} fetches it", flush=True)
    return found


# ---------------------------------------------------------------- method
def word_similarity(vectors: WordVectors, pairs: list[tuple[str, str, float]]) -> dict:
    """Spearman's ρ of cosine and human score over the covered pairs (None under three), covered and total."""
    known = [(vectors.index[a], vectors.index[b], score) for a, b, score in pairs
             if a in vectors.index and b in vectors.index]
    answer = {"spearman": None, "covered": len(known), "total": len(pairs)}
    if len(known) >= 3:
        first, second, human = (np.array(column) for column in zip(*known))
        cosine = (np.einsum("nd,nd->n", vectors.vectors[first], vectors.vectors[second])
                  * vectors.inverse_norms[first] * vectors.inverse_norms[second])
        answer["spearman"] = float(spearmanr(cosine, human).statistic)
    return answer


def answer_analogies(unit: np.ndarray, questions: np.ndarray, offset: bool = True, batch: int = 256) -> np.ndarray:
    """Row of the best d in a : b = c : d, the three left out; questions (m, 3) are rows of the unit vectors (n, d).

    3CosAdd: largest cosine with b − a + c; offset=False: with c alone, the baseline that knows no relation."""
    best = np.empty(len(questions), np.int64)
    for start in range(0, len(questions), batch):
        a, b, c = questions[start:start + batch].T
        scores = (unit[b] - unit[a] + unit[c] if offset else unit[c]) @ unit.T        # (batch, n)
        scores[np.arange(len(a))[:, None], questions[start:start + batch]] = -np.inf
        best[start:start + batch] = scores.argmax(axis=1)
    return best


def analogy_accuracy(vectors: WordVectors, sections: list, restrict: int = 300_000, baseline: bool = True) -> dict:
    """Share of covered questions answered rightly, in all and by section, among the `restrict` most frequent words."""
    unit = vectors.vectors[:restrict] * vectors.inverse_norms[:restrict, None]
    known = {word: row for word, row in vectors.index.items() if row < restrict}
    rows, section_of = [], []
    for number, (_, questions) in enumerate(sections):
        covered = [question for question in questions if all(word in known for word in question)]
        rows += [[known[word] for word in question] for question in covered]
        section_of += [number] * len(covered)
    answer = {"accuracy": None, "baseline": None, "covered": len(rows), "total": sum(len(q) for _, q in sections),
              "sections": {}}
    if rows:
        rows, section_of = np.array(rows), np.array(section_of)
        right = answer_analogies(unit, rows[:, :3]) == rows[:, 3]
        answer["accuracy"] = float(right.mean())
        if baseline:
            answer["baseline"] = float((answer_analogies(unit, rows[:, :3], offset=False) == rows[:, 3]).mean())
        answer["sections"] = {name: [int(right[section_of == number].sum()), int((section_of == number).sum())]
                              for number, (name, _) in enumerate(sections)}
    return answer


# ---------------------------------------------------------------- evaluation
def listed_analogies(vectors: WordVectors) -> list[dict]:
    """Rank of the article's answer to its nine questions, query words left out; None where a word is unknown."""
    rows = []
    for a, b, c, answers, promised in LISTED:
        row = {"question": f"{a} + {b} − {c}", "expected": answers[0], "promised": promised, "rank": None, "top": []}
        if all(word in vectors.index for word in (a, b, c)):
            ranked = [word for word, _ in vectors.analogy(a, b, c, top=len(vectors.words))]
            row["top"] = ranked[:5]
            row["rank"] = min((ranked.index(word) + 1 for word in answers if word in vectors.index), default=None)
        rows.append(row)
    return rows


def identity_error(vectors: WordVectors, rng: np.random.Generator, context_words: int = 1000) -> float:
    """Largest |Pearson of PMI profiles − cos(v_i U, v_j U)| over 200 random pairs (eq. 31–39), in float64."""
    wide, context = vectors.vectors.astype(np.float64), vectors.vectors[:context_words].astype(np.float64)
    first, second = rng.integers(0, len(wide), (2, 200))
    usable = vectors.norms[first] * vectors.norms[second] > 0
    first, second = first[usable], second[usable]
    projected = wide @ context_factor(context)
    cosine = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(projected[first], projected[second])]
    pearson = [np.corrcoef(context @ wide[i], context @ wide[j])[0, 1] for i, j in zip(first, second)]
    return float(np.abs(np.array(cosine) - pearson).max())


def compare_contexts(vectors: WordVectors, classes: dict[str, str], rng, queries: int = 3000) -> dict:
    """What the N context words of the profile change, over random queries among ranks 300 to 5,000.

    same_class (len(CONTEXTS), queries): share of the ten similar words with the query's part of speech;
    like_cosine: share of them among the ten nearest by cosine."""
    tags = np.array([classes.get(word, "?") for word in vectors.words.tolist()])
    pool = [row for row in range(min(300, len(tags) // 2), min(5000, len(tags))) if tags[row] in "nvad"]
    rows = rng.choice(pool, min(queries, len(pool)), replace=False)
    unit = vectors.vectors * vectors.inverse_norms[:, None]

    def ten_nearest(unit_rows):
        found = []
        for part in np.array_split(rows, len(rows) // 256 + 1):
            scores = unit_rows[part] @ unit_rows.T
            scores[np.arange(len(part)), part] = -np.inf
            found.append(np.argpartition(scores, -10, axis=1)[:, -10:])
        return np.concatenate(found)
    plain = ten_nearest(unit)
    same_class, like_cosine = [], []
    for context_words in CONTEXTS:
        nearest = ten_nearest(vectors.projection(context_words))
        same_class.append((tags[nearest] == tags[rows][:, None]).mean(axis=1))
        like_cosine.append([len(set(a) & set(b)) / 10 for a, b in zip(nearest.tolist(), plain.tolist())])
    return {"same_class": np.array(same_class), "like_cosine": np.array(like_cosine),
            "cosine_same_class": float((tags[plain] == tags[rows][:, None]).mean())}


def check_claims(vectors: WordVectors, args: argparse.Namespace, rng) -> tuple[dict, list, dict]:
    """C7.8 and C7.9 on one set of vectors → (metrics, claims, what compare_contexts measured)."""
    listed = listed_analogies(vectors)
    asked = [row for row in listed if row["rank"]]
    promised = [row for row in asked if row["promised"]]
    first, ten = sum(row["rank"] == 1 for row in promised), sum(row["rank"] <= 10 for row in promised)
    for row in listed:
        print(f"  {row['question']} → {' '.join(row['top']) or 'unknown word'}   ({row['expected']}: {row['rank']})")
    error = identity_error(vectors, rng)
    contexts = compare_contexts(vectors, word_classes(args), rng)
    small, large = CONTEXTS.index(500), len(CONTEXTS) - 1
    gain = contexts["same_class"][small] - contexts["same_class"][large]
    doubt = float(gain.std() / np.sqrt(len(gain)))
    same, like = contexts["same_class"].mean(axis=1), contexts["like_cosine"].mean(axis=1)
    metrics = {"listed_analogies": listed, "listed_first": first, "listed_in_ten": ten, "listed_asked": len(promised),
               "identity_error": error, "context_words": CONTEXTS, "same_class": same.tolist(),
               "like_cosine": like.tolist(), "same_class_gain": float(gain.mean()), "same_class_gain_error": doubt,
               "cosine_same_class": contexts["cosine_same_class"]}
    claims = [
        {"id": "C7.8", "claim": "A + B − C: the expected word comes first in the article's six plain examples",
         "expected": "6 of 6", "measured": f"{first} of {len(promised)} first, {ten} among ten, "
                                           f"{6 - len(promised)} not asked (a word is missing from this corpus)",
         "holds": bool(first == len(promised)) if promised else None},
        {"id": "C7.9", "claim": "Pearson of PMI profiles = cosine after U, exactly; N = 500 is more syntactic, "
                                "N = 10,000 nearer to the cosine", "expected": "exact; syntactic; near",
         "measured": f"identity to {error:.0e}; same part of speech {same[small]:.3f} at 500, {same[large]:.3f} at "
                     f"10,000 (difference {gain.mean():+.3f} ± {doubt:.3f}); shared with the cosine's ten "
                     f"{like[small]:.2f} and {like[large]:.2f}",
         "holds": bool(error < 1e-9 and gain.mean() > 2 * doubt and like[large] > like[small])}]
    return metrics, claims, contexts


# ---------------------------------------------------------------- figures
def plot_scores(rows: dict[str, dict], contexts: dict | None) -> Figure:
    """Left: scores of each set of vectors; right: parts of speech and likeness to cosine over N."""
    figure = Figure(figsize=(9.5 if contexts else 5.5, 3.8), layout="constrained")
    axes = np.ravel(figure.subplots(1, 2 if contexts else 1))
    names = sorted({name for row in rows.values() for name, score in row.items() if score["score"] is not None})
    for place, (label, row) in enumerate(rows.items()):
        scores = [(row[name]["score"] or 0) if name in row else 0 for name in names]
        bars = axes[0].bar(np.arange(len(names)) + (place - (len(rows) - 1) / 2) * 0.8 / len(rows), scores,
                           0.8 / len(rows), label=LABELS.get(label, label))
        axes[0].bar_label(bars, [f"{score:.2f}" for score in scores], fontsize=7)
    first = next(iter(rows.values()))
    labels = [f"{name}\n{first[name]['covered']} of {first[name]['total']}" for name in names]
    axes[0].set_xticks(range(len(names)), labels, fontsize=8)
    axes[0].set(ylabel="Spearman ρ (wordsim), accuracy (analogies)")
    axes[0].legend()
    if contexts:
        for key, label in (("same_class", "same part of speech"), ("like_cosine", "among the cosine's ten")):
            mean, spread = contexts[key].mean(axis=1), contexts[key].std(axis=1) / np.sqrt(contexts[key].shape[1])
            line = axes[1].errorbar(CONTEXTS, mean, 2 * spread, fmt="o-", capsize=2)
            axes[1].annotate(label, (CONTEXTS[3], mean[3]), xytext=(8, -14 if key == "like_cosine" else 12),
                             textcoords="offset points", color=line[0].get_color())
        axes[1].axhline(contexts["cosine_same_class"], color="0.5", linestyle="--")
        axes[1].annotate("same part of speech, by cosine", (CONTEXTS[0], contexts["cosine_same_class"]),
                         xytext=(0, -11), textcoords="offset points", color="0.4", fontsize=8)
        axes[1].set(xscale="log", xlabel="N, context words of the PMI profile", ylabel="share of the ten similar words")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("vectors", nargs="*", help="vector files (none: our and the article's loss)")
    parser.add_argument("--restrict", type=int, default=300_000, help="analogies among so many frequent words")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.restrict < 4:
        parser.error(f"--restrict {args.restrict}: must be at least 4")
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
    if args.vectors:
        loaded = {path: load_vectors(Path(path)) for path in args.vectors}
    else:
        loaded = train_variants(args, ["default", "article", "untruncated"])
    similarity, analogy = read_sets("similarity", args.data_dir), read_sets("analogy", args.data_dir)
    rows = {}
    for label, arrays in loaded.items():
        vectors, row = WordVectors(*arrays), {}
        for name, pairs in similarity.items():
            row[name] = word_similarity(vectors, pairs)
            row[name]["score"] = row[name]["spearman"]
        for name, sections in analogy.items():
            row[name] = analogy_accuracy(vectors, sections, args.restrict)
            row[name]["score"] = row[name]["accuracy"]
        for name, score in row.items():
            value = "no pair known" if score["score"] is None else f"{score['score']:.3f}"
            print(f"{label:12s} {name:16s} {value}  (covered {score['covered']} of {score['total']})", flush=True)
        rows[label] = row
    metrics, claims, contexts = {"scores": rows}, [], None
    if not args.vectors:                                   # the claims are about the default corpus
        vectors = WordVectors(*loaded["default"])
        more, claims, contexts = check_claims(vectors, args, np.random.default_rng(args.seed))
        metrics.update(more)
    figures = []
    if contexts or any(score["score"] is not None for row in rows.values() for score in row.values()):
        figures = ["evaluate_scores.png"]
        plot_scores(rows, contexts).savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "evaluate", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
