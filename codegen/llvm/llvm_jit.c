/* llvm_jit.c: kernels to machine code and into the process.
 *
 * For each kernel that is new to this JIT, in parallel, each thread with an LLVM context of its own: plan, LLVM IR, a
 * short pipeline, object code, or object code from the disk cache. Then, in order: the objects are linked by ORC LLJIT
 * and their functions looked up. Every kernel is an object of its own, so a cache entry serves every program that has
 * an equal kernel.
 *
 * Tested by tests/unit/test_llvm.c. */
#include <string.h>
#include <threads.h>

#include <llvm-c/Analysis.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>

#include "codegen/jit.h"
#include "codegen/llvm/emit.h"

/* Part of every cache key: raised when the same kernel would give other code. */
#define GENERATOR "9"

/* The emitter has hoisted and unrolled already; what is left are shapes of expressions and repeated addresses. */
#define PIPELINE "function(instcombine<no-verify-fixpoint>,early-cse)"

/* A kernel whose code is in the process. */
typedef struct Compiled {
    KernelEntry run, finish;
    int64_t     units, finish_units, scratch_bytes;
} Compiled;

typedef struct LlvmJit {
    KernelJit       base;
    const char     *triple, *cpu, *features, *version, *cache_dir, *dump_dir;
    int32_t         width;
    bool            sizes_only;
    LLVMTargetRef   target;
    LLVMOrcLLJITRef orc;
    StrMap          known; /* hash of a kernel -> index in compiled */
    VEC(Compiled) compiled;
} LlvmJit;

/* One kernel on its way. */
typedef struct Job {
    const Kernel       *kernel;
    char                hex[33]; /* its hash: names symbols and the cache entry */
    Arena               arena;
    Compiled            result;
    LLVMMemoryBufferRef object;
    bool                cached;
    const char         *error;
} Job;

/* ---- The host --------------------------------------------------------------------------------------------------- */

static bool has_feature(const char *features, const char *name)
{
    const char *at = features;
    size_t      len = strlen(name);
    while ((at = strstr(at, name)) != NULL) {
        if (at > features && at[-1] == '+' && (at[len] == ',' || at[len] == 0))
            return true;
        at += len;
    }
    return false;
}

static char *take_message(Arena *a, char *message)
{
    char *copy = arena_strdup(a, message ? message : "no reason given");
    LLVMDisposeMessage(message);
    return copy;
}

static const char *take_error(Arena *a, LLVMErrorRef error)
{
    char       *message = LLVMGetErrorMessage(error);
    const char *copy = arena_strdup(a, message);
    LLVMDisposeErrorMessage(message);
    return copy;
}

/* Loop strength reduction takes more than half of the time of making code, and kernels are no faster for it: what is
 * the same in a loop is computed before it already. LLVM has no other switch for it than its command line, which is
 * the process's: it is read once. */
static once_flag options_once = ONCE_FLAG_INIT;

static void      set_options(void)
{
    static const char *const words[] = { "detent", "-disable-lsr" };
    LLVMParseCommandLineOptions(DT_COUNT(words), words, NULL);
}

/* NULL, or why not. */
static const char *find_host(LlvmJit *j, int width)
{
    Arena   *a = j->base.arena;
    unsigned major, minor, patch;
    char    *why = NULL;
    call_once(&options_once, set_options);
    if (LLVMInitializeNativeTarget() || LLVMInitializeNativeAsmPrinter())
        return "it has no code generator for this machine";
    LLVMGetVersion(&major, &minor, &patch);
    j->version = arena_printf(a, "%u.%u.%u", major, minor, patch);
    j->triple = take_message(a, LLVMGetDefaultTargetTriple());
    j->cpu = take_message(a, LLVMGetHostCPUName());
    j->features = take_message(a, LLVMGetHostCPUFeatures());
    j->width = width ? width : has_feature(j->features, "avx512f") ? 16 : has_feature(j->features, "avx") ? 8 : 4;
    if (LLVMGetTargetFromTriple(j->triple, &j->target, &why))
        return take_message(a, why);
    LLVMErrorRef error = LLVMOrcCreateLLJIT(&j->orc, NULL);
    return error ? take_error(a, error) : NULL;
}

