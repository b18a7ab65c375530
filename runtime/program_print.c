/* program_print.c: a program for people: every launch in order with what it runs and what it touches, then memory.
 *
 * Tested by tests/unit/test_program.c. */
#include <string.h>

#include "runtime/exec_impl.h"

static const char *const arena_words[ARENA_COUNT] = { "io", "param", "state", "work", "scratch" };
static const char *const call_words[] = {
    [CALL_CONV_FWD] = "conv",
    [CALL_CONV_BWD_X] = "conv gradient of x",
    [CALL_CONV_BWD_W] = "conv gradient of w",
    [CALL_LINEAR_FWD] = "linear",
    [CALL_LINEAR_BWD_X] = "linear gradient of x",
    [CALL_LINEAR_BWD_W] = "linear gradient of w",
    [CALL_CONV_FWD_INT] = "conv of integers",
};
static const char *const access_words[] = { "-", "r", "w", "rw" };

const char              *call_name(CallKind k)
{
    return call_words[k];
}

enum { WIDEST = 64 }; /* a longer text moves its own line only */

static bool is_linear(CallKind k)
{
    return k == CALL_LINEAR_FWD || k == CALL_LINEAR_BWD_X || k == CALL_LINEAR_BWD_W;
}

/* "conv 128x16x32x32, 32 of 16x3x3 /2 pad 1 1 1 1 -> 16x16, bias" */
static const char *call_text(Arena *a, const CallDesc *d)
{
    Str s = str_new(a);
    str_add(&s, call_words[d->kind]);
    if (is_linear(d->kind)) {
        str_printf(&s, " %lldx%lld -> %lld", (long long)d->n, (long long)d->c, (long long)d->k);
    } else {
        str_printf(&s, " %lldx%lldx%lldx%lld, %lld of %lldx%lldx%lld", (long long)d->n, (long long)d->c,
                   (long long)d->h, (long long)d->w, (long long)d->k, (long long)(d->c / dt_max64(d->groups, 1)),
                   (long long)d->r, (long long)d->s);
        if (d->stride != 1)
            str_printf(&s, " /%lld", (long long)d->stride);
        if (d->pad[0] || d->pad[1] || d->pad[2] || d->pad[3])
            str_printf(&s, " pad %lld %lld %lld %lld", (long long)d->pad[0], (long long)d->pad[1], (long long)d->pad[2],
                       (long long)d->pad[3]);
        str_printf(&s, " -> %lldx%lld", (long long)d->oh, (long long)d->ow);
    }
    if (d->kind == CALL_CONV_FWD_INT)
        str_printf(&s, ", %s %d..%d by %s %d..%d, %s", dtype_name(d->x_type), d->x_lo, d->x_hi, dtype_name(d->w_type),
                   d->w_lo, d->w_hi, d->scale_per_k ? "a scale for each channel" : "one scale");
    str_add(&s, d->bias ? ", bias" : "");
    return s.s;
}

/* "k12_bn_relu, 64 x 256" on a GPU; "k12_bn_relu, 64 units" on the host. */
static const char *kernel_text(Arena *a, const KernelImage *k)
{
    Str s = str_new(a);
    if (k->gpu)
        str_printf(&s, "%s, %lld x %d", k->gpu->entry, (long long)k->gpu->grid, k->gpu->block);
    else
        str_printf(&s, "%s, %lld units", k->name, (long long)k->units);
    if (!k->gpu && k->finish_units > 0)
        str_printf(&s, " + %lld", (long long)k->finish_units);
    return s.s;
}

static const char *launch_text(Arena *a, const Program *p, const Launch *l)
{
    return l->kind == LAUNCH_CALL ? call_text(a, &l->call) : kernel_text(a, &p->images[l->image]);
}

static void print_buffers(Str *out, const Launch *l)
{
    for (int32_t i = 0; i < l->n_bufs; i++) {
        const BufUse *u = l->uses ? &l->uses[i] : NULL;
        str_printf(out, "%s%s%s%s+%lld", i ? "  " : "", u ? access_words[u->access & 3] : "", u ? " " : "",
                   arena_words[l->bufs[i].arena], (long long)l->bufs[i].offset);
        if (u)
            str_printf(out, ":%lld", (long long)u->bytes);
        if (u && u->parts)
            str_printf(out, " (%d parts)", u->n_parts);
    }
    if (l->scratch_bytes > 0)
        str_printf(out, "%sscratch:%lld", l->n_bufs ? "  " : "", (long long)l->scratch_bytes);
}

static void print_launches(Str *out, Arena *a, const Program *p)
{
    int32_t      name = 6, what = 4;
    const char **texts = ARENA_ARRAY(a, const char *, p->n_launches + 1);
    for (int32_t i = 0; i < p->n_launches; i++) {
        texts[i] = launch_text(a, p, &p->launches[i]);
        int32_t name_len = (int32_t)strlen(p->launches[i].name), what_len = (int32_t)strlen(texts[i]);
        name = name_len > name && name_len <= WIDEST ? name_len : name;
        what = what_len > what && what_len <= WIDEST ? what_len : what;
    }
    str_printf(out, "%4s    %-*s  %-*s  %s\n", "#", name, "launch", what, "runs", "buffers");
    for (int32_t i = 0; i < p->n_launches; i++) {
        const Launch *l = &p->launches[i];
        str_printf(out, "%4d %s  %-*s  %-*s  ", i, l->backward ? "b" : "f", name, l->name, what, texts[i]);
        print_buffers(out, l);
        str_add(out, "\n");
    }
}

static void print_memory(Str *out, Arena *a, const Program *p)
{
    int64_t total = 0;
    for (ArenaKind k = 0; k < ARENA_COUNT; k++) {
        str_printf(out, "  %-8s %-20s %12s\n", arena_words[k], exec_arena_names[k], str_bytes(a, p->bytes[k]));
        total += p->bytes[k];
    }
    str_printf(out, "  %-29s %12s\n", "together", str_bytes(a, total));
    str_printf(out, "  %-29s %12s\n", "saved for backward", str_bytes(a, p->saved_bytes));
    for (int32_t i = 0; i < PEAK_VALUES && p->peak[i].name; i++)
        str_printf(out, "  %-29s %12s  %s\n", i ? "" : "largest values at the peak", str_bytes(a, p->peak[i].bytes),
                   p->peak[i].name);
}

void program_print(Str *out, const Program *p)
{
    Arena   scratch = arena_new("program-print");
    int32_t calls = 0;
    for (int32_t i = 0; i < p->n_launches; i++)
        calls += p->launches[i].kind == LAUNCH_CALL;
    str_printf(out, "program %s: %d launches, %d of kernels and %d of library calls\n\n", p->name, p->n_launches,
               p->n_launches - calls, calls);
    print_launches(out, &scratch, p);
    str_add(out, "\nmemory\n");
    print_memory(out, &scratch, p);
    arena_free(&scratch);
}
