/* parse_stmt.c: statements. Lanes that do not take part in a branch wait in masks; the layout of the code:
 *
 *     if       if c, else_mask, ->E | then | E: else (lanes done wait in then_mask; ->J) | ... | J: join
 *     loop     loop (masks empty) | L: cond | test (lanes that are done go to exit_mask; ->X) | body
 *              | rejoin (those that continue) | step | back ->L | X: endloop (exit_mask again active)
 *
 * Where a statement may have taken all lanes away (break, continue, return), a `skip` jumps to the end of the construct
 * around it. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/parse.h"

/* ---- Jumps to the end of a construct ---- */

static void jump_on(Parser *p, int32_t inst, Jumps *jumps)
{
    vec_push(p->a, jumps, inst);
}

static void jumps_land(Parser *p, const Jumps *jumps)
{
    for (int32_t i = 0; i < jumps->len && !p->failed; i++)
        p->k->code.at[jumps->at[i]].target = p->k->code.len;
}

/* Behind a construct that may have taken lanes away. */
static void skip_if_none(Parser *p, int32_t left_before)
{
    if (p->left != left_before && p->jumps)
        jump_on(p, sim_emit(p, (Inst){ .op = OP_skip }), p->jumps);
}

/* ---- Constructs ---- */

static void parse_scoped(Parser *p)
{
    int32_t syms = p->syms.len, slot = p->next_slot;
    parse_statement(p);
    p->syms.len = syms;
    p->next_slot = slot;
}

/* A statement whose code is left out: what is decided while the text is read. */
static void parse_unreached(Parser *p)
{
    int32_t code = p->k->code.len, left = p->left;
    Jumps  *outer = p->jumps, none = { 0 };
    p->jumps = &none;
    parse_scoped(p);
    p->jumps = outer;
    p->k->code.len = p->failed ? p->k->code.len : code;
    p->left = left;
}

static void parse_decided_if(Parser *p, bool yes)
{
    (yes ? parse_scoped : parse_unreached)(p);
    if (parse_accept_word(p, KW_else))
        (yes ? parse_unreached : parse_scoped)(p);
}

static void parse_if(Parser *p)
{
    int32_t mark = p->next_slot, left = p->left, wait = slot_new(p, 2);
    Jumps  *outer = p->jumps, then = { 0 }, otherwise = { 0 };
    Val     c = parse_paren_condition(p);
    if (c.kind == VAL_CONST) {
        p->next_slot = mark;
        parse_decided_if(p, c.bits != 0);
        skip_if_none(p, left);
        return;
    }
    int32_t at = sim_emit_op(p, OP_if, wait, val_slot(p, &c, 0), 0, 0);
    p->next_slot = mark + 2;
    jump_on(p, at, &then);
    p->jumps = &then;
    parse_scoped(p);
    jumps_land(p, &then);
    if (parse_accept_word(p, KW_else)) {
        jump_on(p, sim_emit(p, (Inst){ .op = OP_else, .d = { wait, wait + 1 } }), &otherwise);
        p->jumps = &otherwise;
        parse_scoped(p);
        jumps_land(p, &otherwise);
        wait++;
    }
    sim_emit_op(p, OP_join, wait, 0, 0, 0);
    p->jumps = outer;
    p->next_slot = mark;
    skip_if_none(p, left);
}

/* Parts of a loop that stand before the body in the text and behind it in the code are read twice or skipped. */
typedef struct LoopText {
    Jumps  *outer_jumps;
    Loop   *outer, loop;
    Jumps   again, end;
    int32_t mark, syms, left, top, token;
} LoopText;

static void loop_open(Parser *p, LoopText *l)
{
    *l = (LoopText){ .outer_jumps = p->jumps,
                     .outer = p->loop,
                     .mark = p->next_slot,
                     .syms = p->syms.len,
                     .left = p->left,
                     .token = p->at - 1 };
}

/* Masks are emptied, the loop begins here. */
static void loop_begin(Parser *p, LoopText *l)
{
    l->loop.exit_mask = slot_new(p, 1);
    l->loop.again_mask = slot_new(p, 1);
    sim_emit(p, (Inst){ .op = OP_loop, .d = { l->loop.exit_mask } });
    sim_emit(p, (Inst){ .op = OP_loop, .d = { l->loop.again_mask } });
    l->top = p->k->code.len;
}

static void loop_test(Parser *p, LoopText *l, Val c)
{
    jump_on(p, sim_emit_op(p, OP_test, l->loop.exit_mask, val_slot(p, &c, 0), 0, 0), &l->end);
}

static void loop_body(Parser *p, LoopText *l)
{
    p->loop = &l->loop;
    p->jumps = &l->again;
    parse_scoped(p);
    jumps_land(p, &l->again);
    p->loop = l->outer;
    p->jumps = l->outer_jumps;
    if (l->loop.again || l->again.len)
        jump_on(p, sim_emit_op(p, OP_rejoin, l->loop.again_mask, 0, 0, 0), &l->end);
}

static void loop_close(Parser *p, LoopText *l)
{
    sim_emit(p, (Inst){ .op = OP_back, .target = l->top, .token = l->token });
    jumps_land(p, &l->end);
    sim_emit_op(p, OP_endloop, l->loop.exit_mask, 0, 0, 0);
    p->syms.len = l->syms;
    p->next_slot = l->mark;
    skip_if_none(p, l->left);
}

