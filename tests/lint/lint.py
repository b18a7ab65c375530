#!/usr/bin/env python3
"""Rules of the source tree that no compiler checks. Prints "file:line: what is wrong" and exits 1 if anything is.

    lint.py ROOT [--cc CC [-IDIR ...] [--without DIR ...]]

- who may include whom: a directory includes only what RULES lets it; a library's headers only where LIBRARIES says;
- a library that is loaded at run time is asked for its functions by name only where SYMBOLS says;
- headers compile alone (with --cc), but for those of directories whose library was configured away (--without);
- files of code have at most 700 lines, unless their first lines say that they are generated;
- no notes to ourselves are left in the text.
Tested by lint_test.py on trees that break each rule.
"""
import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

MAX_LINES = 700
# What a directory may include, beside itself and base: directories, or single headers.
RULES = {
    "base": [],
    "ir": [],
    "frontend": ["ir"],
    "passes": ["ir"],
    "codegen": ["ir", "runtime/program.h"],
    "runtime": [],
    "models": ["frontend/detent.h"],
    "cli": ["frontend", "ir", "passes", "codegen", "runtime", "models"],
}
ALONE = {"models"}  # not even base, nor each other
# Headers of a library -> the one directory that includes them; None: nobody, its types are declared anew.
LIBRARIES = {r"llvm-c/|llvm/": "codegen/llvm", r"dnnl|oneapi/": "runtime/onednn",
             r"turbojpeg\.h|png\.h|matio\.h": "runtime/pictures",
             r"(cuda\w*|nvrtc\w*|nvml|cudnn\w*)\.h$": None}
# Names of functions in strings -> the one directory that has them (tests may, too).
SYMBOLS = {re.compile(r'"nvrtc[A-Z]\w*"'): "codegen/nvrtc", re.compile(r'"cudnn[A-Z]\w*"'): "runtime/cudnn"}
CODE = (".c", ".h", ".def", ".cu", ".py", ".sh", ".cmake")
FORBIDDEN = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


def list_files(root):
    """What git tracks or would track; without git (a source archive), all but what is built."""
    try:
        out = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                             capture_output=True, check=True).stdout.decode()
        names = set(filter(None, out.split("\0")))
        if names:
            return sorted(n for n in names if os.path.isfile(os.path.join(root, n)))
    except (OSError, subprocess.CalledProcessError):
        pass
    names = []
    for at, dirs, files in os.walk(root):
        top = at == root
        dirs[:] = [d for d in dirs if d != ".git" and not (top and (d.startswith("build") or d in ("runs", "gpu-pack")))]
        names += [os.path.relpath(os.path.join(at, f), root) for f in files]
    return sorted(names)


def read_text(root, name):
    """None: not text."""
    with open(os.path.join(root, name), "rb") as file:
        data = file.read()
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def may_include(name, header):
    """Whether the file `name` may include "header", a path from the root."""
    module = name.split("/")[0]
    if module not in RULES:
        return True  # tests, bench: everything
    allowed = RULES[module] + ([] if module in ALONE else [module, "base"])
    return any(header == a or header.startswith(a + "/") for a in allowed)


def check_include(root, name, quote, header):
    """None, or what is wrong."""
    for pattern, home in LIBRARIES.items():
        if re.match(pattern, header) and not os.path.exists(os.path.join(root, header)):
            if home is None:
                return f"includes {header}: nobody may, so that nobody needs the library to build"
            if name.startswith(home + "/") or name.split("/")[0] not in RULES:
                return None
            return f"includes {header}: only {home}/ may"
    if quote == "<":
        return None
    if not os.path.exists(os.path.join(root, header)):
        return f'includes "{header}": expected a path from the root of the tree'
    if not may_include(name, header):
        module = name.split("/")[0]
        known = RULES[module] + ([] if module in ALONE else ["itself", "base"])
        return f'includes "{header}": {module}/ may include {", ".join(known)}'
    return None


def check_symbols(name, line):
    """None, or what is wrong."""
    for pattern, home in SYMBOLS.items():
        found = pattern.search(line)
        if found and not name.startswith(home + "/") and name.split("/")[0] in RULES:
            return f"names {found.group(0)}: only {home}/ may"
    return None


def check_text(root, name, text):
    problems = []
    lines = text.split("\n")
    is_c = name.endswith((".c", ".h", ".def"))
    for number, line in enumerate(lines, 1):
        found = FORBIDDEN.search(line)
        if found:
            problems.append(f"{name}:{number}: {found.group(0)}: do it now, or open an issue and leave no trace here")
        include = INCLUDE.match(line) if is_c else None
        problem = check_include(root, name, include.group(1), include.group(2)) if include else is_c and check_symbols(name, line)
        if problem:
            problems.append(f"{name}:{number}: {problem}")
    count = len(lines) - (lines[-1] == "")
    generated = re.search(r"generated (by|from)", "\n".join(lines[:5]), re.IGNORECASE)
    if name.endswith(CODE) and count > MAX_LINES and not generated:
        problems.append(f"{name}:{count}: {count} lines: expected at most {MAX_LINES}; split it by purpose")
    return problems


def check_header(root, name, cc, flags):
    """Compiles a file that includes the header alone, twice."""
    source = f'#include "{name}"\n#include "{name}"\n'
    run = subprocess.run([cc, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unknown-pragmas", "-D_GNU_SOURCE",
                          '-DDT_SOURCE_DIR=""', '-DDT_BINARY_DIR=""', "-I" + root, *flags, "-fsyntax-only",
                          "-x", "c", "-"], input=source, capture_output=True, text=True, cwd=root)
    first = "\n".join(run.stderr.split("\n")[:8])
    return [] if run.returncode == 0 else [f"{name}:1: does not compile alone:\n{first}"]


def lint(root, cc=None, flags=(), without=()):
    root = os.path.abspath(root)
    names = list_files(root)
    problems = []
    for name in names:
        text = read_text(root, name)
        if text is not None:
            problems += check_text(root, name, text)
    if cc:
        headers = [n for n in names if n.endswith(".h") and not n.startswith(tuple(d + "/" for d in without))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for found in pool.map(lambda n: check_header(root, n, cc, flags), headers):
                problems += found
    return problems, len(names)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("--cc")
    parser.add_argument("-I", dest="include", action="append", default=[])
    parser.add_argument("--without", action="append", default=[])
    args = parser.parse_args()
    problems, count = lint(args.root, args.cc, ["-I" + d for d in args.include], args.without)
    for problem in problems:
        print(problem)
    print(f"lint: {count} files, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
