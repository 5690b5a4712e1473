"""Load word vectors of any common format, and train the missing ones that the other scripts here ask for.

Article: 更别致的词向量模型(六)：代码、分享与结语 https://kexue.fm/archives/4681
Run:     python simpler_glove/vectors.py                       what outputs/vectors.npz holds
         python simpler_glove/vectors.py FILE                  .npz, word2vec text (.gz too) or binary (.bin)
Time:    3 CPU s on one core (AMD EPYC), 0.3 GB; 8 s more for each set of vectors that is missing

Symbols: v_i → vectors[i]   P̃(w) → counts / counts.sum()
Differs from the article: his vectors are word2vec text (which loads); ours are .npz, 200 times faster to load.
"""
import argparse
import gzip
import itertools
import json
import os
import platform
import sys
import time
import zipfile
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch  # noqa: E402
from simpler_glove.count import load_corpus  # noqa: E402
from simpler_glove.train import fit, save_vectors  # noqa: E402
from simpler_glove.vocabulary import DEFAULT_CORPUS, HALF_WIDTH, read_documents  # noqa: E402

HERE = Path(__file__).resolve().parent
# what the scripts compare: our default; the article's loss to the letter; the same without min{x/x_max, 1}; English
VARIANTS = {"default": {}, "article": {"unseen_weight": 0.0}, "untruncated": {"unseen_weight": 0.0, "truncate": False},
            "english": {"corpus": "sotu"}}
CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei", "SimHei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Droid Sans Fallback")
QUICK_DOCUMENTS = 4000      # of 19,484 lines of the default corpus


# ---------------------------------------------------------------- data
def load_vectors(path: Path) -> tuple:
    """(words (n,) str, vectors float32 (n, d), counts int64 (n,) or None, config dict) of a vector file.

    .npz (train.py), word2vec binary (.bin), else word2vec or GloVe text (.gz too). Raises ValueError in one line
    when the file is damaged or cut short, OSError when it cannot be read."""
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                counts = archive["counts"] if "counts" in archive else None
                config = json.loads(str(archive["config"])) if "config" in archive else {}
                words, vectors = archive["words"].astype(str), archive["vectors"]
        else:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                words, vectors = (read_binary if ".bin" in path.suffixes else read_text)(file)
            words, counts, config = np.array(words, dtype=str), None, {}
        if vectors.ndim != 2 or len(words) != len(vectors) or (counts is not None and len(counts) != len(words)):
            raise ValueError(f"{len(words)} words beside vectors of shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError("a number is not finite")
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile) as error:
        reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a whole vector file, damaged or cut short ({reason}); "
                         "copy or train it again") from None
    return words, np.ascontiguousarray(vectors, np.float32), counts, config


def read_text(file) -> tuple[list, np.ndarray]:
    """(words, float32 n × d) of the text format: an optional line "n d", then a word and d numbers a line."""
    first = file.readline().removeprefix(b"\xef\xbb\xbf").split()
    if not first:
        raise ValueError("the file is empty")
    header = len(first) == 2
    dimension = int(first[1]) if header else len(first) - 1
    words, rows = [], []
    lines = file if header else [b" ".join(first), *file]
    for number, line in enumerate(lines, start=1 + header):
        fields = line.decode("utf-8").rstrip().rsplit(" ", dimension)
        if len(fields) != dimension + 1:
            raise ValueError(f"line {number} has not {dimension} numbers")
        words.append(fields[0])
        rows.append(np.array(fields[1:], np.float32))
    if header and len(words) != int(first[0]):
        raise ValueError(f"{len(words)} words, {int(first[0])} announced")
    return words, np.stack(rows)


def read_binary(file) -> tuple[list, np.ndarray]:
    """(words, float32 n × d) of word2vec's binary format: a line "n d", then word, blank, d × 4 bytes."""
    total, dimension = map(int, file.readline().split())
    data, position, words = file.read(), 0, []
    vectors = np.empty((total, dimension), np.float32)
    for row in range(total):
        blank = data.find(b" ", position)
        end = blank + 1 + 4 * dimension
        if blank < 0 or end > len(data):
            raise ValueError(f"{row} words, {total} announced")
        words.append(data[position:blank].lstrip(b"\n").decode("utf-8"))
        vectors[row] = np.frombuffer(data, "<f4", dimension, blank + 1)
        position = end
    return words, vectors


