"""The article's own examples: related and similar words of five words, keywords of four texts.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/experiments/word_lists.py big.txt.xz        (Chinese cut into words)
Symbols: cos(v_i, v_j) → related (eq. 30)   cos(v_i U, v_j U) → similar, over N context words (eq.
         39)   ⟨Σ v_i, v_w⟩ → keywords (eq. 43)
Differs from the article: its words, but texts of our own on its four subjects; a small corpus
         knows some of the words too little, or not at all.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import read_chinese
from variants import CORPUS, LABELS, train_variants
from vectors import WordVectors

WORDS = ("单身", "狗", "科学", "发展观", "爬")  # the article's
MANY, FEW = 10_000, 500  # context words of a profile, as in the article
TEXTS = {
    "inspection": "省里派来的督察组查看了河边的印染厂，要求排污超标的企业立即停产整改，"
    "并把处理结果向附近的居民公开。",
    "plating": "镇上的电镀厂没有取得排污许可，环保局检测出废水中的铬和镍超标，"
    "责令它关停，并追究负责人的责任。",
    "stew": "把牛肉切成块，用黄油煎香，加入洋葱、胡萝卜和红酒，小火慢慢炖上三个小时，"
    "汤汁浓郁，是一道法国名菜。",
    "meteors": "今晚英仙座流星雨到达极大，天气晴朗的地方用肉眼就能观测，"
    "后半夜每小时可以看到几十颗流星划过夜空。",
}


def flags(parser):
    parser.add_argument("corpus", **CORPUS)
    parser.add_argument("--top", type=cli.between(1, 100), default=8, help="words of a list")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


def joined(found: list[tuple[str, float]]) -> str:
    return " ".join(word for word, _ in found)


def lists_of(vectors: WordVectors, word: str, top: int) -> dict[str, str]:
    return {
        "related": joined(vectors.related(word, top, cosine=True)),
        "similar_many": joined(vectors.similar(word, top, MANY)),
        "similar_few": joined(vectors.similar(word, top, FEW)),
    }


def keywords_of(vectors: WordVectors, text: str, top: int) -> dict[str, str]:
    """The words of a text with the highest scores, and those with the lowest, lowest last."""
    tokens = read_chinese(text)
    order = vectors.keywords(tokens, top=len(tokens))
    return {"first": joined(order[:top]), "last": joined(order[-top:])}


def tell(lists: dict[str, dict[str, str]]) -> None:
    for name, kinds in lists.items():
        for kind, found in kinds.items():
            print(f"{name} {kind}: {found}")


def main(args):
    metrics = {"context_words": {"many": MANY, "few": FEW}}
    for name, (words, array, counts, _) in train_variants(args, ["article", "default"]).items():
        vectors = WordVectors(words, array, counts)
        known = [word for word in WORDS if word in vectors.index]
        print(f"{LABELS[name]}; not among the words: {' '.join(set(WORDS) - set(known)) or 'none'}")
        found = {word: lists_of(vectors, word, args.top) for word in known}
        texts = {key: keywords_of(vectors, text, args.top) for key, text in TEXTS.items()}
        tell(found | texts)
        metrics[name] = {"words": found, "keywords": texts}
    return metrics, [], {}


if __name__ == "__main__":
    cli.run(main, flags)
