#!/usr/bin/env python3
"""bench/step, bench/evaluation and bench/methods: that variants are what their names say, that ratios are those of their rounds,
what a table of seeds concludes, and mistakes. Only Detent's own variants run here; never is anything fast."""
import importlib.machinery
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import types

import e2e

BENCH = os.path.join(e2e.SOURCE, "bench")
NO_RIVALS = ("--only", "own-float,own-lsq,own-lsq-int", "--net", "mnist", "--batch", "4", "--rounds", "3", "--threads", "1")


def load(name):
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(BENCH, name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


class Comparisons(e2e.Case):
    def script(self, name, *args, code=0):
        done = subprocess.run([sys.executable, os.path.join(BENCH, name), *args], cwd=self.dir, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=dict(os.environ, DETENT=e2e.DETENT))
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout

    def report(self, name, *args):
        said = self.script(name, *args, "--json", "report.json")
        with open(self.path("report.json")) as f:
            return said, json.load(f)

    def check_pairs(self, report, ratio):
        of, to = (report["variants"][ratio[k]]["seconds"] for k in ("of", "to"))
        self.assertEqual(ratio["median"], statistics.median([x / y for x, y in zip(of, to)]))

    def test_step(self):
        said, report = self.report("step", *NO_RIVALS)
        self.assertEqual(list(report["variants"]), ["own-float", "own-lsq", "own-lsq-int"])
        for name, forward in (("own-float", None), ("own-lsq", "float"), ("own-lsq-int", "int")):
            v = report["variants"][name]
            self.assertEqual("--forward %s" % forward in " ".join(v["command"]), forward is not None)
            self.assertEqual(len(v["seconds"]), 3)
            self.assertIn("\n%-18s " % name, said)
        self.assertEqual([(r["of"], r["to"]) for r in report["ratios"]],
                         [("own-lsq", "own-float"), ("own-lsq-int", "own-float"), ("own-lsq-int", "own-lsq")])
        for r in report["ratios"]:
            self.check_pairs(report, r)
        self.assertIn("\nkernels of own-lsq-int, ", said)

    def test_step_limited(self):
        try:
            with open("/proc/cpuinfo") as f:
                here = " avx2 " in f.read()
        except OSError:
            here = False
        if not here:
            self.skipTest("this machine has no AVX2 to be limited to")
        said, report = self.report("step", *NO_RIVALS, "--isa", "avx2")
        self.assertIn("; all limited to avx2;", said)
        self.assertIn("vectors of 8 floats", report["variants"]["own-float"]["about"])
        self.assertIn("--isa avx2", " ".join(report["variants"]["own-lsq-int"]["command"]))

    def test_evaluation(self):
        names = ["own-float", "own-int8", "own-int4", "own-int2"]
        said, report = self.report("evaluation", "--only", ",".join(names), *NO_RIVALS[2:])
        self.assertEqual(list(report["variants"]), names)
        for name, bits in zip(names[1:], ("w8a8", "w4a4", "w2a2")):
            self.assertIn("--bits %s --forward int" % bits, " ".join(report["variants"][name]["command"]))
            self.check_pairs(report, report["to_base"][name])
        self.assertEqual(report["to_base"]["own-float"]["median"], 1)
        self.assertIn("images/s", said)

    def test_mistakes(self):
        self.assertIn("no variant 'own-lsq-auto'; there are own-float, own-lsq, own-lsq-int,", self.script("step", "--only", "own-lsq-auto", code=1))
        self.assertIn("name F with --forward", self.script("step", "--backend", "cuda", "--backward", "bf16", code=2))
        self.assertIn("--isa is for --backend cpu", self.script("step", "--backend", "sim", "--isa", "avx2", code=2))
        self.assertIn("no variant 'int4'; there are own-float,", self.script("evaluation", "--only", "int4", code=1))
        self.assertIn("no detent program in nowhere", self.script("evaluation", "--only", "own-float", "--detent", "nowhere", code=1))

    def test_seeds(self):
        """Of rows that are made up."""
        methods, table = load("methods"), "resnet20, integer forward"
        bench = methods.Bench(types.SimpleNamespace(work=self.dir))
        for conclusion, top1 in (("inside", {"float": (60, 62, 64), "int": (61, 63, 64)}), ("OUTSIDE", {"float": (60, 61, 62), "int": (50, 51, 52)})):
            top1["int, gradients bf16"] = (60, 61, 62)
            for name, values in top1.items():
                for seed, value in zip((1, 2, 3), values):
                    run = self.path("%s%d" % (name, seed))
                    os.makedirs(run, exist_ok=True)
                    with open(os.path.join(run, "metrics.jsonl"), "w") as f:
                        f.write(json.dumps({"kind": "epoch", "test_loss": 1, "test_top1": value}) + "\n")
                    bench.rows["%s %s, seed %d" % (table, name, seed)] = {"run": run, "seconds": 70 + seed, "resumed": seed == 3}
            text = bench.text(table)
            self.assertIn("lies %s the spread of seeds" % conclusion, text)
        self.assertIn("| int | 50.00 % | 51.00 % | 52.00 % | 51.00 % | 2.00 % | 71 | 72 | - |", text)
        self.assertIn("Means are 10.00 % apart, seeds up to 2.00 %", text)


if __name__ == "__main__":
    e2e.main()
