"""How often do two words meet, in a corpus larger than one machine? The counts, on Apache Spark.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Needs:   pyspark (requirements-spark.txt, and Java 17)
Run:     python simpler_glove/experiments/count_spark.py   (and a check against counting.py)
         spark-submit simpler_glove/experiments/count_spark.py hdfs:///corpus/*.gz --master yarn
Symbols: x_ij → n   key → i·2³² + j with i > j, ranks in the vocabulary

Each task counts its own lines in numpy, Spark adds the partial counts up: one shuffle of at most
one row per pair and batch of lines. The vocabulary is broadcast, so it must fit into memory; the
pairs need not. It pays on corpora of 10⁹ tokens and more.
Differs from the article: his counting program runs on one machine.
"""

import itertools
import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import default_documents
from counting import MIN_COUNT, build_vocabulary, count_pairs


def flags(parser):
    names = "text that Spark can read, a document a line; none: People's Daily, with a check"
    parser.add_argument("corpus", nargs="*", help=names)
    parser.add_argument("--master", default="local[2]", help="local[N], yarn, spark://…")
    least = "least occurrences of a word"
    parser.add_argument("--min-count", type=cli.between(1, 10**9), default=MIN_COUNT, help=least)
    window = cli.between(1, 10**4)
    parser.add_argument("--window", type=window, default=10, help="words on each side")
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- method
def count_words(lines, min_count: int) -> tuple[list, list]:
    """(words, counts) of a DataFrame of lines, in the order of build_vocabulary."""
    from pyspark.sql import functions

    words = lines.select(
        functions.explode(functions.split(functions.trim("value"), r"\s+")).alias("word")
    ).where("word != ''")
    rows = words.groupBy("word").count().where(functions.col("count") >= min_count).collect()
    rows.sort(key=lambda row: (-row["count"], row["word"]))
    if not rows:
        raise ValueError(f"no word occurs {min_count} times; lower --min-count")
    return [row["word"] for row in rows], [row["count"] for row in rows]


def partial_counts(lines, rank: dict, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs within `window` kept words of each other in the same line → (keys, how often)."""
    documents = [[rank[word] for word in line.split() if word in rank] for line in lines]
    ids = np.fromiter(itertools.chain.from_iterable(documents), np.int64)
    line = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    keys = [np.empty(0, np.int64)]
    for distance in range(1, min(window, len(ids) - 1) + 1):
        left, right = ids[:-distance], ids[distance:]
        together = (line[:-distance] == line[distance:]) & (
            left != right
        )  # self-pairs are left out
        keys.append((np.maximum(left, right)[together] << 32) + np.minimum(left, right)[together])
    return np.unique(np.concatenate(keys), return_counts=True)


def count_on_spark(spark, paths: list, min_count: int = MIN_COUNT, window: int = 10):
    """Paths of text (a document a line) → (words, counts, DataFrame of key and n, a pair a row)."""
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
    """DataFrame of key and n → (size, size) lower triangle as count_pairs gives it."""
    table = pairs.toArrow()
    keys = table["key"].to_numpy(zero_copy_only=False)
    n = table["n"].to_numpy(zero_copy_only=False)
    matrix = csr_matrix((n.astype(np.int32), (keys >> 32, keys & 0xFFFFFFFF)), shape=(size, size))
    matrix.sort_indices()
    return matrix


# ---------------------------------------------------------------- Spark
def start_spark(master: str):
    """A session; on a terminal Spark shows its bar, elsewhere it says nothing but its errors."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # the tasks need numpy too
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.sql.execution.arrow.maxRecordsPerBatch": 2000,
    }
    spoken = os.dup(2)
    if not sys.stderr.isatty():  # Java inherits it, and speaks before it can be told not to
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master(master).appName("simpler_glove")
        for name, value in settings.items():
            builder = builder.config(name, value)
        spark = builder.getOrCreate()
    finally:
        os.dup2(spoken, 2)
        os.close(spoken)
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def count_and_check(spark, args, scratch: Path) -> dict:
    """Write pairs.parquet to --out-dir; without a corpus the counts are held against ours."""
    paths = args.corpus
    documents = None
    if not paths:
        documents = default_documents(args.data_dir, args.quick)
        paths = [str(scratch / "corpus.txt")]
        Path(paths[0]).write_text("\n".join(map(" ".join, documents)), encoding="utf-8")
    words, counts, pairs = count_on_spark(spark, paths, args.min_count, args.window)
    target = str(args.out_dir / "pairs.parquet")
    pairs.write.mode("overwrite").parquet(target)
    written = spark.read.parquet(target)
    metrics = {"vocabulary": len(words), "tokens": sum(counts), "pairs": written.count()}
    if documents:
        ours, our_counts, ids, ends = build_vocabulary(documents, args.min_count)
        alone = count_pairs(ids, ends, len(ours), args.window)
        matrix = to_matrix(written, len(words))
        same_words = list(ours) == words and list(our_counts) == counts
        same_pairs = matrix.nnz == alone.nnz and (matrix != alone).nnz == 0
        metrics["equal_to_count_py"] = same_words and same_pairs
        if not metrics["equal_to_count_py"]:
            raise ValueError("the counts of Spark are not those of counting.py")
    return metrics


def main(args):
    warnings.filterwarnings("ignore", module="pyspark")  # of the versions of pandas
    try:
        from pyspark.errors import PySparkException
    except ImportError:
        install = "python -m pip install -r requirements-spark.txt"
        raise OSError(f"pyspark is not installed: {install}") from None
    spark = start_spark(args.master)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            metrics = count_and_check(spark, args, Path(scratch))
    except PySparkException as error:
        raise OSError(f"Spark: {str(error).splitlines()[0]}") from None
    finally:
        spark.stop()
    print(", ".join(f"{key} {value}" for key, value in metrics.items()))
    return metrics, [], {}


if __name__ == "__main__":
    cli.run(main, flags)
