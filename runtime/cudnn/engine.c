/* engine.c: which engine computes a graph.
 *
 * The library ranks engines (its heuristics, then a list that nearly always works). Those remain that give the same
 * bits each time, compute as `math` asks (an engine's notes say how), take operands as they lie, finish a plan, and
 * whose work space fits. The first is taken, or the fastest by measurement (tune.c). The choice is kept on disk as the
 * library's own text of the plan, under all that it depends on.
 *
 * Tested by tests/unit/test_cudnn.c: the choice for each call of two networks, hits, entries that do not load. */
#include "runtime/cudnn/cudnn_impl.h"

#include <string.h>

enum { MOST_CANDIDATES = 64, NOTES = 16 };
static const int64_t default_cap = (int64_t)64 << 20;

typedef struct Search {
    Cudnn         *c;
    CudnnDesc      graph;
    uint32_t       forbidden; /* notes */
    int64_t        cap;
    int32_t        most; /* candidates that are wanted */
    int32_t        offered, repeats, differs, reorders, large, refused;
    CudnnFailure   last; /* why one refused */
    CudnnCandidate found[MOST_CANDIDATES];
    int32_t        n;
} Search;

/* ---- One engine ------------------------------------------------------------------------------------------------- */

static uint32_t notes_of(Cudnn *c, CudnnDesc engine, int attr, int type)
{
    int      notes[NOTES];
    int64_t  n = desc_get(c, engine, attr, type, NOTES, notes);
    uint32_t bits = 0;
    for (int64_t i = 0; i < n && i < NOTES; i++)
        if (notes[i] >= 0 && notes[i] < 32)
            bits |= 1u << notes[i];
    return bits;
}

/* What a configuration's engine is. */
static void engine_of(Cudnn *c, CudnnDesc config, CudnnCandidate *out)
{
    CudnnDescs keep = { 0 };
    CudnnDesc  engine = desc_new(c, &keep, DESC_ENGINE);
    int64_t    index = -1;
    desc_get(c, config, CONFIG_ENGINE, AS_DESC, 1, &engine);
    desc_get(c, engine, ENGINE_INDEX, AS_INT64, 1, &index);
    out->engine = (int32_t)index;
    out->notes = notes_of(c, engine, ENGINE_NUMERICAL_NOTES, AS_NUMERICAL_NOTE);
    out->behavior = notes_of(c, engine, ENGINE_BEHAVIOR_NOTES, AS_BEHAVIOR_NOTE);
    descs_free(c, &keep);
}

static void plan_device(Cudnn *c, CudnnDesc plan)
{
    if (c->handle)
        desc_set(c, plan, PLAN_HANDLE, AS_HANDLE, 1, &c->handle);
    else
        desc_set_desc(c, plan, PLAN_DEVICE, c->device.at[0]);
}

/* False: it does not finish, and *out says why, or c->failure. Engines that cannot do it after all are told from those
 * that can by this alone. */
static bool try_finish(Cudnn *c, CudnnDesc desc, const char *what, CudnnFailure *out)
{
    if (c->failure.status)
        return false;
    CudnnStatus status = c->api->finalize(desc);
    if (status)
        cudnn_fail(c, out, status, "cudnnBackendFinalize", what);
    return status == 0;
}

static int64_t plan_workspace(Cudnn *c, CudnnDesc plan)
{
    int64_t bytes = 0;
    desc_get(c, plan, PLAN_WORKSPACE, AS_INT64, 1, &bytes);
    return bytes;
}

/* ---- The search ------------------------------------------------------------------------------------------------- */

/* NULL, or the count of those that are left out for the same reason. */
static int32_t *unfit(Search *s, const CudnnCandidate *k)
{
    return k->notes & NOTE_NONDETERMINISTIC            ? &s->repeats
           : k->notes & s->forbidden                   ? &s->differs
           : k->behavior & BEHAVIOR_REORDERED_OPERANDS ? &s->reorders
                                                       : NULL;
}