static LLVMTargetMachineRef new_machine(const LlvmJit *j)
{
    return LLVMCreateTargetMachine(j->target, j->triple, j->cpu, j->features, LLVMCodeGenLevelDefault, LLVMRelocPIC,
                                   LLVMCodeModelSmall);
}

/* ---- One kernel ------------------------------------------------------------------------------------------------- */

static const char *cache_key(Arena *a, const LlvmJit *j, const Job *job)
{
    const Compiled *c = &job->result; /* how the code is called is part of what it is */
    return arena_printf(
        a,
        "kernel %s\nunits %lld finish %lld scratch %lld\ndetent %s generator %s\nllvm %s\ntriple %s\ncpu "
        "%s\nfeatures %s\nwidth %d\n",
        job->hex, (long long)c->units, (long long)c->finish_units, (long long)c->scratch_bytes, DT_VERSION, GENERATOR,
        j->version, j->triple, j->cpu, j->features, j->width);
}

static LLVMModuleRef new_module(const LlvmJit *j, LLVMContextRef ctx, LLVMTargetMachineRef machine, const char *name)
{
    LLVMModuleRef     mod = LLVMModuleCreateWithNameInContext(name, ctx);
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(machine);
    LLVMSetTarget(mod, j->triple);
    LLVMSetModuleDataLayout(mod, layout);
    LLVMDisposeTargetData(layout);
    return mod;
}

/* NAME.kernel, NAME.ll and NAME.s. */
static const char *dump(Job *job, const LlvmJit *j, LLVMModuleRef mod, LLVMTargetMachineRef machine)
{
    Arena              *a = &job->arena;
    Diag                d = diag_new(NULL);
    Str                 text = str_new(a);
    char               *ir = LLVMPrintModuleToString(mod), *why = NULL;
    LLVMModuleRef       copy = LLVMCloneModule(mod); /* making code changes the module */
    LLVMMemoryBufferRef assembly = NULL;
    const char         *error = NULL, *stem = arena_printf(a, "%s/%s", j->dump_dir, job->kernel->name);
    kernel_print(&text, job->kernel);
    if (LLVMTargetMachineEmitToMemoryBuffer(machine, copy, LLVMAssemblyFile, &why, &assembly))
        error = take_message(a, why);
    else if (!file_write_atomic(&d, arena_printf(a, "%s.kernel", stem), text.s, text.len) ||
             !file_write_atomic(&d, arena_printf(a, "%s.ll", stem), ir, strlen(ir)) ||
             !file_write_atomic(&d, arena_printf(a, "%s.s", stem), LLVMGetBufferStart(assembly),
                                LLVMGetBufferSize(assembly)))
        error = arena_strdup(a, d.text.s);
    if (assembly)
        LLVMDisposeMemoryBuffer(assembly);
    LLVMDisposeModule(copy);
    LLVMDisposeMessage(ir);
    diag_free(&d);
    return error;
}

/* Optimizes the module and makes job->object. */
static const char *make_object(Job *job, const LlvmJit *j, LLVMModuleRef mod, LLVMTargetMachineRef machine)
{
    char *why = NULL;
    bool  broken = LLVMVerifyModule(mod, LLVMReturnStatusAction, &why);
    DT_ASSERT(!broken, "kernel %s: invalid LLVM IR: %s", job->kernel->name, why);
    LLVMDisposeMessage(why);
    LLVMPassBuilderOptionsRef opts = LLVMCreatePassBuilderOptions();
    LLVMErrorRef              error = LLVMRunPasses(mod, PIPELINE, machine, opts);
    LLVMDisposePassBuilderOptions(opts);
    if (error)
        return take_error(&job->arena, error);
    const char *dump_error = j->dump_dir ? dump(job, j, mod, machine) : NULL;
    if (dump_error)
        return dump_error;
    why = NULL;
    if (LLVMTargetMachineEmitToMemoryBuffer(machine, mod, LLVMObjectFile, &why, &job->object))
        return take_message(&job->arena, why);
    return NULL;
}

