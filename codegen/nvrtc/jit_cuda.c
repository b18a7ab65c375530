/* jit_cuda.c: kernels to CUDA text, to machine code of a GPU, or to no more than the text where it is simulated.
 *
 *   kernels --cuda_print--> text --disk cache or NVRTC--> cubin --cubin_kernel--> registers, shared memory
 *
 * All kernels of a program are one text and one NVRTC program: compiling sixty alone takes three times as long as
 * compiling them together. A GPU that is newer than NVRTC gets PTX of the newest architecture that NVRTC knows below
 * it, which the driver finishes; that says no registers.
 *
 * Text that NVRTC finds wrong is a bug of the printer: it is kept and the process ends. All else that fails is
 * reported.
 *
 * Tested by tests/unit/test_nvrtc.c. */
#include "codegen/nvrtc/nvrtc.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/cuda/cuda.h"

/* One function of a program, for the table. */
typedef struct Row {
    const GpuKernel *kernel;
    const char      *title;
    int32_t          times; /* launches of equal kernels */
} Row;

typedef struct Compiled {
    const char *title;
    Row        *rows;
    int32_t     n_rows, n_kernels;
} Compiled;

typedef struct CudaJit {
    KernelJit    base;
    const Nvrtc *t; /* NULL: for the simulator */
    int32_t      sm;
    const char  *arch;    /* "sm_90", "compute_121", "sim" */
    bool         ptx;     /* arch is not sm's own */
    const char **options; /* of NVRTC */
    int32_t      n_options;
    const char  *options_text; /* the same in one line: for keys */
    const char  *cache_dir, *dump_dir;
    VEC(Compiled) programs;
} CudaJit;

/* ---- What to compile for ----------------------------------------------------------------------------------------- */

static bool choose_arch(CudaJit *j, Diag *d)
{
    Arena       *a = j->base.arena;
    const Nvrtc *t = j->t;
    int32_t      best = -1;
    for (int32_t i = 0; i < t->n_sms && t->sms[i] <= j->sm; i++)
        best = t->sms[i];
    if (best < 0) {
        diag_error(d, LOC_NONE,
                   "nvrtc: expected a GPU of sm_%d or newer, found sm_%d: NVRTC %d.%d makes no code for it", t->sms[0],
                   j->sm, t->version_major, t->version_minor);
        diag_help(d, "set DETENT_NVRTC to the NVRTC of an older CUDA toolkit, or use another backend");
        return false;
    }
    j->ptx = best != j->sm;
    j->arch = arena_printf(a, "%s_%d", j->ptx ? "compute" : "sm", best);
    if (j->ptx)
        diag_note(d, LOC_NONE, "NVRTC %d.%d does not know sm_%d; the driver finishes its code for %s at each start",
                  t->version_major, t->version_minor, j->sm, j->arch);
    return true;
}

/* Functions are assembled by several threads: the same code whatever their number, in two thirds of the time. First
 * tried with version 12.9. */
static bool can_split(const Nvrtc *t)
{
    return t->version_major > 12 || (t->version_major == 12 && t->version_minor >= 9);
}

static void choose_options(CudaJit *j)
{
    /* Sums and products are rounded where the kernel says, so that the bits are those of every other backend. */
    static const char *const fixed[] = { "--std=c++17",     "-fmad=false", "-prec-div=true",
                                         "-prec-sqrt=true", "-ftz=false",  "-default-device" };
    Arena                   *a = j->base.arena;
    Str                      text = str_new(a);
    j->options = ARENA_ARRAY(a, const char *, DT_COUNT(fixed) + 3);
    j->options[j->n_options++] = arena_printf(a, "--gpu-architecture=%s", j->arch);
    for (int32_t i = 0; i < DT_COUNT(fixed); i++)
        j->options[j->n_options++] = fixed[i];
    if (can_split(j->t))
        j->options[j->n_options++] = "--split-compile=0";
    if (j->dump_dir)
        j->options[j->n_options++] = "-lineinfo";
    for (int32_t i = 0; i < j->n_options; i++)
        str_printf(&text, "%s%s", i ? " " : "", j->options[i]);
    j->options_text = text.s;
}

/* ---- From text to code ------------------------------------------------------------------------------------------- */

/* NVRTC does not accept what cuda_print wrote. The message ends the process, so it has what the Diag may keep to
 * itself. */
static void report_bug(const CudaJit *j, Diag *d, const char *title, const char *source, const char *log) DT_NORETURN;
static void report_bug(const CudaJit *j, Diag *d, const char *title, const char *source, const char *log)
{
    const char *dir = j->dump_dir ? j->dump_dir : getenv("TMPDIR");
    const char *path =
        arena_printf(j->base.arena, "%s/detent-%s-%ld.cu", dir && dir[0] ? dir : "/tmp", title, (long)getpid());
    bool kept = file_write_atomic(d, path, source, strlen(source));
    dt_bug(__FILE__, __LINE__, "the CUDA text compiles", "NVRTC does not accept the text of %s (%s %s):\n%.3000s",
           title, kept ? "it is in" : "it cannot be kept in", path, log);
}

