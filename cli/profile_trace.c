/* profile_trace.c: steps as Chrome trace events, the JSON that ui.perfetto.dev and chrome://tracing open: a process for
 * each variant, in it a thread for each step, in that the step, its forward and backward part and its launches, one in
 * the other. All steps begin at 0, so that variants stand one below the other.
 *
 * Times are whole nanoseconds, each event from where the one before ends: so they cover the step without a gap.
 *
 * Tested by tests/unit/test_bench.c. */
#include "cli/profile.h"

#include <string.h>

typedef struct Tracer {
    Str     out;
    int32_t pid, tid;
    bool    any;
} Tracer;

/* What follows "args" is the caller's: an object. */
static void event_begin(Tracer *t, const char *name, const char *kind, int64_t from, int64_t to)
{
    str_printf(&t->out, "%s\n{\"ph\": \"X\", \"cat\": \"%s\", \"pid\": %d, \"tid\": %d, ", t->any ? "," : "", kind,
               t->pid, t->tid);
    str_printf(&t->out, "\"ts\": %lld.%03lld, \"dur\": %lld.%03lld, \"name\": ", (long long)(from / 1000),
               (long long)(from % 1000), (long long)((to - from) / 1000), (long long)((to - from) % 1000));
    json_text(&t->out, name);
    str_add(&t->out, ", \"args\": ");
    t->any = true;
}

/* "process_name" or "thread_name": what the viewer writes beside the row. */
static void event_label(Tracer *t, const char *what, const char *name)
{
    str_printf(&t->out, "%s\n{\"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"name\": \"%s\", \"args\": {\"name\": ",
               t->any ? "," : "", t->pid, t->tid, what);
    json_text(&t->out, name);
    str_add(&t->out, "}}");
    t->any = true;
}

/* "s1.b0.bn1: relu, qdq" is of s1.b0.bn1; a library call has the scope alone. */
static const char *launch_scope(Arena *a, const Launch *l)
{
    const char *colon = strstr(l->name, ": ");
    if (colon == NULL)
        return l->kind == LAUNCH_CALL ? l->name : "";
    return arena_strndup(a, l->name, (size_t)(colon - l->name));
}

static void trace_launch(Arena *a, Tracer *t, const ProfileRow *r, int64_t from, int64_t to)
{
    event_begin(t, r->launch->name, r->launch->kind == LAUNCH_CALL ? "call" : "kernel", from, to);
    str_printf(&t->out, "{\"launch\": %d, \"scope\": ", r->index);
    json_text(&t->out, launch_scope(a, r->launch));
    str_printf(&t->out, ", \"what\": \"%s\", \"bytes\": %lld, \"flops\": %lld}}",
               r->launch->kind == LAUNCH_CALL ? call_name(r->launch->call.kind) : "kernel", (long long)r->bytes,
               (long long)r->flops);
}

/* Launches in the order of the program. */
static const ProfileRow *trace_rows(Arena *a, const TraceStep *s)
{
    const Limits none = { 0 };
    Profile      p = profile_make(a, s->program, s->seconds, &none);
    ProfileRow  *rows = ARENA_ARRAY(a, ProfileRow, p.n + 1);
    for (int32_t i = 0; i < p.n; i++)
        rows[p.rows[i].index] = p.rows[i];
    return rows;
}

static void trace_step(Arena *a, Tracer *t, const TraceStep *s)
{
    int32_t           n = s->program->n_launches;
    const ProfileRow *rows = trace_rows(a, s);
    int64_t          *at = ARENA_ARRAY(a, int64_t, n + 1); /* ends of the launch before, ns */
    for (int32_t i = 0; i < n; i++)
        at[i + 1] = at[i] + (int64_t)(1e9 * s->seconds[i] + 0.5);
    event_begin(t, s->what, "step", 0, at[n]);
    str_printf(&t->out, "{\"launches\": %d}}", n);
    for (int32_t i = 0, end = 0; i < n; i = end) {
        bool backward = rows[i].launch->backward;
        for (end = i; end < n && rows[end].launch->backward == backward; end++)
            continue;
        event_begin(t, backward ? "backward" : "forward", "part", at[i], at[end]);
        str_printf(&t->out, "{\"launches\": %d}}", end - i);
        for (int32_t k = i; k < end; k++)
            trace_launch(a, t, &rows[k], at[k], at[k + 1]);
    }
}

bool trace_write(Session *s, const char *file, const TraceStep *steps, int32_t n)
{
    Arena  a = arena_new("trace");
    Tracer t = { .out = str_new(&a) };
    str_add(&t.out, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [");
    for (int32_t i = 0; i < n; i++) {
        bool other = i == 0 || !str_eq(steps[i].variant, steps[i - 1].variant);
        t.pid += other;
        t.tid = other ? 1 : t.tid + 1;
        if (other)
            event_label(&t, "process_name", steps[i].variant);
        event_label(&t, "thread_name", steps[i].what);
        trace_step(&a, &t, &steps[i]);
    }
    str_add(&t.out, "\n]}\n");
    bool ok = file_write_atomic(&s->diag, file, t.out.s, (size_t)t.out.len);
    arena_free(&a);
    return ok;
}
