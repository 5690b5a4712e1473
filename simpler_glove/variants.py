"""The vectors that experiments compare: read where an earlier run left them, else trained now.

default: ours; article: his loss to the letter; untruncated: the same without min{x/x_max, 1} of
eq. 19. They are trained on the People's Daily, or on the corpus that an experiment is given without
the reviews on which sentiment.py tests them.
"""

import functools
import time
from pathlib import Path

from corpus import DEFAULT_CORPUS, QUICK_DOCUMENTS, check_sources, load_corpus, review_texts
from counting import MIN_COUNT
from least_squares import fit
from vector_files import load_vectors, save_vectors

LABELS = {
    "default": "ours: unseen pairs held near 0",
    "article": "the article's loss",
    "untruncated": "the article's, not truncated",
}
COLORS = {"default": "C0", "article": "C1", "untruncated": "C2", "glove": "C3"}
VARIANTS = {
    "default": {},
    "article": {"unseen_weight": 0.0},
    "untruncated": {"unseen_weight": 0.0, "truncate": False},
}


CORPUS = {
    "nargs": "*",
    "default": [DEFAULT_CORPUS],
    "help": "files or known corpora, as in train.py",
}


def train_variants(args, names: list[str], count=None) -> dict[str, tuple]:
    """name → (words, vectors, counts, config) for names of VARIANTS.

    args: corpus (else the default one), out_dir, data_dir, quick and seed of a script; count: of
    counter(args), for a caller that counts too or calls again. What is trained is left in out_dir;
    a --quick run trains on the first lines of the corpus and leaves nothing.
    """
    corpus = corpus_of(args)
    count = count or counter(args)
    found = {}
    for name in names:
        wanted = settings(name, args.seed, min_count_of(args)) | {"corpus": corpus}
        place = args.out_dir / file_name(corpus, name, args.seed)
        if place.exists() and not args.quick:
            loaded = load_vectors(place)
            if all(loaded[3].get(key) == value for key, value in wanted.items()):
                found[name] = loaded
                continue
        started = time.process_time()
        words, counts, pairs, _ = count()
        config = wanted | {"dim": 32 if args.quick else wanted["dim"]}
        weighting = {key: wanted[key] for key in ("x_max", "alpha", "truncate")}
        options = {key: config[key] for key in ("dim", "mode", "unseen_weight", "seed")}
        vectors = fit(pairs, counts, **options, weighting=weighting, measure=False)["vectors"]
        where = "not kept"
        # never over the reader's own vectors.npz
        if not args.quick and not (place.name == "vectors.npz" and place.exists()):
            save_vectors(place, words, vectors, counts, config)
            where = f"kept in {place}"
        spent = time.process_time() - started
        part = ", first lines" if args.quick else ""
        print(
            f"{name} vectors of {' '.join(corpus)}{part}: trained {len(words):,} words in "
            f"{spent:.0f} CPU s, {where}",
            flush=True,
        )
        found[name] = words, vectors, counts, config
    return found


def corpus_of(args) -> list[str]:
    return list(map(str, getattr(args, "corpus", [DEFAULT_CORPUS])))


def min_count_of(args) -> int:
    return getattr(args, "min_count", MIN_COUNT)


def counter(args):
    """A function that counts the corpus when it is first called: what load_corpus returns.

    In a --quick run of the first lines; of other corpora than the default one without the reviews.
    """
    corpus = corpus_of(args)

    @functools.cache
    def count() -> tuple:
        check_sources(corpus)
        limit = QUICK_DOCUMENTS if args.quick else None
        reviews = frozenset() if corpus == [DEFAULT_CORPUS] else review_texts(args.data_dir)
        options = {"limit": limit, "data_dir": args.data_dir, "leave_out": reviews}
        return load_corpus(corpus, min_count=min_count_of(args), folder=args.out_dir, **options)

    return count


def file_name(corpus: list[str], name: str, seed: int) -> str:
    """vectors.npz is what train.py writes; other corpora, losses and seeds are in the name."""
    parts = [] if corpus == [DEFAULT_CORPUS] else [Path(corpus[0]).name.split(".")[0]]
    parts += [] if name == "default" else [name]
    parts += [f"seed{seed}"] if seed and parts else []
    return ".".join(["vectors", *parts, "npz"])


def settings(name: str, seed: int, min_count: int) -> dict:
    """What the config of a variant's file must say."""
    return {
        "window": 10,
        "min_count": min_count,
        "dim": 128,
        "mode": "shared",
        "solver": "least-squares",
        "unseen_weight": 3.0,
        "truncate": True,
        "x_max": 100.0,
        "alpha": 0.75,
        "seed": seed,
        **VARIANTS[name],
    }


def chosen_vectors(args) -> tuple:
    """The file of --vectors, else vectors.npz of --out-dir (what train.py left), else trained."""
    if args.vectors:
        return load_vectors(args.vectors)
    if (args.out_dir / "vectors.npz").exists() and not args.quick:
        return load_vectors(args.out_dir / "vectors.npz")
    if not args.quick:
        print(f"no vectors.npz in {args.out_dir}: training them on {DEFAULT_CORPUS}", flush=True)
    return train_variants(args, ["default"])["default"]
