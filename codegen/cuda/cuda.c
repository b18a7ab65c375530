/* cuda.c: the text as a whole: what it is, the device functions that it needs, and each distinct kernel under a comment
 * that says what it does and how it is spread over threads.
 *
 * `#line` makes the compiler's messages name the line of the network; after each kernel it leads back to the text's
 * own.
 *
 * Tested by tests/unit/test_cuda.c. */
#include "codegen/cuda/cuda.h"

#include <inttypes.h>
#include <string.h>

#include "codegen/cuda/print.h"

/* ---- Comments --------------------------------------------------------------------------------------------------- */

/* A title from elsewhere must not end the comment. */
static void put_safe(Str *out, const char *s)
{
    for (; *s; s++)
        if (s[0] == '*' && s[1] == '/')
            str_add(out, "* ");
        else
            str_addn(out, (unsigned char)*s < ' ' ? " " : s, 1);
}

static void put_axes(Str *out, const Kernel *k)
{
    static const char *const kinds[] = { [AXIS_PAR] = "par", [AXIS_RED] = "red", [AXIS_SEQ] = "seq" };
    str_add(out, " *   axes:   ");
    for (int32_t i = 0; i < k->n_axes; i++) {
        const Axis *x = &k->axes[i];
        str_printf(out, "%s%s ", i ? ", " : " ", x->name);
        if (x->seg_col >= 0)
            str_printf(out, "by row");
        else
            str_printf(out, "%" PRId64, x->extent);
        str_printf(out, " %s%s", kinds[x->kind], i == k->vec ? " vec" : "");
    }
    if (k->seg.rows > 0)
        str_printf(out, "%s%d rows", k->n_axes ? "; " : " ", k->seg.rows);
    if (kernel_has_reduction(k) && k->seg.rows > 0)
        str_printf(out, "; reduced in chunks by row, %d lanes", k->lanes);
    else if (kernel_has_reduction(k))
        str_printf(out, "; reduced in %" PRId64 " chunk%s, %d lane%s", k->chunks, k->chunks == 1 ? "" : "s", k->lanes,
                   k->lanes == 1 ? "" : "s");
    str_add(out, "\n");
}

static void put_bufs(Str *out, const Kernel *k, BufMode mode, const char *what)
{
    int32_t n = 0;
    for (int32_t i = 0; i < k->bufs.len; i++) {
        const KBuf *b = &k->bufs.at[i];
        if (b->mode != mode)
            continue;
        if (n > 0 && n % 8 == 0)
            str_add(out, "\n *           ");
        str_printf(out, "%s%s %s[%" PRId64 "]%s", n ? " " : what, b->name, dtype_name(b->dtype), b->elems,
                   b->stream ? " streamed" : "");
        str_add(out, ",");
        n++;
    }
    if (n > 0)
        out->s[--out->len] = 0, str_add(out, "\n");
}

static void put_comment(Str *out, const Schedule *s, const char *entry, const char *also)
{
    const Kernel *k = s->k;
    str_printf(out, "/* %s: ", entry);
    put_safe(out, k->title && k->title[0] ? k->title : k->name);
    if (k->loc.file) {
        str_add(out, " (");
        put_safe(out, k->loc.file);
        str_printf(out, ":%d)", k->loc.line);
    }
    str_add(out, "\n");
    put_axes(out, k);
    put_bufs(out, k, BUF_IN, " *   reads:   ");
    put_bufs(out, k, BUF_INOUT, " *   updates: ");
    put_bufs(out, k, BUF_OUT, " *   writes:  ");
    if (also[0])
        str_printf(out, " *   also launched as%s\n", also);
    str_add(out, " *   threads: ");
    schedule_describe(out, s);
    str_add(out, " */\n");
}

/* ---- Line numbers ----------------------------------------------------------------------------------------------- */

#define LINE_HERE "#line here"

/* Each line LINE_HERE says where it stands, now that everything before it is known. */
static const char *number_lines(Arena *a, const char *text, const char *file)
{
    Str     out = str_new(a);
    int32_t line = 1;
    for (const char *c = text; *c; line++) {
        size_t n = strcspn(c, "\n");
        if (n == strlen(LINE_HERE) && strncmp(c, LINE_HERE, n) == 0)
            str_printf(&out, "#line %d \"%s\"", line + 1, file);
        else
            str_addn(&out, c, n);
        str_add(&out, "\n");
        c += n + (c[n] == '\n');
    }
    return out.s;
}

static bool is_plain(const char *file)
{
    return file && !strpbrk(file, "\"\\\n");
}