def train_variants(args: argparse.Namespace, names: list[str]) -> dict[str, tuple]:
    """name → (words, vectors, counts, config) for names of VARIANTS: from <out-dir> where an earlier run left them,
    else trained now and left there (--quick: on the first lines of the corpus, and nothing is left)."""
    found, counted = {}, {}
    for name in names:
        settings = {"corpus": DEFAULT_CORPUS, "unseen_weight": 0.001, "truncate": True, "x_max": 100.0, "alpha": 0.75,
                    "mode": "shared", "seed": args.seed, **VARIANTS[name]}
        corpus = settings.pop("corpus")
        wanted = {**settings, "corpus": [corpus], "solver": "cg", "dim": 128, "window": 10, "min_count": 5}
        place = args.out_dir / ("vectors.npz" if name == "default" else f"vectors.{name}.npz")
        if place.exists() and not args.quick:
            loaded = load_vectors(place)
            if all(loaded[3].get(key) == value for key, value in wanted.items()):
                found[name] = loaded
                continue
        started = time.process_time()
        if corpus not in counted:
            limit = QUICK_DOCUMENTS if args.quick else None
            counted = {corpus: load_corpus([corpus], limit=limit, data_dir=args.data_dir)}
        words, counts, pairs, _ = counted[corpus]
        fitted = fit(pairs, counts, **settings, dim=32 if args.quick else 128, measure=False)
        if fitted["interrupted"]:
            raise KeyboardInterrupt
        config = {**wanted, "dim": fitted["vectors"].shape[1]}
        where = "not kept"
        if not args.quick and not (name == "default" and place.exists()):       # never over the reader's own vectors
            save_vectors(place, words, fitted["vectors"], counts, config)
            where = f"kept in {place}"
        print(f"{name} vectors of {corpus}{', first lines' if args.quick else ''}: trained {len(words):,} words in "
              f"{time.process_time() - started:.0f} CPU s, {where}", flush=True)
        found[name] = words, fitted["vectors"], counts, config
    return found


def chosen_vectors(args: argparse.Namespace) -> tuple:
    """The file of --vectors, else <out-dir>/vectors.npz (what train.py wrote last), else trained now."""
    if args.vectors:
        return load_vectors(args.vectors)
    if (args.out_dir / "vectors.npz").exists() and not args.quick:
        return load_vectors(args.out_dir / "vectors.npz")
    if not args.quick:
        print(f"no vectors.npz in {args.out_dir}: training them on {DEFAULT_CORPUS}", flush=True)
    return train_variants(args, ["default"])["default"]


def default_documents(args: argparse.Namespace) -> list[list[str]]:
    """The default corpus as lists of words, or its first lines with --quick."""
    documents = read_documents([DEFAULT_CORPUS], data_dir=args.data_dir)
    return list(itertools.islice(documents, QUICK_DOCUMENTS if args.quick else None))


def word_classes(args: argparse.Namespace) -> dict[str, str]:
    """word → its commonest part of speech in the tagged default corpus (first letter: n v a d r p c u w m q …)."""
    tags = {}
    with open(fetch(DEFAULT_CORPUS, args.data_dir), encoding="utf-8") as file:
        for line in file:
            for token in line.translate(HALF_WIDTH).split():
                word, _, tag = token.rpartition("/")
                seen = tags.setdefault(word, {})
                seen[tag[:1]] = seen.get(tag[:1], 0) + 1
    return {word: max(seen, key=seen.get) for word, seen in tags.items()}


# ---------------------------------------------------------------- figures
def drawable(words: list[str]) -> tuple[list[str], str | None, str]:
    """(labels, font family or None, note): the words, or their pinyin where no installed font has Chinese."""
    if all(word.isascii() for word in words):
        return list(words), None, ""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    family = next((name for name in CHINESE_FONTS if name in installed), None)
    if family:
        return list(words), family, ""
    from snownlp import normal
    marks = {"，": ",", "。": ".", "、": "(list comma)", "“": '"', "”": '"', "（": "(", "）": ")", "：": ":", "；": ";"}
    spelled = [marks.get(word) or "".join(normal.get_pinyin(word)) for word in words]      # rare characters are missing
    labels = ["".join(letter if letter.isascii() else "?" for letter in word) for word in spelled]
    return labels, None, "pinyin: no font with Chinese was found"


def plot_norms(vectors: np.ndarray) -> Figure:
    """Norm of every vector over the frequency rank of its word."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(np.arange(1, len(vectors) + 1), np.linalg.norm(vectors, axis=1), ".", markersize=1)
    axes.set(xscale="log", xlabel="rank of the word in the file (frequency)", ylabel="norm ‖v‖")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("vectors", nargs="?", type=Path, help="vector file (default: vectors.npz of --out-dir)")
    add_house_flags(parser)
    return parser.parse_args(argv)


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
    words, vectors, counts, config = chosen_vectors(args)
    norms = np.linalg.norm(vectors, axis=1)
    print(f"{len(words):,} words, {vectors.shape[1]} dimensions; first words: {' '.join(words[:10])}\n"
          f"norms {norms.min():.2f} to {norms.max():.2f}, mean {norms.mean():.2f}; "
          f"counts {'none' if counts is None else f'of {counts.sum():,} words'}; config {config}")
    figures = ["vectors_norms.png"]
    plot_norms(vectors).savefig(args.out_dir / figures[0], dpi=150)
    metrics = {"words": len(words), "dimensions": vectors.shape[1], "norm_mean": float(norms.mean()),
               "norm_least": float(norms.min()), "norm_largest": float(norms.max())}
    return save_results(args, "vectors", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
