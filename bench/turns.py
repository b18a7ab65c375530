"""turns.py: what the comparisons of this directory share: variants that take turns, each a process that stays alive.

A process says "ready compile_seconds=... saved_bytes=... memory_bytes=... launches=... ABOUT" and then, for each line on stdin,
runs some steps and answers with the seconds of one. `detent bench --serve`, torch_step.py and ort_eval.py are such processes.
In each round every process has its turn while the others sleep; ratios are taken within rounds, because
machines are shared and change their clock. Used by bench/step and bench/evaluation; needs python3 alone.
"""
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
FEATURES = ("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
# Threads of whoever had a turn spin a while before they sleep: GNU's OpenMP some milliseconds, LLVM's and Intel's 200.
PAUSE_S = 0.25

# --isa: what Detent is told, and what limits oneDNN (of both sides: it reads one name or the other) and PyTorch.
ISAS = {
    "native": ((), {}),
    "avx2": (("--isa", "avx2", "--vector-width", "8"),
             {"DNNL_MAX_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}),
    "avx-vnni": (("--isa", "avx-vnni", "--vector-width", "8"),
                 {"DNNL_MAX_CPU_ISA": "AVX2_VNNI", "ONEDNN_MAX_CPU_ISA": "AVX2_VNNI", "ATEN_CPU_CAPABILITY": "avx2"}),
    "avx512": (("--isa", "avx512"),
               {"DNNL_MAX_CPU_ISA": "AVX512_CORE", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"}),
    "vnni": (("--isa", "vnni"), {"DNNL_MAX_CPU_ISA": "AVX512_CORE_VNNI", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}),
}
READY = re.compile(r"ready compile_seconds=(\S+) saved_bytes=(\d+) memory_bytes=(\d+) launches=(\d+) "
                   r"(?:kernels=(\d+) planned_bytes=(\d+) )?(.*)")


class Failure(Exception):
    """Something that the user must know and can act on."""


# ---- This machine -----------------------------------------------------------------------------------------------------


def cpu():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            info = dict(re.findall(r"^(model name|flags)\s*:\s*(.*)$", f.read(), re.M))
    except OSError:
        info = {}
    flags = info.get("flags", "").split()
    return {"model": info.get("model name", platform.processor() or "unknown"), "cores": os.cpu_count(),
            "features": [f for f in FEATURES if f in flags], "load": os.getloadavg()[0]}


def gpu():
    """Name and driver, as the driver's own tool says; "" where there is none."""
    line = first_line(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    return "" if line == "unknown" else line.replace(", ", ", driver ")


def machine(detent, on_gpu=False):
    return {"cpu": cpu(), "gpu": gpu() if on_gpu else "", "system": f"{platform.system()} {platform.release()}",
            "detent": first_line([detent, "--version"]) if detent else "without Detent"}


def print_machine(report):
    """The line below the title of a table."""
    c = report["cpu"]
    forced = "" if report["isa"] == "native" else f"; all limited to {report['isa']}"
    print(f"{c['model']}, {c['cores']} cores, {' '.join(c['features'])}{forced}; {report['system']}; load before {c['load']:.2f}")


def first_line(command):
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0]
    except (OSError, IndexError):
        return "unknown"


# ---- The command line, and what it names ------------------------------------------------------------------------------


def add_arguments(p, rounds):
    """Options that all comparisons have."""
    p.add_argument("--isa", default="native", choices=list(ISAS),
                   help="limits all sides to this instruction set; default native, each its best")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    p.add_argument("--no-compile", action="store_true", help="leave torch.compile out (its first call takes minutes)")
    p.add_argument("--json", metavar="FILE", help="every number, each round's included")
    p.add_argument("--detent", default=os.environ.get("DETENT"), help="the program; default $DETENT, build/, PATH")
    p.add_argument("--python", default=sys.executable, help="a python that has the rivals")


def choose_only(only, table):
    """The variants of --only, each of which must be there; all of them without it."""
    names = only.split(",") if only else list(table)
    for name in names:
        if name not in table:
            raise Failure(f"--only: no variant '{name}'; there are {', '.join(table)}")
    return names


def find_detent(named):
    places = [named] if named else [os.path.join(ROOT, "build", "release", "detent"), os.path.join(ROOT, "build", "detent")]
    places += [] if named else [os.path.join(d, "detent") for d in os.environ.get("PATH", "").split(os.pathsep)]
    for place in places:
        if os.access(place, os.X_OK) and os.path.isfile(place):
            return place
    raise Failure(f"no detent program in {', '.join(places[:2])}{'' if named else ' or PATH'}: build it "
                  "(cmake --preset release && ninja -C build/release), or name it with --detent")


def python_can(python, statement):
    """Whether this python runs the statement, an import say."""
    try:
        return subprocess.run([python, "-c", statement], capture_output=True, timeout=300).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


# ---- Processes that take turns ----------------------------------------------------------------------------------------


def environment(args, scratch, cache="cache"):
    return dict(os.environ, **ISAS[args.isa][1], OMP_NUM_THREADS=str(args.threads), XDG_CACHE_HOME=os.path.join(scratch, cache))


def rival_environment(args, scratch, name):
    """With caches of its own (precompiled headers go to TMPDIR): a cold compile is cold."""
    env = environment(args, scratch)
    env["TMPDIR"] = env["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(scratch, name)
    os.makedirs(env["TMPDIR"])
    return env


class Process:
    """A variant; when it is made, it has warmed up alone."""

    def __init__(self, name, command, env):
        self.name, self.command, self.seconds = name, command, []
        self.errors = tempfile.TemporaryFile("w+")
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=env)
        except OSError as e:
            self.errors.close()
            raise Failure(f"{name}: {command[0]}: {e.strerror}")
        ready = READY.match(self.line())
        if not ready:
            self.fail("expected a line that begins with 'ready'")
        self.compile_seconds, self.saved_bytes, self.memory_bytes = float(ready[1]), int(ready[2]), int(ready[3])
        self.launches, self.kernels, self.planned_bytes = (int(ready[i] or 0) for i in (4, 5, 6))
        self.about = ready[7]

    def fail(self, what):
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        raise Failure(f"{self.name}: {what} from\n  {' '.join(self.command)}\n{self.errors.read()[-2000:]}")

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            self.fail("no answer")
        return text.strip()

    def step(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.fail("it ended")
        try:
            return float(self.line())
        except ValueError:
            self.fail("expected seconds")

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def run_rounds(variants, rounds):
    """The order turns by one each round: nobody always follows the same neighbour's use of the caches and the clock."""
    for r in range(rounds):
        for v in variants[r % len(variants):] + variants[:r % len(variants)]:
            time.sleep(PAUSE_S)
            v.step()  # its threads wake up
            v.seconds.append(v.step())
        if sys.stderr.isatty():
            print(f"\rround {r + 1} of {rounds}", end="" if r + 1 < rounds else "\r\033[K", file=sys.stderr, flush=True)


def measure(makers, rounds):
    """Starts a process by each maker, lets all warm up in company, and runs the rounds. They are ended in any case."""
    variants = []
    try:
        for make in makers:
            variants.append(make())
        run_rounds(variants, 1)
        for v in variants:
            v.seconds.clear()
        run_rounds(variants, rounds)
    finally:
        for v in variants:
            v.close()
    return variants


# ---- Reports ----------------------------------------------------------------------------------------------------------


def numbers(v):
    """All of one variant, for a report."""
    return {"about": v.about, "command": v.command, "seconds": v.seconds, "min": min(v.seconds), "median": statistics.median(v.seconds),
            "saved_bytes": v.saved_bytes, "memory_bytes": v.memory_bytes, "planned_bytes": v.planned_bytes, "launches": v.launches,
            "kernels": v.kernels, "ready_seconds": v.compile_seconds}


def paired(a, b):
    """Time of a over time of b, within rounds."""
    pairs = [x / y for x, y in zip(a.seconds, b.seconds)]
    return {"of": a.name, "to": b.name, "min": min(pairs), "median": statistics.median(pairs)}


def verdict(value, target):
    return "" if target is None else f"<= {target:.2f}  {'met' if value <= target else 'MISSED'}"


def write_json(report, path):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)
        f.write("\n")
