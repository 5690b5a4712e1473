"""Do the article's own analogies come out? Nine questions A + B − C and the rank of the answer.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677 (the model: 4671)
Run:     python simpler_glove/experiments/analogies.py                  (our vectors)
         python simpler_glove/experiments/analogies.py --vectors FILE   (any others)
Symbols: A + B − C → WordVectors.analogy, by cosine (eq. 9)
Differs from the article: the three words of a question are left out of its answers.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import chinese_font
from variants import COLORS, CORPUS, train_variants
from vector_files import load_vectors
from vectors import WordVectors

# A, B, C; the answers that the article shows or means; does it promise the first place? Of three
# questions it says itself that the first word is another
LISTED = [
    ("机场", "火车", "飞机", ("火车站",), True),
    ("国王", "女人", "男人", ("王后",), False),
    ("北京", "英国", "中国", ("伦敦",), True),
    ("伦敦", "美国", "英国", ("纽约", "华盛顿"), True),
    ("广州", "浙江", "广东", ("杭州",), True),
    ("广州", "江苏", "广东", ("南京", "常州"), True),
    ("中学", "大学生", "大学", ("中学生",), False),
    ("人民币", "美国", "中国", ("美元",), True),
    ("兵马俑", "敦煌", "西安", ("莫高窟",), False),
]


def flags(parser):
    parser.add_argument("corpus", **CORPUS)
    parser.add_argument("--vectors", type=Path, help="a vector file (else ours)")
    seeds = "vectors trained from so many starts, of which the worst counts"
    parser.add_argument("--seeds", type=cli.between(1, 100), default=1, help=seeds)
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


def ask(vectors: WordVectors) -> list[dict]:
    """A row per question: the rank of the best of its answers, None where a word is unknown."""
    rows = []
    for a, b, c, answers, promised in LISTED:
        row = {"question": f"{a} + {b} − {c}", "expected": answers[0], "promised": promised}
        row |= {"rank": None, "top": []}
        if all(word in vectors.index for word in (a, b, c)):
            ranked = [word for word, _ in vectors.analogy(a, b, c, top=len(vectors.words))]
            row["top"] = ranked[:5]
            ranks = [ranked.index(word) + 1 for word in answers if word in ranked]
            row["rank"] = min(ranks, default=None)
        rows.append(row)
    return rows


def plot_ranks(rows: list[dict], words: int, data_dir):
    """The rank of each answer, on a line a question."""
    font = chinese_font(data_dir)
    figure, axes = cli.subplots(height=3.8)
    labels = [f"{row['question']} = {row['expected']}" for row in rows]
    for place, row in enumerate(rows):
        if row["rank"]:
            axes.plot([1, row["rank"]], [place, place], color="0.8", zorder=0)
            axes.plot(
                row["rank"], place, "o", color=COLORS["default"] if row["promised"] else "0.5"
            )
            text = f"rank {row['rank']:,}"
            axes.annotate(
                text, (row["rank"], place), (8, 0), textcoords="offset points", va="center"
            )
        else:
            axes.annotate("  a word is unknown here", (1, place), color="0.5", va="center")
    axes.axvline(1, color="C1")
    axes.set_yticks(range(len(rows)), labels, family=font)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    title = "blue: the article has it first (orange line); grey: it says itself that it is not"
    axes.set(xscale="log", xlim=(0.8, 4 * words), xlabel="rank of the answer", title=title)
    return figure


def main(args):
    runs = []
    for seed in range(args.seed, args.seed + args.seeds):
        if args.vectors:
            arrays = load_vectors(args.vectors)
        else:
            seeded = argparse.Namespace(**vars(args) | {"seed": seed})
            arrays = train_variants(seeded, ["default"])["default"]
        vectors = WordVectors(*arrays)
        rows = ask(vectors)
        for row in rows:
            top = " ".join(row["top"]) or "unknown word"
            print(f"  {row['question']} → {top}   ({row['expected']}: {row['rank']})", flush=True)
        promised = [row["rank"] for row in rows if row["promised"] and row["rank"]]
        runs.append(
            {
                "seed": seed,
                "listed_analogies": rows,
                "listed_first": sum(rank == 1 for rank in promised),
                "listed_in_three": sum(rank <= 3 for rank in promised),
                "listed_in_ten": sum(rank <= 10 for rank in promised),
                "listed_asked": len(promised),
            }
        )
    worst = min(runs, key=lambda run: (run["listed_first"], run["listed_in_ten"]))
    metrics = worst | {"runs": runs}
    of_six = sum(row["promised"] for row in worst["listed_analogies"])
    measured = {
        "first": worst["listed_first"],
        "ten": worst["listed_in_ten"],
        "asked": worst["listed_asked"],
    }
    claim = cli.claim("C7.8", measured, measured["first"] == of_six if measured["asked"] else None)
    rows = worst["listed_analogies"]
    figure = plot_ranks(rows, len(vectors.words), args.data_dir)
    return metrics, [claim], {"analogies_ranks": figure}


if __name__ == "__main__":
    cli.run(main, flags)