static void generate(Job *job, const LlvmJit *j, LLVMTargetMachineRef machine, const Plan *plan)
{
    LLVMContextRef ctx = LLVMContextCreate();
    LLVMModuleRef  mod = new_module(j, ctx, machine, job->kernel->name);
    emit_kernel(&job->arena, mod, plan, arena_printf(&job->arena, "k%s", job->hex), j->cpu, j->features);
    job->error = make_object(job, j, mod, machine);
    LLVMDisposeModule(mod);
    LLVMContextDispose(ctx);
}

/* *machine: the thread's, made when the first kernel needs it. */
static void run_job(Job *job, const LlvmJit *j, LLVMTargetMachineRef *machine)
{
    Arena     *a = &job->arena;
    const Plan plan = plan_kernel(a, kernel_expand(a, job->kernel), j->width);
    job->result =
        (Compiled){ .units = plan.units, .finish_units = plan.finish_units, .scratch_bytes = plan.scratch_bytes };
    if (j->sizes_only)
        return;
    const char *key = cache_key(a, j, job);
    size_t      bytes = 0;
    const void *code = j->cache_dir && !j->dump_dir ? cache_load(a, j->cache_dir, "o", key, &bytes) : NULL;
    job->cached = code != NULL;
    if (code) {
        job->object = LLVMCreateMemoryBufferWithMemoryRangeCopy(code, bytes, job->hex);
        return;
    }
    if (!*machine)
        *machine = new_machine(j);
    generate(job, j, *machine, &plan);
    if (!job->error && j->cache_dir)
        cache_store(j->cache_dir, "o", key, LLVMGetBufferStart(job->object), LLVMGetBufferSize(job->object));
}

/* ---- Into the process ------------------------------------------------------------------------------------------- */

static const char *look_up(const LlvmJit *j, Arena *a, const char *hex, const char *which, KernelEntry *entry)
{
    LLVMOrcExecutorAddress at = 0;
    LLVMErrorRef           error = LLVMOrcLLJITLookup(j->orc, &at, arena_printf(a, "k%s_%s", hex, which));
    *entry = (KernelEntry)(uintptr_t)at;
    return error ? take_error(a, error) : NULL;
}

static const char *link_job(LlvmJit *j, Job *job)
{
    Arena       *a = &job->arena;
    LLVMErrorRef error = LLVMOrcLLJITAddObjectFile(j->orc, LLVMOrcLLJITGetMainJITDylib(j->orc), job->object);
    job->object = NULL; /* taken */
    if (error)
        return take_error(a, error);
    const char *why = look_up(j, a, job->hex, "run", &job->result.run);
    if (!why && job->result.finish_units > 0)
        why = look_up(j, a, job->hex, "finish", &job->result.finish);
    return why;
}

static void run_jobs(const LlvmJit *j, Job *jobs, int32_t n)
{
#pragma omp parallel if (n > 1)
    {
        LLVMTargetMachineRef machine = NULL;
#pragma omp for schedule(dynamic, 1)
        for (int32_t i = 0; i < n; i++)
            run_job(&jobs[i], j, &machine);
        if (machine)
            LLVMDisposeTargetMachine(machine);
    }
}

/* Links what was made and enters it into the table; frees the jobs. */
static bool finish_jobs(LlvmJit *j, Diag *d, Job *jobs, int32_t n)
{
    bool done = true;
    for (int32_t i = 0; i < n; i++) {
        Job        *job = &jobs[i];
        const char *error = job->error || !done || j->sizes_only ? job->error : link_job(j, job);
        if (error)
            diag_error(d, job->kernel->loc, "llvm: kernel %s: %s", job->kernel->name, error);
        done = done && !error;
        if (job->object)
            LLVMDisposeMemoryBuffer(job->object);
        if (done) {
            vec_push(j->base.arena, &j->compiled, job->result);
            strmap_put(&j->known, job->hex, j->compiled.len - 1);
        }
        j->base.stats.distinct++;
        j->base.stats.cached += job->cached;
        arena_free(&job->arena);
    }
    return done;
}

/* The kernels that are not known yet, each once. */
static int32_t collect_jobs(const LlvmJit *j, Arena *a, Kernel *const *kernels, int32_t n, Job *jobs, const char **hex)
{
    StrMap  seen = strmap_new(a);
    int32_t n_jobs = 0;
    for (int32_t i = 0; i < n; i++) {
        char text[33];
        hash_hex(kernel_hash(kernels[i]), text);
        hex[i] = arena_strdup(a, text);
        if (strmap_get(&j->known, text) >= 0 || !strmap_put(&seen, text, i))
            continue;
        jobs[n_jobs] = (Job){ .kernel = kernels[i], .arena = arena_new("kernel code") };
        memcpy(jobs[n_jobs++].hex, text, sizeof text);
    }
    return n_jobs;
}

