/* test_import.c: `detent import`. Files as PyTorch's users have them are written here - names of networks.json, values
 * of the formula - then imported and evaluated: outputs equal those that PyTorch has from these weights. And every
 * mistake that such a file can hold. */
#include "tests/unit/nets_fixture.h"

#include <unistd.h>

#define LOGITS 1e-5

typedef struct Files {
    char dir[64], theirs[96], ours[96];
} Files;

static int files_make(void **state)
{
    Files *f = calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/detent-import-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->theirs, sizeof f->theirs, "%s/theirs.safetensors", f->dir);
    snprintf(f->ours, sizeof f->ours, "%s/ours.safetensors", f->dir);
    *state = f;
    return 0;
}

static int files_drop(void **state)
{
    Files *f = *state;
    unlink(f->theirs);
    unlink(f->ours);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

/* ---- A state dict ------------------------------------------------------------------------------------------------ */

typedef struct StateDict {
    Arena       a;
    Diag        d;
    StFile      file;
    const char *prefix; /* "module." of nn.DataParallel */
} StateDict;

static void dict_add(StateDict *s, const char *name, const Value *v, int32_t rank)
{
    int64_t     elems = shape_elems(v->type.shape);
    const Shape shape = v->type.shape;
    StTensor    t = { .name = arena_printf(&s->a, "%s%s", s->prefix, name),
                      .dtype = DTYPE_F32,
                      .rank = rank,
                      .elems = elems,
                      .bytes = 4 * elems,
                      .data = net_value(&s->a, 11, v->name, shape.dim[0], elems) };
    for (int32_t i = 0; i < rank; i++)
        t.dim[i] = i < shape.rank ? shape.dim[i] : 1;
    vec_push(&s->a, &s->file.tensors, t);
}

/* All of a module's tensors; PyTorch's squeeze and excitation is made of convolutions of 1x1. */
static void dict_add_module(StateDict *s, const Graph *g, const char *theirs, const char *ours)
{
    static const char *const words[][2] = { { "weight", "weight" },
                                            { "bias", "bias" },
                                            { "weight", "gamma" },
                                            { "bias", "beta" },
                                            { "running_mean", "running_mean" },
                                            { "running_var", "running_var" } };
    bool                     gate = strstr(ours, ".se.") != NULL, found = false;
    static const int32_t     batches = 7;
    for (int32_t i = 0; i < DT_COUNT(words); i++) {
        ValueId id = ir_find(g, arena_printf(&s->a, "%s.%s", ours, words[i][1]));
        if (id == VALUE_NONE)
            continue;
        const Value *v = ir_value(g, id);
        dict_add(s, arena_printf(&s->a, "%s.%s", theirs, words[i][0]), v, gate && i == 0 ? 4 : v->type.shape.rank);
        found = true;
        if (i == 5)
            vec_push(&s->a, &s->file.tensors,
                     (StTensor){ .name = arena_printf(&s->a, "%s%s.num_batches_tracked", s->prefix, theirs),
                                 .dtype = DTYPE_I32,
                                 .elems = 1,
                                 .bytes = 4,
                                 .data = &batches });
    }
    if (!found)
        fail_msg("%s: the network has no layer %s", theirs, ours);
}

static void dict_open(StateDict *s, const json_t *form, const char *prefix)
{
    *s = (StateDict){ .a = arena_new("dict"), .d = diag_new(stderr), .prefix = prefix };
    const DtModel *model = frontend_find(&s->a, &s->d, text(form, "net"));
    assert_non_null(model);
    const Graph  *g = frontend_build(&s->a, &s->d, model, 1, STEP_EVAL);
    const json_t *modules = member(form, "modules");
    for (size_t i = 0; i < json_array_size(modules); i++) {
        char *pair = arena_strdup(&s->a, json_string_value(json_array_get(modules, i))), *blank = strchr(pair, ' ');
        *blank = 0;
        dict_add_module(s, g, pair, blank + 1);
    }
}

static void dict_close(StateDict *s)
{
    diag_free(&s->d);
    arena_free(&s->a);
}

static StTensor *dict_tensor(StateDict *s, const char *name)
{
    int32_t i = st_find(&s->file, name);
    if (i < 0)
        fail_msg("no tensor %s", name);
    return &s->file.tensors.at[i];
}

static const json_t *find_form(const json_t *root, const char *form, const char *net)
{
    const json_t *forms = member(root, "state_dicts");
    for (size_t i = 0; i < json_array_size(forms); i++) {
        const json_t *f = json_array_get(forms, i);
        if (str_eq(text(f, "form"), form) && str_eq(text(f, "net"), net))
            return f;
    }
    fail_msg("no %s of form %s", net, form);
    return NULL;
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

/* What it said, in `said`. */
static int import(const char *net, const Files *f, const char *more, char *said, size_t room)
{
    Session s = { .arena = arena_new("import"), .diag = diag_new(NULL), .program = "detent", .out = stderr };
    char   *argv[] = { arena_printf(&s.arena, "--out=%s", f->ours), arena_strdup(&s.arena, more) };
    StrList rest = { 0 };
    assert_true(cli_parse(&s.arena, &s.diag, ~0u, more[0] != 0 ? 2 : 1, argv, &s.opt, &rest));
    vec_push(&s.arena, &rest, net);
    vec_push(&s.arena, &rest, f->theirs);
    s.opt.quiet = true;
    assert_true(session_open(&s, frontend_find(&s.arena, &s.diag, net)));
    int code = command_import(&s, &rest);
    snprintf(said, room, "%s", s.diag.text.s != NULL ? s.diag.text.s : "");
    session_close(&s);
    return code;
}

static void check_form(const Files *f, const json_t *root, const json_t *form, const char *prefix)
{
    StateDict   dict;
    Net         n;
    char        said[2000];
    const char *net = text(form, "net");
    dict_open(&dict, form, prefix);
    assert_true(st_write(&dict.d, f->theirs, &dict.file));
    if (import(net, f, "", said, sizeof said) != EXIT_OK)
        fail_msg("%s of form %s: %s", net, text(form, "form"), said);
    StFile *got = st_read(&dict.a, &dict.d, f->ours);
    assert_string_equal(st_meta(got, "imported_as"), text(form, "form"));
    assert_string_equal(st_meta(got, "imported_from"), "theirs.safetensors");
    dict_close(&dict);

    const json_t *ref = networks_find(root, net);
    net_open(&n, root, ref, "cpu");
    assert_true(session_adopt(&n.s, f->ours));
    n.eval = net_load(&n, STEP_EVAL);
    assert_true(checkpoint_load(&n.s.diag, f->ours, n.eval, NULL));
    net_batch(&n, n.eval);
    assert_true(exec_run(n.eval.exec, n.eval.index));
    check_logits(&n, ref, LOGITS);
    net_close(&n);
}

static void test_forms(void **state)
{
#if defined(DT_HAVE_LLVM) && defined(DT_HAVE_ONEDNN)
    json_t       *root = networks_read();
    const json_t *forms = member(root, "state_dicts");
    assert_int_equal(json_array_size(forms), 7);
    for (size_t i = 0; i < json_array_size(forms); i++)
        check_form(*state, root, json_array_get(forms, i), i % 2 == 0 ? "module." : "");
    json_decref(root);
#else
    (void)state;
    skip();
#endif
}

/* ---- Mistakes ---------------------------------------------------------------------------------------------------- */

static float lonely[64];

static void  without_one(StateDict *s)
{
    *dict_tensor(s, "conv1.weight") = s->file.tensors.at[--s->file.tensors.len];
}
static void with_one_more(StateDict *s)
{
    vec_push(&s->a, &s->file.tensors,
             (StTensor){ .name = "fc9.weight",
                         .dtype = DTYPE_F32,
                         .rank = 1,
                         .dim = { 2 },
                         .elems = 2,
                         .bytes = 8,
                         .data = lonely });
}
static void with_one_twice(StateDict *s)
{
    StTensor t = *dict_tensor(s, "linear.bias");
    t.name = "fc.bias";
    vec_push(&s->a, &s->file.tensors, t);
}
static void of_another_shape(StateDict *s)
{
    StTensor *t = dict_tensor(s, "linear.weight");
    t->dim[0] = 5;
    t->elems = 5 * 64;
    t->bytes = 4 * t->elems;
}
static void of_another_type(StateDict *s)
{
    dict_tensor(s, "bn1.weight")->dtype = DTYPE_I32;
}
static void with_a_nan(StateDict *s)
{
    StTensor *t = dict_tensor(s, "bn1.bias");
    float    *x = arena_copy(&s->a, t->data, (size_t)t->bytes);
    x[3] = NAN;
    t->data = x;
}

static void test_mistakes(void **state)
{
    static const struct {
        void (*spoil)(StateDict *s);
        const char *said[3];
    } cases[] = {
        { without_one, { "lacks 1 of the 97 tensors of resnet20: stem.conv1.weight", "read as akamaster" } },
        { with_one_more, { "has 1 tensors that resnet20 has not: fc9.weight" } },
        { with_one_twice, { "both linear.bias and fc.bias are head.bias" } },
        { of_another_shape, { "linear.weight is 5x64, but head.weight of resnet20 is 10x64", "--classes=5" } },
        { of_another_type, { "bn1.weight is of type I32, expected F32" } },
        { with_a_nan, { "bn1.bias holds NaN at element 3 of 16" } },
    };
    Files  *f = *state;
    json_t *root = networks_read();
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        StateDict dict;
        char      said[2000];
        dict_open(&dict, find_form(root, "akamaster", "resnet20"), "");
        cases[i].spoil(&dict);
        assert_true(st_write(&dict.d, f->theirs, &dict.file));
        assert_int_equal(import("resnet20", f, "", said, sizeof said), EXIT_MISTAKE);
        for (int32_t k = 0; k < DT_COUNT(cases[i].said) && cases[i].said[k] != NULL; k++)
            if (strstr(said, cases[i].said[k]) == NULL)
                fail_msg("expected \"%s\" in:\n%s", cases[i].said[k], said);
        assert_int_not_equal(access(f->ours, F_OK), 0);
        dict_close(&dict);
    }
    json_decref(root);
}

/* Of another network: said in two lines, not in a hundred. */
static void test_another_network(void **state)
{
    Files    *f = *state;
    json_t   *root = networks_read();
    StateDict dict;
    char      said[4000];
    dict_open(&dict, find_form(root, "akamaster", "resnet20_b"), "");
    assert_true(st_write(&dict.d, f->theirs, &dict.file));
    assert_int_equal(import("mnist", f, "", said, sizeof said), EXIT_MISTAKE);
    assert_non_null(strstr(said, "lacks"));
    assert_non_null(strstr(said, "more"));
    assert_true(strlen(said) < 1500);
    assert_int_equal(import("resnet20", f, "", said, sizeof said), EXIT_MISTAKE);
    assert_non_null(strstr(said, "has 10 tensors that resnet20 has not: layer2.0.shortcut.0.weight"));
    dict_close(&dict);
    json_decref(root);
}

/* With another number of classes the checkpoint says so itself. */
static void test_classes(void **state)
{
    Files    *f = *state;
    json_t   *root = networks_read();
    StateDict dict;
    char      said[2000];
    dict_open(&dict, find_form(root, "akamaster", "resnet20"), "");
    of_another_shape(&dict);
    StTensor *bias = dict_tensor(&dict, "linear.bias");
    bias->dim[0] = bias->elems = 5;
    bias->bytes = 20;
    assert_true(st_write(&dict.d, f->theirs, &dict.file));
    assert_int_equal(import("resnet20", f, "--classes=5", said, sizeof said), EXIT_OK);
    StFile *got = st_read(&dict.a, &dict.d, f->ours);
    assert_non_null(got);
    assert_string_equal(st_meta(got, "net"), "resnet20");
    assert_string_equal(st_meta(got, "sizes"), "--classes=5");
    assert_int_equal(got->tensors.at[st_find(got, "head.weight")].dim[0], 5);
    dict_close(&dict);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_forms, files_make, files_drop),
        cmocka_unit_test_setup_teardown(test_mistakes, files_make, files_drop),
        cmocka_unit_test_setup_teardown(test_another_network, files_make, files_drop),
        cmocka_unit_test_setup_teardown(test_classes, files_make, files_drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
