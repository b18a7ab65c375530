#!/usr/bin/env python3
"""Golden tests: what a pass makes of a small graph, one file a test, input and expected output side by side.

    run.py DETENT_OPT [FILE.dtir ...]      all of this directory by default; exits 1 when one differs
    run.py --update DETENT_OPT [FILE ...]  writes what comes out into the files: read the diff before you commit it

A file says what it shows, then how to run it, then the graph; comments are part of the text form, so it can be given
to detent-opt by hand. The words behind RUN are those of a command, without a shell; 2>&1 adds what it says to stderr.

    // RUN: detent-opt %s --passes=fuse
    graph @g { ... }
    // OUT
    //   the output, to the letter

A long output is checked in parts instead. Spaces count as one, {{...}} is a regular expression:

    // CHECK: text         in a line after that of the CHECK before
    // CHECK-NEXT: text    in the very next line
    // CHECK-NOT: text     in no line between the CHECKs around it
"""
import argparse
import difflib
import pathlib
import re
import shlex
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DIRECTIVE = re.compile(r"// (RUN|CHECK|CHECK-NEXT|CHECK-NOT): *(.*)")
OUT = "// OUT"


class Golden:
    def __init__(self, path):
        self.path = path
        lines = path.read_text().splitlines()
        cut = lines.index(OUT) if OUT in lines else len(lines)
        self.source = lines[:cut]
        self.expected = [line[3:] for line in lines[cut + 1 :]] if cut < len(lines) else None
        found = [m.groups() for m in map(DIRECTIVE.fullmatch, self.source) if m]
        self.runs = [text for kind, text in found if kind == "RUN"]
        self.checks = [(kind, text) for kind, text in found if kind != "RUN"]

    def run(self, detent_opt):
        """Lines of the output; None: the command failed, with what it said."""
        words = shlex.split(self.runs[0])
        both = "2>&1" in words
        argv = [{"detent-opt": detent_opt, "%s": self.path.name}.get(w, w) for w in words if w != "2>&1"]
        ran = subprocess.run(argv, cwd=self.path.parent, stdout=subprocess.PIPE, text=True, timeout=60,
                             stderr=subprocess.STDOUT if both else subprocess.PIPE)
        if ran.returncode != 0:
            return None, f"exit status {ran.returncode}\n{ran.stdout}{ran.stderr or ''}"
        return ran.stdout.splitlines(), ""

    def fault(self, out):
        """"" or how the output differs from what is expected."""
        if self.expected is not None:
            return "\n".join(difflib.unified_diff(self.expected, out, "expected", "found", lineterm=""))
        return check(self.checks, out)

    def update(self, out):
        self.path.write_text("\n".join(self.source + [OUT] + [f"// {line}".rstrip() for line in out]) + "\n")


def pattern(text):
    parts = re.split(r"\{\{(.*?)\}\}", " ".join(text.split()))
    return re.compile("".join(part if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def check(checks, out):
    lines = [" ".join(line.split()) for line in out]
    at, barred = 0, []
    for kind, text in checks + [("END", "")]:
        if kind == "CHECK-NOT":
            barred.append(text)
            continue
        if kind == "END":
            hit = len(lines)
        elif kind == "CHECK-NEXT":
            hit = at if at < len(lines) and pattern(text).search(lines[at]) else None
        else:
            hit = next((i for i in range(at, len(lines)) if pattern(text).search(lines[i])), None)
        if hit is None:
            where = f"line {at + 1}" if kind == "CHECK-NEXT" else f"the lines from {at + 1} on"
            return f"{kind}: {text}\nis not in {where} of\n" + "\n".join(out)
        for bad in barred:
            if any(pattern(bad).search(line) for line in lines[at:hit]):
                return f"CHECK-NOT: {bad}\nis in lines {at + 1} to {hit} of\n" + "\n".join(out)
        at, barred = hit + 1, []
    return ""


def judge(golden, detent_opt, update):
    """"" or what is wrong."""
    if len(golden.runs) != 1:
        return f"expected one RUN, found {len(golden.runs)}"
    if bool(golden.checks) == (golden.expected is not None):
        return "expected either CHECK lines or an OUT part" + (", found both" if golden.checks else ", found none")
    out, said = golden.run(detent_opt)
    if out is None:
        return said
    if update and golden.expected is not None:
        golden.update(out)
        return ""
    return golden.fault(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("detent_opt", type=pathlib.Path)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    paths = args.files or sorted(HERE.glob("*.dtir"))
    bad = 0
    for path in paths:
        fault = judge(Golden(path.resolve()), str(args.detent_opt.resolve()), args.update)
        if fault:
            bad += 1
            print(f"{path.name}: {fault}\n")
    print(f"{len(paths)} golden tests, {bad} failed")
    return 1 if bad or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