static bool llvm_compile(KernelJit *base, Diag *d, const char *title, Kernel *const *kernels, int32_t n,
                         KernelImage *images)
{
    (void)title;
    LlvmJit     *j = (LlvmJit *)base;
    Arena        scratch = arena_new("llvm_compile");
    Job         *jobs = ARENA_ARRAY(&scratch, Job, n + 1);
    const char **hex = ARENA_ARRAY(&scratch, const char *, n + 1);
    int32_t      n_jobs = collect_jobs(j, &scratch, kernels, n, jobs, hex);
    if (n_jobs > 0)
        run_jobs(j, jobs, n_jobs);
    bool done = finish_jobs(j, d, jobs, n_jobs);
    for (int32_t i = 0; i < n && done; i++) {
        const Compiled *c = &j->compiled.at[strmap_get(&j->known, hex[i])];
        KCost           cost = kernel_cost(kernels[i]);
        images[i] = (KernelImage){ .name = kernels[i]->name,
                                   .run = c->run,
                                   .finish = c->finish,
                                   .units = c->units,
                                   .finish_units = c->finish_units,
                                   .scratch_bytes = c->scratch_bytes,
                                   .bytes = cost.bytes_read + cost.bytes_written,
                                   .flops = cost.flops + cost.transcendentals,
                                   .n_bufs = kernels[i]->bufs.len };
    }
    arena_free(&scratch);
    return done;
}

/* ---- The object ------------------------------------------------------------------------------------------------- */

static const char *llvm_describe(Arena *a, const KernelJit *base)
{
    static const char *const notable[] = { "sse4.1",   "avx",      "fma",     "avx2",       "avx512f",
                                           "avx512bw", "avx512vl", "avxvnni", "avx512vnni", "avx512bf16",
                                           "amx-int8", "amx-bf16", "neon",    "sve" };
    const LlvmJit           *j = (const LlvmJit *)base;
    Str                      s = str_new(a);
    str_printf(&s, "LLVM %s, %s", j->version, j->cpu);
    for (int32_t i = 0; i < DT_COUNT(notable); i++)
        if (has_feature(j->features, notable[i]))
            str_printf(&s, " %s", notable[i]);
    str_printf(&s, ", vectors of %d floats", j->width);
    return s.s;
}

static void llvm_release(KernelJit *base)
{
    LlvmJit     *j = (LlvmJit *)base;
    LLVMErrorRef error = j->orc ? LLVMOrcDisposeLLJIT(j->orc) : NULL;
    if (error)
        log_info("llvm: %s", take_error(base->arena, error));
    j->orc = NULL;
}

KernelJit *jit_llvm_new(Arena *a, Diag *d, JitOptions opt)
{
    static const JitKind llvm = { llvm_compile, llvm_describe, llvm_release };
    LlvmJit             *j = ARENA_NEW(a, LlvmJit);
    j->base = (KernelJit){ .kind = &llvm, .arena = a };
    j->known = strmap_new(a);
    j->cache_dir = opt.cache_dir ? arena_strdup(a, opt.cache_dir) : NULL;
    j->dump_dir = opt.dump_dir ? arena_strdup(a, opt.dump_dir) : NULL;
    j->sizes_only = opt.sizes_only;
    int w = opt.vector_width;
    if (w != 0 && w != 4 && w != 8 && w != 16) {
        diag_error(d, LOC_NONE, "llvm: vectors of %d floats; there are 4, 8, 16, and 0 for what the machine has", w);
        return NULL;
    }
    if ((j->cache_dir && !dir_make(d, j->cache_dir)) || (j->dump_dir && !dir_make(d, j->dump_dir)))
        return NULL;
    const char *why = find_host(j, w);
    if (why) {
        diag_error(d, LOC_NONE, "llvm: cannot compile kernels: %s", why);
        llvm_release(&j->base);
        return NULL;
    }
    return &j->base;
}