/* The configuration is the candidate's, or freed. */
static void take(Search *s, CudnnDesc config)
{
    Cudnn         *c = s->c;
    CudnnCandidate k = { .keep = { { config }, 1 } };
    s->offered++;
    engine_of(c, config, &k);
    int32_t *why = unfit(s, &k);
    if (!why && !c->failure.status) {
        k.plan = desc_new(c, &k.keep, DESC_PLAN);
        plan_device(c, k.plan);
        desc_set_desc(c, k.plan, PLAN_CONFIG, config);
        if (!try_finish(c, k.plan, "plan", &s->last))
            why = &s->refused;
        else if ((k.workspace = plan_workspace(c, k.plan)) > s->cap)
            why = &s->large;
    }
    if (why)
        (*why)++;
    if (why || c->failure.status)
        descs_free(c, &k.keep);
    else
        s->found[s->n++] = k;
}

/* What the library offers in a mode, best first. */
static void search_mode(Search *s, int mode)
{
    Cudnn     *c = s->c;
    Arena      scratch = arena_new("cudnn search");
    CudnnDescs keep = { 0 };
    CudnnDesc  heuristics = desc_new(c, &keep, DESC_HEURISTICS), *configs = NULL;
    int64_t    n = 0, made = 0, filled = 0;
    desc_set_desc(c, heuristics, HEURISTICS_GRAPH, s->graph);
    desc_set_number(c, heuristics, HEURISTICS_MODE, AS_HEURISTICS_MODE, mode);
    if (!c->handle)
        desc_set_desc(c, heuristics, HEURISTICS_DEVICE, c->device.at[0]);
    if (try_finish(c, heuristics, "heuristics", &s->last))
        n = desc_get(c, heuristics, HEURISTICS_RESULTS, AS_DESC, 0, NULL);
    configs = ARENA_ARRAY(&scratch, CudnnDesc, n + 1);
    while (made < n && cudnn_ok(c, c->api->create(DESC_CONFIG, &configs[made]), "cudnnBackendCreateDescriptor", ""))
        made++;
    if (n > 0)
        filled = desc_get(c, heuristics, HEURISTICS_RESULTS, AS_DESC, made, configs);
    for (int64_t i = 0; i < made; i++)
        if (i < filled && s->n < s->most && !c->failure.status)
            take(s, configs[i]);
        else
            (void)c->api->destroy(configs[i]);
    descs_free(c, &keep);
    arena_free(&scratch);
}

/* "28 engines: 20 compute with other precision, ...": why none was found. */
static void explain(const Search *s, const char *name, Str *why)
{
    const struct {
        int32_t     n;
        const char *text;
    } counts[] = {
        { s->repeats, "do not give the same bits each time" },
        { s->differs, "compute with other precision" },
        { s->reorders, "want operands in another order" },
        { s->large, "need more work space" },
        { s->refused, "refuse" },
    };
    const char *before = ": ";
    str_printf(why, "%s: %d engines", name, s->offered);
    for (int32_t i = 0; i < DT_COUNT(counts); i++)
        if (counts[i].n > 0) {
            str_printf(why, "%s%d %s", before, counts[i].n, counts[i].text);
            before = ", ";
        }
    if (s->last.status)
        str_printf(why, "; %s", s->last.text);
    str_add(why, "\n");
}

/* ---- On disk ---------------------------------------------------------------------------------------------------- */

static const char plan_head[] = "engine %d notes %u behavior %u\n";

/* The library's text of a plan holds the graph, the device, the engine and, of those compiled at run time, their code.
 */
static void store(Cudnn *c, const char *key, const CudnnCandidate *k)
{
    Arena   a = arena_new("cudnn store");
    int64_t bytes = desc_get(c, k->plan, PLAN_JSON, AS_CHAR, 0, NULL);
    char   *text = ARENA_ARRAY(&a, char, bytes + 1);
    if (bytes > 0 && desc_get(c, k->plan, PLAN_JSON, AS_CHAR, bytes, text) == bytes) {
        Str all = str_new(&a);
        str_printf(&all, plan_head, k->engine, k->notes, k->behavior);
        str_addn(&all, text, (size_t)bytes);
        cache_store(c->opt.cache_dir, "plan", key, all.s, all.len);
    }
    if (c->failure.status) /* the plan is there; only its text is not */
        log_info("%s: a plan is not kept: %s", c->face.name, c->failure.text);
    cudnn_clear(c);
    arena_free(&a);
}