static void parse_while(Parser *p)
{
    LoopText l;
    loop_open(p, &l);
    loop_begin(p, &l);
    int32_t mark = p->next_slot;
    Val     c = parse_paren_condition(p);
    loop_test(p, &l, c);
    p->next_slot = mark;
    loop_body(p, &l);
    loop_close(p, &l);
}

static void parse_do(Parser *p)
{
    LoopText l;
    loop_open(p, &l);
    loop_begin(p, &l);
    loop_body(p, &l);
    if (!parse_accept_word(p, KW_while))
        parse_error(p, "'while' is expected after the body of do");
    int32_t mark = p->next_slot;
    Val     c = parse_paren_condition(p);
    loop_test(p, &l, c);
    p->next_slot = mark;
    parse_expect(p, ';', "after do ... while (...)");
    loop_close(p, &l);
}

static void parse_discarded(Parser *p)
{
    int32_t mark = p->next_slot;
    parse_expr(p);
    p->next_slot = mark;
}

static void parse_for(Parser *p)
{
    LoopText l;
    loop_open(p, &l);
    int32_t open = p->at, close = parse_matching(p, open);
    if (!parse_expect(p, '(', "after 'for'"))
        return;
    if (close < 0) {
        parse_error_at(p, open, "the parenthesis of this 'for' is not closed");
        return;
    }
    if (parse_at_type(p)) {
        parse_declaration(p);
    } else if (!parse_accept(p, ';')) {
        parse_discarded(p);
        parse_expect(p, ';', "in a 'for'");
    }
    loop_begin(p, &l);
    int32_t mark = p->next_slot;
    if (!parse_is(p, ';'))
        loop_test(p, &l, val_condition(p, parse_expr(p)));
    p->next_slot = mark;
    parse_expect(p, ';', "in a 'for'");
    int32_t step = p->at;
    if (p->failed)
        return;
    p->at = close + 1;
    loop_body(p, &l);
    int32_t behind = p->at;
    if (!p->failed && step != close) {
        p->at = step;
        parse_discarded(p);
        if (p->at != close)
            parse_error(p, "')' is expected after the step of 'for'");
    }
    if (!p->failed)
        p->at = behind;
    loop_close(p, &l);
}

/* ---- Leaving ---- */

static void leave_to(Parser *p, int32_t mask)
{
    sim_emit_op(p, OP_leave, mask, 0, 0, 0);
    p->left++;
}

static void parse_break(Parser *p, bool again)
{
    if (!p->loop) {
        parse_error_at(p, p->at - 1, "'%s' stands in no loop", again ? "continue" : "break");
        return;
    }
    p->loop->again = p->loop->again || again;
    leave_to(p, again ? p->loop->again_mask : p->loop->exit_mask);
    parse_expect(p, ';', again ? "after 'continue'" : "after 'break'");
}

static void parse_return(Parser *p)
{
    Body *b = p->body;
    bool  is_void = b->result.base == T_VOID && !b->result.ptr;
    Val   v = val_none();
    if (!parse_is(p, ';'))
        v = is_void ? parse_expr(p) : val_convert(p, parse_expr(p), b->result, false);
    if (!p->failed && is_void != (v.kind == VAL_NONE))
        parse_error(p, is_void ? "a void function returns no value" : "a value is to be returned");
    parse_expect(p, ';', "after 'return'");
    if (p->failed)
        return;
    if (b->kernel) {
        sim_emit(p, (Inst){ .op = OP_exit });
        p->left++;
    } else if (b->spread) {
        if (!is_void)
            val_assign(p, b->value, v);
        leave_to(p, b->mask);
    } else {
        b->value = v;
    }
}

static void parse_expression_statement(Parser *p)
{
    parse_discarded(p);
    parse_expect(p, ';', "after a statement");
}

static void parse_braces(Parser *p)
{
    int32_t syms = p->syms.len, slot = p->next_slot;
    parse_block(p);
    p->syms.len = syms;
    p->next_slot = slot;
}

void parse_block(Parser *p)
{
    while (!p->failed && !parse_is(p, '}') && parse_peek(p, 0)->kind != TOK_END)
        parse_statement(p);
    parse_expect(p, '}', "at the end of a block");
}

void parse_statement(Parser *p)
{
    static const int32_t unknown[] = { KW_goto, KW_switch, KW_struct, KW_template, KW_typedef, KW_auto, KW_double };
    if (!parse_deeper(p))
        return;
    for (int32_t i = 0; i < DT_COUNT(unknown); i++)
        if (parse_is_word(p, unknown[i]))
            parse_error(p, "'%s' is not simulated", parse_token_text(p, p->at));
    if (parse_accept(p, '{'))
        parse_braces(p);
    else if (parse_accept(p, ';'))
        (void)0;
    else if (parse_accept_word(p, KW_if))
        parse_if(p);
    else if (parse_accept_word(p, KW_for))
        parse_for(p);
    else if (parse_accept_word(p, KW_while))
        parse_while(p);
    else if (parse_accept_word(p, KW_do))
        parse_do(p);
    else if (parse_accept_word(p, KW_break))
        parse_break(p, false);
    else if (parse_accept_word(p, KW_continue))
        parse_break(p, true);
    else if (parse_accept_word(p, KW_return))
        parse_return(p);
    else if (parse_at_type(p))
        parse_declaration(p);
    else
        parse_expression_statement(p);
    p->depth--;
}
