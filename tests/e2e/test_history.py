#!/usr/bin/env python3
"""bench/history: rows of a measurement, the refusal on a busy machine, and what --show says of rows that are made up."""
import csv
import importlib.machinery
import importlib.util
import os
import subprocess
import sys

import e2e

SCRIPT = os.path.join(e2e.SOURCE, "bench", "history")
TINY = os.path.join(e2e.SOURCE, "tests", "nets", "tiny.c")


def load():
    loader = importlib.machinery.SourceFileLoader("history", SCRIPT)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("history", loader))
    loader.exec_module(module)
    return module


HISTORY = load()


class History(e2e.Case):
    def history(self, *args, code=0):
        done = subprocess.run([sys.executable, SCRIPT, "--csv", self.path("h.csv"), "--detent", e2e.DETENT, *args], cwd=self.dir,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout

    def rows(self):
        with open(self.path("h.csv"), newline="") as f:
            return list(csv.DictReader(f))

    def write(self, *rows):
        """Rows of one variant: (commit, ratio, busy), on a machine that nobody has."""
        with open(self.path("h.csv"), "w", newline="") as f:
            w = csv.DictWriter(f, HISTORY.COLUMNS)
            w.writeheader()
            for commit, ratio, busy in rows:
                w.writerow({"date": "2026-01-01", "commit": commit, "model": "Z80", "cores": 1, "isa": "", "threads": 1, "load": 0,
                            "busy": busy, "net": "mnist", "batch": 64, "mode": "training", "variant": "lsq w4a4", "ratio": ratio,
                            "saved_bytes": 2500000, "memory_bytes": 1})

    def test_measured(self):
        said = self.history("--net", TINY, "--rounds", "3", "--busy")
        self.assertIn("8 rows of ", said)
        rows = self.rows()
        self.assertEqual([(r["mode"], r["variant"]) for r in rows],
                         [(m, v) for m in ("training", "evaluation") for v in ("float", "lsq w8a8", "lsq w4a4", "lsq w2a2")])
        for r in rows:
            self.assertEqual((r["net"], r["batch"]), ("tiny", "32"))
            self.assertGreater(float(r["ratio"]), 0)
            self.assertEqual(int(r["saved_bytes"]) > 0, r["mode"] == "training")
            self.assertGreater(int(r["cores"]), 0)
        self.assertEqual({r["ratio"] for r in rows if r["variant"] == "float"}, {"1.0000"})
        self.history("--net", TINY, "--rounds", "3", "--busy")
        self.assertEqual(len(self.rows()), 16)
        self.assertIn("tiny evaluation lsq w2a2", self.history("--show", "--net", "tiny"))

    def test_busy(self):
        """Load average, cores: above half of them it must be wanted."""
        idle, wanted = HISTORY.parse_args([]), HISTORY.parse_args(["--busy"])
        self.assertFalse(HISTORY.check_load(idle, 2.0, 4))
        self.assertFalse(HISTORY.check_load(wanted, 0.5, 4))
        self.assertTrue(HISTORY.check_load(wanted, 2.1, 4))
        with self.assertRaisesRegex(HISTORY.Failure, "the load is 2.10, above half of 4 cores"):
            HISTORY.check_load(idle, 2.1, 4)

    def test_shown(self):
        self.write(("aaaaaaa", "1.0", "no"), ("bbbbbbb", "0.2", "yes"), ("ccccccc", "0.8", "no"))
        said = self.history("--show")
        self.assertIn("Z80, 1 cores", said)
        self.assertRegex(said, r"mnist training lsq w4a4 +1\.000 +0\.200\* +0\.800 +-20\.0 %  better +2\.5\n")
        self.assertIn("*: measured while", said)
        self.assertNotIn("aaaaaaa", self.history("--show", "--last", "2"))
        self.write(("aaaaaaa", "0.8", "no"), ("bbbbbbb", "0.81", "no"), ("ccccccc", "0.9", "no"))
        self.assertIn("+12.5 %  worse", self.history("--show"))
        self.assertRegex(self.history("--show", "--last", "3"), "0.800 +0.810 +0.900")

    def test_mistakes(self):
        self.assertIn("without --show makes it", self.history("--show", code=1))
        self.write(("aaaaaaa", "fast", "no"))
        self.assertIn("h.csv:2: expected a ratio and saved bytes, found 'fast'", self.history("--show", code=1))
        with open(self.path("h.csv"), "w") as f:
            f.write("a,b\n1,2\n")
        self.assertIn("expected the columns date,commit", self.history("--show", code=1))
        self.assertIn("expected the columns", self.history("--net", TINY, "--rounds", "3", "--busy", code=1))
        self.write(("aaaaaaa", "1.0", "no"))
        self.assertIn("no rows of vgg", self.history("--show", "--net", "vgg", code=1))
        self.assertIn("no-such-net", self.history("--net", "no-such-net", "--busy", code=1))


if __name__ == "__main__":
    e2e.main()