static const char *image_kind(const CudaJit *j)
{
    return j->ptx ? "ptx" : "cubin";
}

/* The key is compared whole on a hit, so equal keys mean equal code. */
static const char *cache_key(Arena *a, const CudaJit *j, const char *source)
{
    return arena_printf(a, "cuda text by nvrtc %d.%d\n%s\n%s", j->t->version_major, j->t->version_minor,
                        j->options_text, source);
}

/* What is dumped is always made anew: PTX is not in the cache. */
static bool uses_cache(const CudaJit *j)
{
    return j->cache_dir && !j->dump_dir;
}

/* Behind its key in the entry the code lies anywhere; the driver gets it at an aligned address. */
static bool load_code(const CudaJit *j, GpuModule *m)
{
    Arena       scratch = arena_new("cuda cache");
    const char *key = cache_key(&scratch, j, m->source);
    const void *code = uses_cache(j) ? cache_load(&scratch, j->cache_dir, image_kind(j), key, &m->image_bytes) : NULL;
    m->image = code ? arena_copy(j->base.arena, code, m->image_bytes) : NULL;
    arena_free(&scratch);
    return m->image != NULL;
}

static void store_code(const CudaJit *j, const GpuModule *m)
{
    Arena scratch = arena_new("cuda cache");
    if (uses_cache(j))
        cache_store(j->cache_dir, image_kind(j), cache_key(&scratch, j, m->source), m->image, m->image_bytes);
    arena_free(&scratch);
}

static bool dump_code(const CudaJit *j, Diag *d, const char *title, const GpuModule *m, const NvrtcCode *code)
{
    const char *stem = j->dump_dir ? arena_printf(j->base.arena, "%s/%s", j->dump_dir, title) : NULL;
    return !stem ||
           (file_write_atomic(d, arena_printf(j->base.arena, "%s.ptx", stem), code->ptx, strlen(code->ptx)) &&
            (j->ptx || file_write_atomic(d, arena_printf(j->base.arena, "%s.cubin", stem), m->image, m->image_bytes)));
}

/* Fills module->image. */
static bool make_code(CudaJit *j, Diag *d, const char *title, GpuModule *m)
{
    Arena    *a = j->base.arena;
    NvrtcCode code;
    NvrtcText text = { .name = arena_printf(a, "%s.cu", title),
                       .source = m->source,
                       .options = j->options,
                       .n_options = j->n_options,
                       .cubin = !j->ptx,
                       .ptx = j->ptx || j->dump_dir };
    if (!nvrtc_compile(a, d, j->t, &text, &code)) {
        if (code.bad_text)
            report_bug(j, d, title, m->source, code.log);
        return false;
    }
    if (code.log[0])
        log_debug("nvrtc: %s: %s", text.name, code.log);
    m->image = j->ptx ? code.ptx : code.cubin;
    m->image_bytes = j->ptx ? code.ptx_bytes : code.cubin_bytes;
    store_code(j, m);
    return dump_code(j, d, title, m, &code);
}

/* What the code says of each kernel; a cubin of a form that is not known leaves it open. */
static void read_resources(const CudaJit *j, const GpuModule *m, GpuKernel *kernels, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        CubinKernel c;
        kernels[i].module = m;
        kernels[i].registers = kernels[i].spill_bytes = -1;
        if (!m->image || j->ptx || !cubin_kernel(m->image, m->image_bytes, kernels[i].entry, &c))
            continue;
        kernels[i].registers = c.registers;
        kernels[i].spill_bytes = c.local_bytes;
        kernels[i].shared_bytes = c.shared_bytes;
    }
}

/* ---- The table of registers -------------------------------------------------------------------------------------- */

/* Titles outlive the graph that the kernels came from. */
static const Compiled *remember(CudaJit *j, const char *title, Kernel *const *kernels, const CudaText *text)
{
    Arena   *a = j->base.arena;
    StrMap   seen = strmap_new(a);
    Compiled c = { .title = arena_strdup(a, title), .n_kernels = text->n };
    c.rows = ARENA_ARRAY(a, Row, text->n);
    for (int32_t i = 0; i < text->n; i++) {
        const GpuKernel *k = &text->kernels[i];
        int32_t          at = strmap_get(&seen, k->entry);
        if (at >= 0) {
            c.rows[at].times++;
            continue;
        }
        strmap_put(&seen, k->entry, c.n_rows);
        c.rows[c.n_rows++] = (Row){ k, arena_strdup(a, kernels[i]->title), 1 };
    }
    vec_push(a, &j->programs, c);
    return &j->programs.at[j->programs.len - 1];
}

static void print_row(Str *out, const CudaJit *j, const Row *r)
{
    const GpuKernel *k = r->kernel;
    str_printf(out, "%5d  %10lld  %5d", r->times, (long long)k->grid, k->block);
    if (k->registers >= 0) {
        Occupancy o = nvrtc_occupancy(j->sm, k);
        str_printf(out, "  %9d  %6d  %6d  %6d  %4.0f%%", k->registers, k->spill_bytes, k->shared_bytes, o.blocks,
                   100 * o.share);
    } else
        str_printf(out, "  %9s  %6s  %6d  %6s  %5s", "-", "-", k->shared_bytes, "-", "-");
    str_printf(out, "  %s%s%s\n", k->entry, r->title[0] ? ": " : "", r->title);
}

