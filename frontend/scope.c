/* scope.c: names. Scopes nest ("s1.b0"), layers count by kind within a scope ("s1.b0.conv1"), every name is unique.
 *
 * A scope is a `for` loop that runs once, so `return` and `break` leave it open. Nothing tells us at that moment: it
 * shows when the scope around it closes, when the function ends, or when so many are open that it must be a loop.
 *
 * Tested by tests/unit/test_dsl.c, tests/unit/test_diag_dsl.c. */
#include "frontend/context.h"

#include <string.h>

const char *context_scope(const DtContext *ctx)
{
    return ctx->scopes.len > 0 ? ctx->scopes.at[ctx->scopes.len - 1].path : NULL;
}

/* Name and parts of names: what globs and files can hold. Dots part scopes. */
static bool name_is_clean(const char *name, bool dots)
{
    static const char clean[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t            len = strlen(name);
    if (len == 0 || strspn(name, clean) != len)
        return false;
    if (!dots)
        return !strchr(name, '.');
    return name[0] != '.' && name[len - 1] != '.' && !strstr(name, "..");
}

static const char *join(DtContext *ctx, const char *name)
{
    const char *scope = context_scope(ctx);
    return scope ? arena_printf(ctx->arena, "%s.%s", scope, name) : arena_strdup(ctx->arena, name);
}

/* ---- Layers ------------------------------------------------------------------------------------------------------ */

static const char *next_default_name(DtContext *ctx, const char *kind)
{
    const char *stem = join(ctx, kind);
    int32_t     n = strmap_get(&ctx->counters, stem);
    const char *name;
    do { /* a name that was given by hand may be in the way */
        n = n < 0 ? 1 : n + 1;
        name = arena_printf(ctx->arena, "%s%d", stem, n);
    } while (strmap_get(&ctx->names, name) >= 0);
    strmap_put(&ctx->counters, stem, n);
    return name;
}

static bool check_given_name(DtContext *ctx, const char *op, const char *name, const char *full, Loc at)
{
    if (!name_is_clean(name, false)) {
        diag_error(ctx->b.d, at, "%s: the name \"%s\" must be letters, digits, '_' and '-'", op, name);
        diag_help(ctx->b.d, "dots come from scopes: dt_scope(\"s0\")");
        return false;
    }
    int32_t taken = strmap_get(&ctx->names, full);
    if (taken < 0)
        return true;
    diag_error(ctx->b.d, at, "%s: the name \"%s\" is taken", op, full);
    diag_note(ctx->b.d, ctx->layers.at[taken].at, "by this %s", ctx->layers.at[taken].op);
    diag_help(ctx->b.d, "give another .name, or put each into a scope of its own: dt_scope(\"b%%d\", i)");
    return false;
}

const char *context_take_name(DtContext *ctx, const char *op, const char *kind, const char *name, Loc at)
{
    const char *full;
    if (!name) {
        full = next_default_name(ctx, kind);
    } else {
        full = join(ctx, name);
        if (!check_given_name(ctx, op, name, full, at))
            return NULL;
    }
    strmap_put(&ctx->names, full, ctx->layers.len);
    vec_push(ctx->arena, &ctx->layers, (LayerEntry){ op, at });
    return ctx->prefix ? arena_printf(ctx->arena, "%s%s", ctx->prefix, full) : full;
}

/* ---- Scopes ------------------------------------------------------------------------------------------------------ */

void context_drop_scopes(DtContext *ctx, int32_t depth)
{
    for (int32_t i = depth; i < ctx->scopes.len; i++) {
        const ScopeEntry *s = &ctx->scopes.at[i];
        bool              said = false; /* a loop loses the same scope many times: one mistake */
        for (int32_t j = depth; j < i && !said; j++)
            said = ctx->scopes.at[j].at.line == s->at.line && str_eq(ctx->scopes.at[j].at.file, s->at.file);
        if (said)
            continue;
        diag_error(ctx->b.d, s->at, "dt_scope: \"%s\" is opened here and never closed", s->path);
        diag_help(ctx->b.d, "do not leave the block by return, break or goto; `continue` leaves it properly");
    }
    ctx->scopes.len = depth;
}

DtScope dt_scope_open(DtContext *ctx, DtAt at, const char *fmt, ...)
{
    if (!ctx || ctx->closed) /* opened through a poisoned tensor: the block runs, unnamed */
        return (DtScope){ NULL, 0, true };
    va_list ap;
    va_start(ap, fmt);
    const char *name = arena_vprintf(ctx->arena, fmt, ap);
    va_end(ap);

    if (!name_is_clean(name, true)) {
        diag_error(ctx->b.d, loc_of(at),
                   "dt_scope: the name \"%s\" must be letters, digits, '_', '-', and dots between them", name);
        name = "bad";
    }
    if (ctx->scopes.len >= DSL_MAX_SCOPES) {
        if (!context_failed(ctx)) {
            diag_error(ctx->b.d, loc_of(at), "dt_scope: more than %d scopes are open", DSL_MAX_SCOPES);
            diag_note(ctx->b.d, ctx->scopes.at[0].at, "the outermost, \"%s\", is opened here", ctx->scopes.at[0].path);
            diag_help(ctx->b.d, "do not leave the block by return, break or goto; check that the recursion ends");
        }
        return (DtScope){ NULL, 0, true };
    }
    int32_t depth = ctx->scopes.len;
    vec_push(ctx->arena, &ctx->scopes, (ScopeEntry){ join(ctx, name), loc_of(at) });
    return (DtScope){ ctx, depth, true };
}

void dt_scope_close(DtScope *s)
{
    s->open = false;
    if (!s->ctx || s->depth >= s->ctx->scopes.len)
        return;
    context_drop_scopes(s->ctx, s->depth + 1); /* what was opened inside and left without a close */
    s->ctx->scopes.len = s->depth;
}
