"""What a wheel or an sdist of ours has to hold, and what it must not: read from the files alone.

python tools/contents.py FILE...
"""

from __future__ import annotations

import email
import email.message
import hashlib
import re
import sys
import tarfile
import zipfile
from collections.abc import Container
from pathlib import Path, PurePosixPath

NATIVE = {"simpler_ipc", "simpler_runtime"}
"""Distributions with one compiled module; the others have none."""

COMPILED = re.compile(r"\.(so|pyd|dylib)(\.|$)")
MADE = re.compile(r"^[^/]+/PKG-INFO$|^[^/]+\.dist-info/|\.(so|pyd|dylib)(\.|$)|^simpler_ipc-[^/]+/pyproject\.toml$")
"""What backends add to what is committed: metadata, modules; maturin moves pyproject.toml and its paths."""
RELATIVE_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s]+)\)")
IN_FULL = ("Author", "Classifier", "Keywords", "License-Expression", "License-File", "Requires-Python", "Summary")


def read(path: Path) -> tuple[list[str], email.message.Message]:
    """The names of a distribution's files, and its metadata."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            metadata = next(name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            text = wheel.read(metadata).decode()
    else:
        with tarfile.open(path) as sdist:
            members = [member for member in sdist.getmembers() if not member.isdir()]
            names = [member.name for member in members]
            (info,) = (member for member in members if re.fullmatch(r"[^/]+/PKG-INFO", member.name))
            stored = sdist.extractfile(info)
            text = stored.read().decode() if stored else ""
            names += [f"{member.name} -> {member.linkname}" for member in members if not member.isfile()]
    return names, email.message_from_string(text)


def files(path: Path) -> dict[str, bytes]:
    """What a distribution's files hold, by name."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    with tarfile.open(path) as sdist:
        members = {member.name: sdist.extractfile(member) for member in sdist.getmembers() if member.isfile()}
        return {name: stored.read() for name, stored in members.items() if stored is not None}


def not_of(path: Path, committed: Container[str]) -> list[str]:
    """The files of a distribution that are none of a commit, whose contents have those ids in git: what lay about in
    the working tree, ignored, say. What build backends write is not among them."""
    return [
        name
        for name, content in sorted(files(path).items())
        if not MADE.search(name) and hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() not in committed
    ]


def faults(path: Path) -> list[str]:
    """What is wrong with a wheel or an sdist; nothing, if it is as it should be."""
    names, metadata = read(path)
    found = [f"its metadata has no {field}" for field in IN_FULL if not metadata.get(field)]
    if not any(PurePosixPath(name).name == "LICENSE" for name in names):
        found.append("it has no LICENSE")
    found += [f"it holds a link: {name}" for name in names if " -> " in name]
    found += [
        f"it asks for {requirement}, which is of no use elsewhere"
        for requirement in metadata.get_all("Requires-Dist", [])
        if "@" in requirement
    ]
    readme = metadata.get_payload()
    found += [f"its README links to {link}, which leads nowhere" for link in RELATIVE_LINK.findall(str(readme))]
    if not str(readme).strip():
        found.append("it has no README")
    compiled = [name for name in names if COMPILED.search(PurePosixPath(name).name)]
    expected = 1 if path.suffix == ".whl" and path.name.split("-")[0] in NATIVE else 0
    if len(compiled) != expected:
        found.append(f"it holds {len(compiled)} compiled modules, not {expected}: {', '.join(compiled) or 'none'}")
    if path.suffix == ".whl" and "-linux_" in path.name:
        found.append("it is for the machine that it was built on: its tag is linux, not manylinux")
    return [f"{path.name}: {fault}" for fault in found]


if __name__ == "__main__":
    lines = [line for file in sys.argv[1:] for line in faults(Path(file))]
    print("\n".join(lines), end="\n" if lines else "")
    sys.exit(1 if lines else 0)
