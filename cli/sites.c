/* sites.c: where the quantizers of a network are, in the runtime's words: passes say PassCtx.quantizers, calibration
 * and diagnosis want QuantSite (runtime/calibrate.h). The runtime knows no graph, so the two meet here.
 *
 * Tested by tests/unit/test_sensitivity.c. */
#include "cli/cli.h"

static bool site_of(Session *s, const QuantizerInfo *q, QuantSite *out)
{
    *out = (QuantSite){
        .name = q->name,
        .layer = q->layer,
        .role = q->role,
        .bits = q->bits,
        .lo = q->lo,
        .hi = q->hi,
        .steps = q->steps,
        .axis = q->axis,
        .elems = q->elems,
        .affine = q->affine,
        .step = q->step,
        .offset = q->offset,
        .min = q->min,
        .max = q->max,
        .percentile = q->percentile,
        .observed = q->observed,
    };
    if (calibrate_parse(q->calibrate, &out->kind))
        return true;
    diag_error(&s->diag, LOC_NONE, "calibrate: expected %s, found '%s' for %s", CALIBRATE_CHOICES, q->calibrate,
               q->name);
    return false;
}

/* The graph as far as quantizers are in it; nothing of it is printed, as other steps of the run are. */
static Graph *sites_graph(Session *s, PassCtx *ctx)
{
    char       *only[] = { arena_strdup(&s->arena, "--stop-after=insert-quantize") };
    PassOptions asked = s->opt.pass, opt;
    StrList     rest = { 0 };
    if (!opts_parse(&s->arena, &s->diag, pass_option_defs, pass_n_option_defs, DT_COUNT(only), only, &opt, &rest))
        return NULL;
    opt.disable = asked.disable;
    opt.crash_dir = asked.crash_dir;
    s->opt.pass = opt;
    Graph *g = session_graph(s, STEP_OBSERVE, ctx, NULL);
    s->opt.pass = asked;
    return g;
}

bool session_quant_sites(Session *s, const QuantSite **out, int32_t *n)
{
    PassCtx ctx;
    *out = NULL;
    *n = 0;
    if (!recipe_quantizes(&s->recipe))
        return true;
    if (sites_graph(s, &ctx) == NULL)
        return false;
    QuantSite *sites = ARENA_ARRAY(&s->arena, QuantSite, ctx.quantizers.len);
    for (int32_t i = 0; i < ctx.quantizers.len; i++)
        if (!site_of(s, &ctx.quantizers.at[i], &sites[i]))
            return false;
    *out = sites;
    *n = ctx.quantizers.len;
    return true;
}