static bool load(Cudnn *c, const char *key, int64_t cap, CudnnCandidate *k)
{
    Arena        a = arena_new("cudnn load");
    size_t       bytes = 0;
    const char  *text = cache_load(&a, c->opt.cache_dir, "plan", key, &bytes), *json = NULL;
    CudnnFailure why = { 0 };
    bool         ok = false;
    if (text && sscanf(text, plan_head, &k->engine, &k->notes, &k->behavior) == 3)
        json = memchr(text, '\n', bytes);
    if (json) {
        k->plan = desc_new(c, &k->keep, DESC_PLAN);
        plan_device(c, k->plan);
        desc_set(c, k->plan, PLAN_JSON, AS_CHAR, (int64_t)bytes - (json + 1 - text), json + 1);
        ok = try_finish(c, k->plan, "stored plan", &why) && (k->workspace = plan_workspace(c, k->plan)) <= cap;
        ok = ok && !c->failure.status;
    }
    if (text && !ok) {
        log_info("%s: a stored plan is of no use, and made anew%s%s", c->face.name, why.status ? ": " : "", why.text);
        descs_free(c, &k->keep);
        cudnn_clear(c);
    }
    arena_free(&a);
    return ok;
}

static const char *key_of(Cudnn *c, Arena *a, const CudnnStage *st, const char *call, uint32_t forbidden, int64_t cap)
{
    return arena_printf(a, "cudnn plan 1\n%s\nsm %d\ncudnn %d\ndriver %d\n%s\n%s\nforbidden %u\nwork space %lld\n%s",
                        c->gpu ? c->gpu->name : "no GPU", c->sm, c->version, c->gpu ? c->gpu->driver_version : 0, call,
                        st->name, forbidden, (long long)cap, c->opt.autotune ? "fastest" : "first");
}

/* ---- The choice ------------------------------------------------------------------------------------------------- */

static void settle(CudnnStage *st, const CudnnCandidate *k)
{
    for (int32_t i = 0; i < k->keep.n; i++) {
        DT_ASSERT(st->keep.n < DESCS_MAX, "%d descriptors", st->keep.n);
        st->keep.at[st->keep.n++] = k->keep.at[i];
    }
    st->plan = k->plan;
    st->workspace = k->workspace;
    st->engine = k->engine;
    st->notes = k->notes;
    st->behavior = k->behavior;
}

static void search(Search *s, CudnnStage *st)
{
    search_mode(s, HEURISTICS_A);
    if (s->n < s->most)
        search_mode(s, HEURISTICS_FALLBACK);
    int32_t best = s->n > 1 && !s->c->failure.status ? cudnn_tune(s->c, st, s->found, s->n) : 0;
    for (int32_t i = 0; i < s->n; i++)
        if (i != best || s->c->failure.status)
            descs_free(s->c, &s->found[i].keep);
    if (s->n > 0)
        s->found[0] = s->found[best];
}

bool cudnn_choose(Cudnn *c, CudnnStage *st, CudnnDesc graph, uint32_t forbidden, const char *call, Str *why)
{
    Arena          a = arena_new("cudnn choose");
    Search        *s = ARENA_NEW(&a, Search);
    CudnnCandidate k = { 0 };
    *s = (Search){ .c = c, .graph = graph, .forbidden = forbidden };
    s->cap = c->opt.workspace_cap > 0 ? c->opt.workspace_cap : default_cap;
    s->most = c->opt.autotune && c->gpu ? MOST_CANDIDATES : 1;
    const char *key = key_of(c, &a, st, call, forbidden, s->cap);
    st->cached = c->opt.cache_dir && !c->failure.status && load(c, key, s->cap, &k);
    if (!st->cached && !c->failure.status) {
        search(s, st);
        k = s->found[0];
        if (s->n > 0 && !c->failure.status && c->opt.cache_dir)
            store(c, key, &k);
        if (s->n == 0 && !c->failure.status)
            explain(s, st->name, why);
    }
    bool ok = !c->failure.status && (st->cached || s->n > 0);
    if (ok)
        settle(st, &k);
    arena_free(&a);
    return ok;
}
