"""How often do two words meet, in a corpus larger than one machine? The counts of count.py, on Apache Spark.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Needs:   pyspark (requirements-spark.txt, and Java 17)
Run:     python simpler_glove/count_spark.py                    (People's Daily, January 1998, checked against count.py)
         spark-submit simpler_glove/count_spark.py hdfs:///corpus/*.txt.gz --master yarn
Time:    1 min on 2 cores for 1.1 M tokens, most of it Spark's own start; it pays on corpora of 10⁹ tokens and more

Symbols: x_ij → n   key → i·2³² + j with i > j, ranks in the vocabulary
Each task counts its own lines in numpy, Spark adds the partial counts up: one shuffle of at most one row per pair and
batch of lines. The vocabulary is broadcast, so it must fit into memory; the pairs need not.
Differs from the article: his counting program runs on one machine.
"""
import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.count import count_pairs  # noqa: E402
from simpler_glove.vocabulary import DEFAULT_CORPUS, build_vocabulary, read_documents  # noqa: E402

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- method
def count_words(lines, min_count: int) -> tuple[list, list]:
    """(words, counts) of a Spark DataFrame of lines, in the order of build_vocabulary: by count, then by code point."""
    from pyspark.sql import functions as F
    words = lines.select(F.explode(F.split(F.trim("value"), r"\s+")).alias("word")).where("word != ''")
    rows = words.groupBy("word").count().where(F.col("count") >= min_count).collect()
    rows.sort(key=lambda row: (-row["count"], row["word"]))
    if not rows:
        raise ValueError(f"no word occurs {min_count} times; lower --min-count")
    return [row["word"] for row in rows], [row["count"] for row in rows]


def partial_counts(lines, rank: dict, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs within `window` kept words of each other in the same line → (keys, how often)."""
    documents = [[rank[word] for word in line.split() if word in rank] for line in lines]
    ids = np.fromiter((word for document in documents for word in document), np.int64)
    line = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    keys = [np.empty(0, np.int64)]
    for distance in range(1, min(window, len(ids) - 1) + 1):
        left, right = ids[:-distance], ids[distance:]
        together = (line[:-distance] == line[distance:]) & (left != right)   # self-pairs are left out
        keys.append((np.maximum(left, right)[together] << 32) + np.minimum(left, right)[together])
    return np.unique(np.concatenate(keys), return_counts=True)


def count_on_spark(spark, paths: list, min_count: int = 5, window: int = 10):
    """Spark session and paths of text (a document a line) → (words, counts, DataFrame of key and n, each pair once)."""
    import pyarrow as pa
    lines = spark.read.text(paths)
    words, counts = count_words(lines, min_count)
    rank = spark.sparkContext.broadcast({word: number for number, word in enumerate(words)})

    def count_batches(batches):
        for batch in batches:
            keys, n = partial_counts(batch["value"].to_pylist(), rank.value, window)
            yield pa.RecordBatch.from_arrays([pa.array(keys), pa.array(n)], ["key", "n"])

    partial = lines.mapInArrow(count_batches, "key long, n long")
    return words, counts, partial.groupBy("key").sum("n").withColumnRenamed("sum(n)", "n")


def to_matrix(pairs, size: int) -> csr_matrix:
    """DataFrame of key and n → (size, size) int32 lower triangle as count_pairs gives it; for what fits into memory."""
    table = pairs.toArrow()
    keys, n = (table[name].to_numpy(zero_copy_only=False) for name in ("key", "n"))
    matrix = csr_matrix((n.astype(np.int32), (keys >> 32, keys & 0xFFFFFFFF)), shape=(size, size))
    matrix.sort_indices()
    return matrix


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("corpus", nargs="*", help="text files or patterns that Spark can read, a document a line; "
                        "none: People's Daily, January 1998, and a check against count.py")
    parser.add_argument("--master", default="local[2]", help="Spark master: local[N], yarn, spark://…")
    parser.add_argument("--min-count", type=int, default=5, help="least occurrences of a word")
    parser.add_argument("--window", type=int, default=10, help="words on each side")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("min_count", "window"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least 1")
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
    args.out_dir.mkdir(parents=True, exist_ok=True)   # before any work
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise OSError("pyspark is not installed: python -m pip install -r requirements-spark.txt") from None
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)   # the tasks need numpy too
    spark = (SparkSession.builder.master(args.master).appName("simpler_glove").config("spark.ui.enabled", "false")
             .config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
             .config("spark.sql.execution.arrow.maxRecordsPerBatch", 2000).getOrCreate())
    spark.sparkContext.setLogLevel("ERROR")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            paths = args.corpus
            if not paths:
                documents = [words for words, _ in zip(read_documents([DEFAULT_CORPUS], data_dir=args.data_dir),
                                                       range(2000 if args.quick else 10 ** 9))]
                paths = [str(Path(scratch) / "corpus.txt")]
                Path(paths[0]).write_text("\n".join(map(" ".join, documents)), encoding="utf-8")
            words, counts, pairs = count_on_spark(spark, paths, args.min_count, args.window)
            target = args.out_dir / "pairs.parquet"
            pairs.write.mode("overwrite").parquet(str(target))
            written = spark.read.parquet(str(target))
            metrics = {"vocabulary": len(words), "tokens": sum(counts), "pairs": written.count()}
            if not args.corpus:
                ours, our_counts, ids, ends = build_vocabulary(documents, args.min_count)
                alone = count_pairs(ids, ends, len(ours), args.window)
                matrix = to_matrix(written, len(words))
                metrics["equal_to_count_py"] = bool(list(ours) == words and list(our_counts) == counts
                                                    and matrix.nnz == alone.nnz and (matrix != alone).nnz == 0)
                if not metrics["equal_to_count_py"]:
                    raise ValueError("the counts of Spark are not those of count.py")
    except PySparkException as error:
        raise OSError(f"Spark: {str(error).splitlines()[0]}") from None
    finally:
        spark.stop()
    print(", ".join(f"{key} {value}" for key, value in metrics.items()) + f"; pairs in {target}")
    return save_results(args, "count_spark", metrics, [], [], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
