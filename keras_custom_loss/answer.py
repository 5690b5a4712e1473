"""Answer a question about insurance, in Chinese or English, from 27,413 answers.

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493 (the use of its second loss)
Run:     python keras_custom_loss/answer.py "租房保险包括什么?"
         python keras_custom_loss/answer.py "Does renters insurance cover theft?"
The network of experiments/triplet.py ("hard + terms") answers, with the weights of its last run or
of this tool's; where there are none in --out-dir, it is trained first.
"""

import os
import re
import zipfile
from pathlib import Path

import numpy as np

import cli
from keras_tools import load_keras
from real_data import QUICK_SLICES, load_corpus

QUESTION = "租房保险包括什么?"


def flags(parser):
    parser.add_argument("question", nargs="?", default=QUESTION, help="in Chinese or English")
    parser.add_argument("--answers", type=cli.between(1, 100), default=3, help="how many to show")
    parser.add_argument("--epochs", type=cli.between(1, 1000), default=5, help="if it must train")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


def language_of(question: str) -> str:
    """zh where there is a Chinese character, en where there is a letter; else ValueError."""
    if re.search(r"[\u3400-\u9fff]", question):
        return "zh"
    if re.search(r"[A-Za-z]", question):
        return "en"
    raise ValueError(f"the question {question!r} has neither a Chinese character nor a letter")


def weights_path(out_dir: Path, language: str, quick: bool) -> Path:
    """Where the weights of the network lie that experiments/triplet.py and this tool train."""
    return out_dir / f"answer_{language}{'_quick' * quick}.npz"


def restore(search, path) -> None:
    """Give the search the weights at `path`; ValueError where they are not those of such a run."""
    try:
        with np.load(path) as file:
            search.restore(dict(file))
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no weights for this ({error}); delete it") from None
    print(f"weights: {path}")


def train(search, path, epochs: int, seed: int) -> None:
    """Train the search and put its weights at `path` in one move."""

    def say(_, history):
        if history:
            print(f"training, since there is no {path.name}: loss {history['loss'][0]:.4f}")

    search.train(0.1, epochs, 256, seed, say)
    save(search, path)


def save(search, path) -> None:
    """In one move, so that an interrupted run leaves the weights of the last."""
    partial = path.with_suffix(".part.npz")
    np.savez(partial, **search.state())
    os.replace(partial, path)


def restore_or_train(search, args, language: str) -> None:
    """The weights in --out-dir, else new ones, which are left there."""
    path = weights_path(args.out_dir, language, args.quick)
    if path.is_file():
        restore(search, path)
    else:
        train(search, path, 1 if args.quick else args.epochs, args.seed)


def main(args):
    language = language_of(args.question)
    splits, answers = load_corpus(language, args.data_dir, QUICK_SLICES if args.quick else None)
    load_keras()
    from answer_search import AnswerSearch, find_answers

    search = AnswerSearch(splits, answers, language)
    known = search.vocabulary.known_part(args.question)
    if not known:
        raise ValueError(f"no word of the question {args.question!r} is in the vocabulary")
    if known < 0.5:
        print(f"only {known:.0%} of the question's words are known: the answers may miss it")
    restore_or_train(search, args, language)
    code = search.blend(search.question_codes([args.question]))[0]
    found = find_answers(code, search.blend(search.kept_codes()), answers, args.answers)
    print(f"? {args.question}")
    for cosine, text in found:
        print(f"{cosine:.3f}  {text[:150]}")
    cosines = [cosine for cosine, _ in found]
    return {"language": language, "known_part": known, "cosines": cosines}, [], {}


if __name__ == "__main__":
    cli.run(main, flags)
