"""simpler_glove reads a dump of Wikipedia: the words of its articles, whole, after any fault.

The dumps are made here in the form of MediaWiki's export 0.11; one real piece comes with gensim.
"""

import bz2
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

import corpus as corpora
import wikipedia
from conftest import ROOT, run_script
from corpus import read_documents, read_english
from wikipedia import read_blocks, remove_tables, segment_pages, strip_markup

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://www.mediawiki.org/xml/export-0.11/ \
http://www.mediawiki.org/xml/export-0.11.xsd" version="0.11" xml:lang="{language}">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>{language}wiki</dbname>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Talk</namespace>
    </namespaces>
  </siteinfo>
"""
CHINESE = """{{Infobox 學科|名稱=模板裡的字|圖={{small|巢狀}}
|}}
[[檔案:a.jpg|thumb|長城的照片]]
'''數學'''（{{lang-en|mathematics}}）是研究[[數量]]、[[結構 (數學)|結構]]\
以及[[空間]]等概念的一門[[學科]]<ref name="a">{{cite book|title=註腳}}</ref>。
{| class="wikitable"
! 表頭 !! 表頭
|-
| 表格 || {{n|1}}
|}
== 歷史 ==
* -{zh-hans:计算机;zh-hant:電腦}-和-{H|zh-cn:隐藏;zh-tw:隱藏}-\
[https://example.org 電腦]&nbsp;<math>x^2</math>
<!-- 註解 -->數學是研究數量、結構以及空間等概念的一門學科。
數學是研究數量、結構以及空間等概念的一門學科。
數學是研究數量、結構以及空間等概念的一門學科。
{{reflist}}
[[Category:數學|*]]
[[分類:科學]]
__NOTOC__
"""
SENTENCE = "数学 是 研究 数量 、 结构 以及 空间 等 概念 的 一门 学科 。"
WORDS = f"长城 的 照片 {SENTENCE} 历史 计算机 和 电脑 {SENTENCE} {SENTENCE} {SENTENCE}".split()
ENGLISH = "'''Mathematics''' is the [[science|study]] of Numbers.{{cn}} " * 12
ENGLISH_WORDS = ["mathematics", "is", "the", "study", "of", "numbers"] * 12


def page(title, markup, namespace=0, redirect=""):
    goal = f'    <redirect title="{redirect}" />\n' if redirect else ""
    return f"""  <page>
    <title>{title}</title>
    <ns>{namespace}</ns>
    <id>7</id>
{goal}    <revision>
      <id>8</id>
      <timestamp>2026-11-01T00:00:00Z</timestamp>
      <contributor>
        <username>A</username>
        <id>9</id>
      </contributor>
      <model>wikitext</model>
      <format>text/x-wiki</format>
      <text bytes="{len(markup.encode())}" xml:space="preserve">{escape(markup)}</text>
    </revision>
  </page>
"""


def dump(pages, language="zh") -> bytes:
    return (HEAD.format(language=language) + "".join(pages) + "</mediawiki>\n").encode()


def numbered(count=24):
    """Articles that differ: the n-th ends in n."""
    return [page(f"條目{n}", f"{CHINESE}\n第{n}個") for n in range(count)]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(wikipedia, "BLOCK", 5000)


def words_of(path, folder):
    return list(read_documents([path], data_dir=folder))


def only_text(folder) -> Path:
    """The file of text, which is the only file in the folder beside dumps."""
    (text,) = (path for path in folder.iterdir() if ".xml" not in path.name)
    assert text.suffix == ".txt"
    return text


# ---------------------------------------------------------------- words
def test_a_chinese_dump_gives_the_simplified_words_of_its_articles(tmp_path):
    pages = [
        page("數學", CHINESE),
        page("Talk:數學", CHINESE, namespace=1),
        page("Template:數學", CHINESE, namespace=10),
        page("算學", CHINESE, redirect="數學"),
        page("空", ""),
        page("小作品", "數學是一門學科。"),
        page("數學二", CHINESE.replace("照片", "電腦")),
    ]
    (tmp_path / "zh.xml.bz2").write_bytes(bz2.compress(dump(pages)))
    second = ["长城", "的", "电脑", *WORDS[3:]]
    assert words_of(tmp_path / "zh.xml.bz2", tmp_path) == [WORDS, second]
    written = f"{' '.join(WORDS)}\n{' '.join(second)}\n"
    assert only_text(tmp_path).read_text(encoding="utf-8") == written
    assert words_of(tmp_path / "zh.xml.bz2", tmp_path) == [WORDS, second]  # now from the text


def test_an_english_dump_gives_words_in_lower_case(tmp_path):
    pages = [page("Mathematics", ENGLISH), page("Stub", "Too short."), page("Maths", ENGLISH)]
    (tmp_path / "en.xml").write_bytes(dump(pages, "en"))
    assert words_of(tmp_path / "en.xml", tmp_path) == [ENGLISH_WORDS] * 2


@pytest.mark.parametrize("words, kept", [(49, 0), (50, 1)])
def test_stubs_end_at_fifty_words(words, kept):
    found = segment_pages(page("A", "word " * words).encode(), "en", read_english)
    assert found.decode() == kept * (" ".join(["word"] * words) + "\n")


@pytest.mark.parametrize(
    "markup, text",
    [
        ("-{zh-hans:计算机;zh-hant:電腦}-", "计算机"),
        ("-{zh-tw:電腦; zh-cn:计算机 ;}-", "计算机"),
        ("-{A|zh-tw:軟體;zh-cn:软件}-", "软件"),
        ("-{zh-hk:的士;zh-tw:計程車}-", "的士"),
        ("-{乾}-隆", "乾隆"),
        ("-{zh-hant|資訊}-", "資訊"),
        ("-{H|zh-cn:甲;zh-tw:乙}-丙", "丙"),
        ("-{T|zh-cn:甲;zh-tw:乙}-丙", "丙"),
        ("-{-|zh-cn:甲}-丙", "丙"),
        ("-{[[甲|乙]]}-", "乙"),
        ("[[Image:a.png|thumb|甲]]乙", "甲乙"),
        ("甲[[category:乙]]", "甲"),
        ("=== 甲 ===\n#乙\n:;丙", " 甲 \n乙\n丙"),
        ("甲（{{lang|en|b}}，）乙", "甲乙"),
        ("a<ref>b</ref>c<ref name=d />e", "ace"),
    ],
)
def test_what_is_left_of_markup(markup, text):
    assert strip_markup(markup) == text


def test_tables_go_with_those_inside_and_the_rest_stays():
    assert remove_tables("a\n:{| b\n| c\n{|\n| d\n|}\n| e\n|}\nf\n|g") == "a\nf\n|g"
    assert remove_tables("a {| b\n|} c") == "a {| b\n|} c"
    assert strip_markup("{{a\n{|\n|}}}甲") == "甲"


def test_a_real_piece_of_wikipedia_holds_the_articles_that_gensim_finds():
    import gensim
    from gensim.corpora.wikicorpus import WikiCorpus

    folder = Path(gensim.__file__).parent / "test" / "test_data"
    path = folder / "enwiki-table-markup.xml.bz2"
    theirs = list(WikiCorpus(str(path), processes=1, dictionary={}).get_texts())
    with bz2.open(path) as stream:
        (pages,) = read_blocks(stream, 10**9)
    ours = segment_pages(pages, "en", read_english).decode().splitlines()
    assert len(ours) == len(theirs) > 0
    for line, words in zip(ours, theirs, strict=True):
        assert len(set(line.split()) & set(words)) > 0.9 * len(set(line.split()))


# ---------------------------------------------------------------- faults
READ = """
import os, sys
sys.path[:0] = {path!r}
import wikipedia
from corpus import read_documents

def main():
    wikipedia.BLOCK = 5000
    for number, words in enumerate(read_documents([{dump!r}], data_dir={folder!r})):
        {each}

if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {{error}}")
"""


def read_elsewhere(dump_path, folder, each="pass", **options) -> subprocess.CompletedProcess:
    """Read a dump in a process of its own; `each` is done after each article."""
    path = [str(ROOT / "simpler_glove"), str(ROOT)]
    code = READ.format(path=path, dump=str(dump_path), folder=str(folder), each=each)
    script = folder / "read.py"
    folder.mkdir(exist_ok=True)
    script.write_text(code, encoding="utf-8")
    command = [sys.executable, str(script)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=200, **options)
    finally:
        script.unlink()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(a dump of several blocks, the bytes of the text that an uninterrupted run makes of it)."""
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "zhwiki-20261101-pages-articles.xml.bz2"
    path.write_bytes(bz2.compress(dump(numbered())))
    assert read_elsewhere(path, folder / "data").returncode == 0
    return path, only_text(folder / "data").read_bytes()


def test_blocks_of_any_size_give_the_same_text(whole, tmp_path):
    path, expected = whole
    found = words_of(path, tmp_path)  # one block
    assert only_text(tmp_path).read_bytes() == expected
    assert [" ".join(words) for words in found] == expected.decode().splitlines()
    assert len(found) == 24 and [words[-2] for words in found] == [str(n) for n in range(24)]


def test_each_page_comes_in_one_block_once(tmp_path):
    data = dump(numbered(9))
    for size in (100, 1000, 3001, 10**6):
        blocks = list(read_blocks(io.BytesIO(data), size))
        assert b"".join(blocks).count(b"<page>") == 9
        assert all(block.startswith(b"<page>") for block in blocks if block)
        assert all(block.endswith(b"</page>") for block in blocks if block)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("left", ["half a block more", "blocks that do not count"])
def test_killed_in_the_middle_and_run_again_gives_the_same_bytes(whole, tmp_path, left):
    path, expected = whole
    killed = read_elsewhere(path, tmp_path, "number == 9 and os.kill(os.getpid(), 9)")
    assert killed.returncode == -signal.SIGKILL  # and its workers ended, or this would not return
    (partial,) = tmp_path.glob("*.part")
    (journal,) = tmp_path.glob("*.json")
    done = json.loads(journal.read_text())
    assert partial.read_bytes() == expected[: done["bytes"]]
    assert 9 <= partial.read_bytes().count(b"\n") < 24
    if left == "half a block more":
        partial.write_bytes(expected[: done["bytes"] + 100])
    if left == "blocks that do not count":
        partial.write_bytes(expected)
    again = read_elsewhere(path, tmp_path, "print(number, *words)")
    assert only_text(tmp_path).read_bytes() == expected
    stated, resumed, *lines = again.stdout.splitlines()
    assert "If interrupted, it resumes" in stated and resumed.startswith("resumed after")
    assert lines == [f"{n} {line}" for n, line in enumerate(expected.decode().splitlines())]


def test_what_is_done_is_not_done_again(whole, tmp_path, small_blocks, monkeypatch):
    path, expected = whole
    for _ in zip(range(9), read_documents([path], data_dir=tmp_path), strict=False):
        pass
    (journal,) = tmp_path.glob("*.json")
    done = json.loads(journal.read_text())
    skipped = []
    blocks = wikipedia.segment_blocks

    def watched(path, language, split, skip):
        skipped.append(skip)
        return blocks(path, language, split, skip)

    monkeypatch.setattr(wikipedia, "segment_blocks", watched)
    words_of(path, tmp_path)
    assert skipped == [done["blocks"]] and done["blocks"] > 0
    assert only_text(tmp_path).read_bytes() == expected


def test_two_processes_do_not_mix_their_blocks(whole, tmp_path, small_blocks):
    path, _ = whole
    first = read_documents([path], data_dir=tmp_path)
    next(first)
    (partial,) = tmp_path.glob("*.part")
    with open(partial, "ab") as other:
        other.write(b"a block of the other\n")
    with pytest.raises(OSError, match="another process"):
        list(first)
    assert not list(tmp_path.glob("*.txt"))


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(whole, tmp_path):
    import resource

    path, expected = whole

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    full = read_elsewhere(path, tmp_path, preexec_fn=limit)
    (line,) = full.stderr.splitlines()
    assert line.startswith("error: cannot write") and "free some space" in line
    assert not list(tmp_path.glob("*.txt")) and list(tmp_path.glob("*.json"))
    assert read_elsewhere(path, tmp_path).returncode == 0
    assert only_text(tmp_path).read_bytes() == expected


@pytest.mark.parametrize("pack", [bz2.compress, bytes])
def test_a_dump_cut_short_is_one_clear_line(whole, tmp_path, pack):
    data = pack(bz2.decompress(whole[0].read_bytes()))
    cut = tmp_path / "cut.xml.bz2"
    cut.write_bytes(data[:-60])
    flags = (cut, "--data-dir", tmp_path / "data", "--out-dir", tmp_path / "out")
    finished = run_script(ROOT / "simpler_glove" / "train.py", *flags)
    (line,) = finished.stderr.splitlines()
    assert finished.returncode == 2 and "cut short or damaged" in line and str(cut) in line
    assert not list((tmp_path / "data").glob("*.txt"))


@pytest.mark.parametrize("missing", ["gensim", "opencc"])
def test_a_library_that_is_not_installed_is_named_before_the_dump_is_fetched(
    whole, tmp_path, monkeypatch, missing
):
    monkeypatch.setattr(wikipedia.importlib.util, "find_spec", lambda name: name != missing)
    monkeypatch.setattr(corpora, "fetch", None)
    for source in ("zhwiki", whole[0]):
        with pytest.raises(OSError, match="requirements-wiki.txt") as caught:
            words_of(source, tmp_path)
        assert missing in str(caught.value).lower() and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data, told",
    [
        (dump([page("A", ENGLISH)], "fr"), "in the language fr"),
        (dump([page("A", "Short.")], "en"), "no article of 50 words"),
        (dump(["<page><title>A</title></page>"], "en"), "not the XML of MediaWiki"),
        (dump(["<page><title>A</title></pag></page>"], "en"), "not the XML of MediaWiki"),
    ],
)
def test_a_dump_that_is_of_no_use_is_named(tmp_path, data, told):
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(ValueError, match=told) as caught:
        words_of(tmp_path / "a.xml", tmp_path)
    assert "a.xml" in str(caught.value) and not list(tmp_path.glob("*.txt"))


