#!/usr/bin/env python3
"""Proves that src/ depends downwards only.

usage: check_layers.py SRC LAYERS

LAYERS holds one line per folder, lowest first: `name: allowed allowed`. A folder may include itself and
what its line allows; a line may only allow folders defined above it, so the list itself cannot hold a cycle.
"""
import pathlib
import re
import sys

INCLUDE = re.compile(r'\s*#\s*include\s+"([^"/]+)/')


def read_layers(path):
    allowed = {}
    for line in path.read_text().splitlines():
        name, deps = line.split(":")
        deps = deps.split()
        unknown = [d for d in deps if d not in allowed]
        if unknown:
            sys.exit(f"{name}: allows {unknown}, which no line above defines (cycle or typo)")
        allowed[name] = {name, *deps}
    return allowed


def main():
    src, layers = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    allowed, problems = read_layers(layers), []
    for file in sorted(p for p in src.rglob("*") if p.suffix in {".h", ".cc", ".cu", ".cuh"}):
        own = file.relative_to(src).parts[0]
        if own not in allowed:
            problems.append(f"{file}: folder {own} is not in {layers}")
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            if match and match.group(1) in allowed and match.group(1) not in allowed[own]:
                problems.append(f"{file}:{number}: {own} may not include {match.group(1)}")
    print("\n".join(problems) or "layers: ok")
    sys.exit(bool(problems))


main()