static void print_program(Str *out, const CudaJit *j, const Compiled *c)
{
    str_printf(out, "%s, %s: %d kernels, %d functions\n", c->title, j->arch, c->n_kernels, c->n_rows);
    str_printf(out, "times        grid  block  registers  spills  shared  per SM   full  function\n");
    for (int32_t i = 0; i < c->n_rows; i++)
        print_row(out, j, &c->rows[i]);
}

/* ---- The kind ---------------------------------------------------------------------------------------------------- */

static bool dump_text(const CudaJit *j, Diag *d, const char *title, const char *suffix, const char *text)
{
    return !j->dump_dir || file_write_atomic(d, arena_printf(j->base.arena, "%s/%s.%s", j->dump_dir, title, suffix),
                                             text, strlen(text));
}

static bool dump_table(const CudaJit *j, Diag *d, const Compiled *c)
{
    Str s = str_new(j->base.arena);
    if (!j->dump_dir || !j->t)
        return true;
    print_program(&s, j, c);
    return dump_text(j, d, c->title, "registers.txt", s.s);
}

static bool cuda_compile(KernelJit *base, Diag *d, const char *title, Kernel *const *kernels, int32_t n,
                         KernelImage *images)
{
    CudaJit *j = (CudaJit *)base;
    if (n == 0)
        return true;
    CudaText   text = cuda_print(base->arena, title, kernels, n);
    GpuModule *m = ARENA_NEW(base->arena, GpuModule);
    *m = (GpuModule){ .arch = j->arch, .source = text.source };
    if (!dump_text(j, d, title, "cu", text.source))
        return false;
    bool cached = j->t && load_code(j, m);
    if (j->t && !cached && !make_code(j, d, title, m))
        return false;
    read_resources(j, m, text.kernels, n);
    if (!dump_table(j, d, remember(j, title, kernels, &text)))
        return false;
    for (int32_t i = 0; i < n; i++) {
        KCost cost = kernel_cost(kernels[i]);
        images[i] = (KernelImage){ .name = kernels[i]->name,
                                   .scratch_bytes = text.scratch_bytes[i],
                                   .bytes = cost.bytes_read + cost.bytes_written,
                                   .flops = cost.flops + cost.transcendentals,
                                   .n_bufs = kernels[i]->bufs.len,
                                   .gpu = &text.kernels[i] };
    }
    base->stats.distinct += text.distinct;
    base->stats.cached += cached ? text.distinct : 0;
    return true;
}

static const char *cuda_describe(Arena *a, const KernelJit *base)
{
    const CudaJit *j = (const CudaJit *)base;
    if (!j->t)
        return arena_strdup(a, "CUDA text for the simulator");
    const char *nvrtc = arena_printf(a, "NVRTC %d.%d, %s", j->t->version_major, j->t->version_minor, j->arch);
    return j->ptx ? arena_printf(a, "%s, finished for sm_%d by the driver", nvrtc, j->sm) : nvrtc;
}

static const JitKind cuda_kind = { cuda_compile, cuda_describe, NULL };

void                 jit_cuda_table(Str *out, const KernelJit *base)
{
    const CudaJit *j = (const CudaJit *)base;
    DT_ASSERT(base->kind == &cuda_kind, "a table of registers of kernels that are not CUDA");
    for (int32_t i = 0; i < j->programs.len; i++) {
        str_add(out, i > 0 ? "\n" : "");
        print_program(out, j, &j->programs.at[i]);
    }
}

KernelJit *jit_cuda_new_with(Arena *a, Diag *d, CudaJitOptions opt, const Nvrtc *t)
{
    CudaJit *j = ARENA_NEW(a, CudaJit);
    j->base = (KernelJit){ .kind = &cuda_kind, .arena = a };
    j->sm = opt.sm;
    j->t = opt.sm != 0 ? t : NULL;
    j->arch = "sim";
    j->cache_dir = opt.cache_dir ? arena_strdup(a, opt.cache_dir) : NULL;
    j->dump_dir = opt.dump_dir ? arena_strdup(a, opt.dump_dir) : NULL;
    if ((j->cache_dir && !dir_make(d, j->cache_dir)) || (j->dump_dir && !dir_make(d, j->dump_dir)))
        return NULL;
    if (j->t && !choose_arch(j, d))
        return NULL;
    if (j->t)
        choose_options(j);
    return &j->base;
}

KernelJit *jit_cuda_new(Arena *a, Diag *d, CudaJitOptions opt)
{
    const Nvrtc *t = opt.sm != 0 ? nvrtc_load(a, d) : NULL;
    return opt.sm != 0 && !t ? NULL : jit_cuda_new_with(a, d, opt, t);
}