# ---------------------------------------------------------------- by path and by name
def test_text_about_dumps_is_no_dump(tmp_path):
    (tmp_path / "a.xml").write_text('see <mediawiki version="0.11" xml:lang="zh">\n')
    assert words_of(tmp_path / "a.xml", tmp_path) == [
        ["see", "<mediawiki", 'version="0.11"', 'xml:lang="zh">']
    ]


def test_train_takes_a_dump_by_path_as_it_takes_its_text(whole, tmp_path):
    path, expected = whole
    (tmp_path / "words.txt").write_bytes(expected)
    found = []
    for source in (path, tmp_path / "words.txt"):
        flags = ("--dim", 4, "--sweeps", 1, "--min-count", 1, "--out-dir", tmp_path / "out")
        script = ROOT / "simpler_glove" / "train.py"
        finished = run_script(script, source, *flags, "--data-dir", tmp_path / "data")
        assert finished.returncode == 0, finished.stderr
        results = json.loads((tmp_path / "out" / "train.json").read_text(encoding="utf-8"))
        found.append({key: results["metrics"][key] for key in ("documents", "tokens", "loss")})
    assert found[0] == found[1] and found[0]["documents"] == 24
    assert only_text(tmp_path / "data").read_bytes() == expected


def test_zhwiki_is_found_in_the_data_directory_and_its_text_without_it(
    whole, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("KEXUE_OFFLINE", "1")
    path, expected = whole
    with pytest.raises(OSError, match="zhwiki-latest-pages-articles.xml.bz2"):
        words_of("zhwiki", tmp_path)
    stated = capsys.readouterr().out
    assert (
        "a dump of 3.10GB becomes up to 8.07GB of text" in stated and "are free, in about" in stated
    )
    os.link(path, tmp_path / path.name)
    lines = [line.split() for line in expected.decode().splitlines()]
    assert words_of("zhwiki", tmp_path) == lines
    (tmp_path / path.name).unlink()
    assert words_of("zhwiki", tmp_path) == lines
    assert only_text(tmp_path).name.startswith("zhwiki-20261101-pages-articles.")