static void put_kernel(Str *out, Arena *a, Prelude *prelude, const Schedule *s, const char *entry)
{
    Str printed = str_new(a);
    print_kernel(&printed, a, prelude, s, entry);
    const char *body = drop_unused(a, printed.s);
    if (!is_plain(s->k->loc.file) || s->k->loc.line < 1) {
        str_add(out, body);
        return;
    }
    /* after the line "{" */
    const char *open = strstr(body, "\n{\n") + 3;
    str_addn(out, body, (size_t)(open - body));
    str_printf(out, "#line %d \"%s\"\n%s" LINE_HERE "\n", s->k->loc.line, s->k->loc.file, open);
}

/* ---- Kernels ---------------------------------------------------------------------------------------------------- */

typedef struct Distinct {
    Hash128     hash;
    const char *entry;
    Str         also; /* names of equal kernels */
    Schedule    schedule;
} Distinct;

typedef struct Text {
    Arena    *a;
    StrMap    by_hash, names;
    Distinct *distinct;
    int32_t   n;
} Text;

static const char *entry_name(Text *t, const char *name)
{
    Printer p = { .a = t->a, .taken = t->names };
    name = name_new(&p, name);
    t->names = p.taken;
    return name;
}

/* The function that this kernel shares or begins. */
static int32_t find_distinct(Text *t, const Kernel *k)
{
    char key[33];
    hash_hex(kernel_hash(k), key);
    int32_t i = strmap_get(&t->by_hash, key);
    if (i >= 0) {
        str_printf(&t->distinct[i].also, "%s %s", t->distinct[i].also.len ? "," : "", k->name);
        return i;
    }
    strmap_put(&t->by_hash, key, t->n);
    Distinct *d = &t->distinct[t->n];
    d->entry = entry_name(t, k->name);
    d->also = str_new(t->a);
    d->schedule = schedule_kernel(t->a, kernel_expand(t->a, k));
    return t->n++;
}

static GpuKernel gpu_kernel(const Distinct *d)
{
    const Schedule *s = &d->schedule;
    return (GpuKernel){ .entry = d->entry,
                        .grid = s->grid,
                        .block = s->block,
                        .shared_bytes = s->shared_bytes,
                        .tickets = s->tickets,
                        .registers = -1,
                        .spill_bytes = -1 };
}

/* A file name for messages; whatever the title has in it. */
static const char *file_name(Arena *a, const char *title)
{
    char *name = arena_printf(a, "%s.cu", title);
    for (char *c = name; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = '_';
    return name;
}

static void put_header(Str *out, const char *title, int32_t n, int32_t distinct)
{
    str_add(out, "/* ");
    put_safe(out, title);
    str_printf(out, ": %d kernel%s, %d distinct. Made by Detent.\n", n, n == 1 ? "" : "s", distinct);
    str_add(out,
            " *\n * Compile without contraction (-fmad=false): an fma is written where it is meant, all else "
            "rounds by itself.\n"
            " * Values are numbered as in the text of the kernel itself, where exp and log are written out. */\n\n");
}

CudaText cuda_print(Arena *a, const char *title, Kernel *const *kernels, int32_t n)
{
    Text t = { .a = a, .by_hash = strmap_new(a), .names = strmap_new(a), .distinct = ARENA_ARRAY(a, Distinct, n + 1) };
    CudaText text = { .n = n,
                      .kernels = ARENA_ARRAY(a, GpuKernel, n + 1),
                      .scratch_bytes = ARENA_ARRAY(a, int64_t, n + 1) };
    for (int32_t i = 0; i < n; i++) {
        const Distinct *d = &t.distinct[find_distinct(&t, kernels[i])];
        text.kernels[i] = gpu_kernel(d);
        text.scratch_bytes[i] = d->schedule.scratch_bytes;
    }
    Prelude prelude = { .arena = a, .used = strmap_new(a) };
    Str     out = str_new(a), functions = str_new(a);
    for (int32_t i = 0; i < t.n; i++) {
        const Distinct *d = &t.distinct[i];
        put_comment(&functions, &d->schedule, d->entry, d->also.s ? d->also.s : "");
        put_kernel(&functions, a, &prelude, &d->schedule, d->entry);
        str_add(&functions, i + 1 < t.n ? "\n" : "");
    }
    put_header(&out, title, n, t.n);
    prelude_print(&out, &prelude);
    str_add(&out, functions.s ? functions.s : "");
    text.source = number_lines(a, out.s, file_name(a, title));
    text.distinct = t.n;
    return text;
}
