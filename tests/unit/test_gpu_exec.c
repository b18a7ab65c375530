/* test_gpu_exec.c: programs on a simulated GPU: however steps are run - plain, as a graph, timed, waited for or not,
 * with streams that do their work as late as they may - they give the bits of the same step in plain C. Then programs
 * that share params, memory that is too little, kernels that go wrong, a failure at every call of the driver, and the
 * null GPU. */
#include "tests/unit/gpu_faults.h"
#include "tests/unit/gpu_net.h"

/* ---- Surroundings ---------------------------------------------------------------------------------------------- */

static void open_gpu(GpuFixture *f, int64_t memory)
{
    f->t = cuda_driver_sim(&f->a, &f->d, memory);
    f->gpu = gpu_open(&f->a, &f->d, f->t, 0);
    assert_non_null(f->gpu);
}

static Exec *exec_here(GpuFixture *f, ExecOptions opt)
{
    return exec_new_gpu(&f->a, &f->d, f->gpu, calllib_gpu_reference(&f->a, f->gpu), opt);
}

/* Adds the train program and gives it the model's first values. */
static void add_train(Exec *e, GpuNet *n, const NetModel *s)
{
    assert_int_equal(exec_add(e, &n->train), 0);
    assert_true(tensor_write(e, 0, program_tensor(&n->train, "w"), s->w));
    assert_true(tensor_write(e, 0, program_tensor(&n->train, "v"), s->v));
}

static void assert_floats(const float *got, const float *want, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], 4) != 0)
            fail_msg("%s[%d] is %.9g, expected %.9g", what, (int)i, (double)got[i], (double)want[i]);
}

static void assert_params(Exec *e, const GpuNet *n, const NetModel *s)
{
    float w[ELEMS], m[ELEMS];
    assert_true(tensor_read(e, 0, program_tensor(&n->train, "w"), w));
    assert_true(tensor_read(e, 0, program_tensor(&n->train, "m"), m));
    assert_floats(w, s->w, ELEMS, "w");
    assert_floats(m, s->m, ELEMS, "m");
}

static int64_t submit(Exec *e, const GpuNet *n, int64_t k)
{
    model_inputs(k, exec_input(e, 0, program_tensor(&n->train, "x")),
                 exec_input(e, 0, program_tensor(&n->train, "lr")));
    return exec_submit(e, 0);
}

static void run_step(Exec *e, const GpuNet *n, int64_t k)
{
    model_inputs(k, exec_ptr(e, 0, program_tensor(&n->train, "x")), exec_ptr(e, 0, program_tensor(&n->train, "lr")));
    assert_true(exec_run(e, 0));
}

static void assert_outputs(Exec *e, const GpuNet *n, int64_t number, const NetModel *want)
{
    const float *loss = exec_output(e, 0, program_tensor(&n->train, "loss"), number);
    const float *y = exec_output(e, 0, program_tensor(&n->train, "y"), number);
    assert_true(loss && y);
    assert_floats(loss, &want->loss, 1, "loss");
    assert_floats(y, want->y, YS, "y");
}

/* ---- Steps ----------------------------------------------------------------------------------------------------- */

enum { STEPS = 40 };

/* Each output is read as late as it may be. */
static void steps_give_the_bits(GpuFixture *f, ExecOptions opt, uint32_t lazy)
{
    GpuNet   n;
    NetModel s[STEPS + 1];
    net_init(&n);
    model_init(&s[0]);
    open_gpu(f, 0);
    cuda_sim_lazy(lazy);
    assert_true(program_check(&f->d, &n.train) && program_check(&f->d, &n.look));
    Exec *e = exec_here(f, opt);
    add_train(e, &n, &s[0]);
    int32_t depth = exec_depth(e, 0);
    assert_int_equal(depth, 16);
    assert_int_equal(exec_threads(e), 1);
    for (int64_t k = 0; k < STEPS; k++) {
        s[k + 1] = s[k];
        model_step(&s[k + 1], k);
        assert_int_equal(submit(e, &n, k), k);
        if (k + 1 >= depth)
            assert_outputs(e, &n, k + 1 - depth, &s[k + 2 - depth]);
    }
    for (int64_t k = STEPS - depth; k < STEPS; k++)
        assert_outputs(e, &n, k, &s[k + 1]);
    assert_params(e, &n, &s[STEPS]);
    assert_silent(f);
    bool graph = !opt.no_graph && !opt.profile;
    assert_int_equal(exec_launch_count(e, 0), STEPS);
    assert_int_equal(exec_gpu_graph_nodes(e, 0), graph ? 4 : 0);
    assert_int_equal(cuda_sim_counts().graph_launches, graph ? STEPS - 1 : 0);
    assert_int_equal(cuda_sim_counts().launches, 3 * STEPS);
    assert_int_equal(cuda_sim_counts().host_calls, STEPS);
    for (int32_t i = 0; i < 4; i++)
        assert_true(opt.profile ? exec_launch_seconds(e, 0, i) >= 0 : exec_launch_seconds(e, 0, i) == 0);
    if (opt.profile)
        assert_true(exec_launch_seconds(e, 0, 0) > 0);
    exec_free(e);
    assert_int_equal(cuda_sim_live().total, 3); /* the GPU's own context and streams */
    gpu_close(f->gpu);
    f->gpu = NULL;
    assert_nothing_live();
}

/* Streams: 1 the main one, 2 the one that copies. */
static void graph_steps(void **state)
{
    for (uint32_t lazy = 0; lazy < 4; lazy++)
        steps_give_the_bits(*state, (ExecOptions){ 0 }, lazy);
}

static void plain_steps(void **state)
{
    for (uint32_t lazy = 0; lazy < 4; lazy++)
        steps_give_the_bits(*state, (ExecOptions){ .no_graph = true }, lazy);
}

static void timed_steps(void **state)
{
    steps_give_the_bits(*state, (ExecOptions){ .profile = true }, 0);
    steps_give_the_bits(*state, (ExecOptions){ .profile = true }, 3);
}

/* exec_run at fixed addresses, alone and between submitted steps. */
static void steps_that_are_waited_for(void **state)
{
    GpuFixture *f = *state;
    GpuNet      n;
    NetModel    s;
    net_init(&n);
    model_init(&s);
    open_gpu(f, 0);
    cuda_sim_lazy(3);
    Exec *e = exec_here(f, (ExecOptions){ 0 });
    add_train(e, &n, &s);
    float *x = exec_ptr(e, 0, program_tensor(&n.train, "x")), *y = exec_ptr(e, 0, program_tensor(&n.train, "y"));
    float *loss = exec_ptr(e, 0, program_tensor(&n.train, "loss"));
    for (int64_t k = 0; k < 12; k++) {
        model_step(&s, k);
        if (k % 4 == 3) {
            assert_int_equal(submit(e, &n, k), k / 4);
            assert_outputs(e, &n, k / 4, &s);
            continue;
        }
        run_step(e, &n, k);
        assert_ptr_equal(exec_ptr(e, 0, program_tensor(&n.train, "x")), x);
        assert_floats(loss, &s.loss, 1, "loss");
        assert_floats(y, s.y, YS, "y");
        float read[YS];
        assert_true(tensor_read(e, 0, program_tensor(&n.train, "y"), read));
        assert_floats(read, s.y, YS, "y, read");
    }
    assert_params(e, &n, &s);
    assert_silent(f);
    exec_free(e);
}

/* What is written for step k is what step k sees, though the copies come late. */
static void inputs_take_turns(void **state)
{
    GpuFixture *f = *state;
    GpuNet      n;
    net_init(&n);
    open_gpu(f, 0);
    Exec *e = exec_here(f, (ExecOptions){ 0 });
    assert_int_equal(exec_add(e, &n.train), 0);
    const ProgTensor *x = program_tensor(&n.train, "x"), *lr = program_tensor(&n.train, "lr");
    void             *first = exec_input(e, 0, x);
    assert_ptr_equal(exec_input(e, 0, x), first);
    assert_ptr_equal((char *)exec_input(e, 0, lr) - 256, first);
    assert_int_equal(exec_submit(e, 0), 0);
    void *second = exec_input(e, 0, x);
    assert_ptr_not_equal(second, first);
    assert_int_equal(exec_submit(e, 0), 1);
    assert_ptr_equal(exec_input(e, 0, x), first);
    exec_free(e);
}

/* Memory is zeros before anything is copied there, whichever stream is late. */
static void memory_starts_as_zeros(void **state)
{
    GpuFixture *f = *state;
    for (uint32_t lazy = 0; lazy < 4; lazy++) {
        GpuNet   n;
        NetModel s = { 0 };
        net_init(&n);
        open_gpu(f, 0);
        cuda_sim_lazy(lazy);
        Exec *e = exec_here(f, (ExecOptions){ 0 });
        assert_int_equal(exec_add(e, &n.train), 0);
        model_step(&s, 0);
        assert_int_equal(submit(e, &n, 0), 0);
        assert_outputs(e, &n, 0, &s);
        assert_params(e, &n, &s);
        assert_true(s.w[3] != 0);
        exec_free(e);
        gpu_close(f->gpu);
        f->gpu = NULL;
    }
}

/* ---- Programs that share --------------------------------------------------------------------------------------- */

/* "look" comes late, with a larger work arena: blocks move, graphs are captured anew, params stay. */
static void programs_share_params(void **state)
{
    GpuFixture *f = *state;
    GpuNet      n;
    NetModel    s;
    net_init(&n);
    model_init(&s);
    open_gpu(f, 0);
    cuda_sim_lazy(3);
    Exec *e = exec_here(f, (ExecOptions){ 0 });
    add_train(e, &n, &s);
    for (int64_t k = 0; k < 3; k++) {
        model_step(&s, k);
        assert_int_equal(submit(e, &n, k), k);
    }
    assert_int_equal(exec_gpu_graph_nodes(e, 0), 4);
    assert_int_equal(exec_add(e, &n.look), 1);
    assert_int_equal(exec_gpu_graph_nodes(e, 0), 0);
    assert_int_equal(exec_depth(e, 1), 1);
    assert_int_equal(cuda_sim_live().modules, 2);
    for (int64_t k = 3; k < 9; k++) {
        model_step(&s, k);
        assert_int_equal(submit(e, &n, k), k);
        float *x = exec_input(e, 1, program_tensor(&n.look, "x")), want[LARGE];
        for (int i = 0; i < ELEMS; i++)
            x[i] = (float)(i + k);
        for (int i = 0; i < LARGE; i++)
            want[i] = (float)(i % ELEMS + k) * s.w[i % ELEMS];
        assert_int_equal(exec_submit(e, 1), k - 3);
        assert_floats(exec_output(e, 1, program_tensor(&n.look, "z"), k - 3), want, LARGE, "z");
        assert_outputs(e, &n, k, &s);
    }
    assert_params(e, &n, &s);
    assert_int_equal(exec_gpu_graph_nodes(e, 0), 4);
    assert_int_equal(exec_gpu_graph_nodes(e, 1), 2);
    Program again = n.look; /* the same code is not loaded twice */
    assert_int_equal(exec_add(e, &again), 2);
    assert_int_equal(cuda_sim_live().modules, 2);
    n.look_tensors[1].at.offset = 64; /* a param elsewhere */
    Program other = n.look;
    assert_silent(f);
    assert_int_equal(exec_add(e, &other), -1);
    assert_said(f, "program look: param w of 256 bytes at 64, but program train has it elsewhere");
    exec_free(e);
}

/* A weight that lies as [K, R, S, C], a packed state, an output that is a param, an input that is handed back. */
static void tensors_are_read_and_written(void **state)
{
    GpuFixture *f = *state;
    enum { N = 2 * 3 * 4 * 5 };
    ProgTensor t[4] = { net_tensor(TENSOR_PARAM, "weight", ARENA_PARAM, 0, 1, N),
                        net_tensor(TENSOR_STATE, "codes", ARENA_STATE, 64, 1, N),
                        net_tensor(TENSOR_OUTPUT, "weight again", ARENA_PARAM, 0, 1, N),
                        net_tensor(TENSOR_INPUT, "x", ARENA_IO, 0, 1, N) };
    for (int i = 0; i < 3; i++) {
        t[i].rank = 4, t[i].nhwc = true;
        memcpy(t[i].dim, (const int64_t[4]){ 2, 3, 4, 5 }, sizeof t[i].dim);
    }
    t[1].dtype = DTYPE_U4, t[1].bytes = N / 2;
    Program p = { .name = "p", .bytes = { 4 * N, 4 * N, 64 + N / 2, 0, 0 }, .tensors = t, .n_tensors = 4 };
    open_gpu(f, 0);
    Exec *e = exec_here(f, (ExecOptions){ 0 });
    assert_int_equal(exec_add(e, &p), 0);
    float   in[N], out[N];
    uint8_t codes[N / 2], read[N / 2];
    for (int i = 0; i < N; i++)
        in[i] = (float)i;
    for (int i = 0; i < N / 2; i++)
        codes[i] = (uint8_t)(37 * i + 11);
    assert_true(tensor_read(e, 0, &t[0], out));
    for (int i = 0; i < N; i++)
        assert_true(out[i] == 0); /* memory starts as zeros */
    assert_true(tensor_write(e, 0, &t[0], in) && tensor_write(e, 0, &t[1], codes));
    assert_true(tensor_read(e, 0, &t[0], out) && tensor_read(e, 0, &t[1], read));
    assert_floats(out, in, N, "weight");
    assert_memory_equal(codes, read, sizeof read);
    for (int i = 0; i < 3; i++)
        assert_true(exec_run(e, 0));
    const float *lies = exec_ptr(e, 0, &t[2]); /* as on the device: k 1, r 3, s 1, c 2 */
    assert_true(lies[((1 * 4 + 3) * 5 + 1) * 3 + 2] == in[((1 * 3 + 2) * 4 + 3) * 5 + 1]);
    assert_true(tensor_read(e, 0, &t[2], out));
    assert_floats(out, in, N, "weight again");
    assert_silent(f);
    exec_free(e);
}

/* More than goes over at once, and no whole number of times as much. */
static void a_large_param(void **state)
{
    GpuFixture *f = *state;
    enum { N = 700001 };
    ProgTensor t = net_tensor(TENSOR_PARAM, "large", ARENA_PARAM, 128, 1, N);
    Program    p = { .name = "p", .bytes = { 0, 128 + 4 * N, 0, 0, 0 }, .tensors = &t, .n_tensors = 1 };
    float     *in = ARENA_ARRAY(&f->a, float, N), *out = ARENA_ARRAY(&f->a, float, N);
    open_gpu(f, 0);
    cuda_sim_lazy(3);
    Exec *e = exec_here(f, (ExecOptions){ 0 });
    assert_int_equal(exec_add(e, &p), 0);
    for (int i = 0; i < N; i++)
        in[i] = (float)i;
    assert_true(tensor_write(e, 0, &t, in) && tensor_read(e, 0, &t, out));
    assert_floats(out, in, N, "large");
    assert_silent(f);
    exec_free(e);
}

/* An input and an output of one name at one place, as a kernel that runs alone has for a buffer it changes. */
static void a_buffer_that_is_changed_in_place(void **state)
{
    GpuFixture *f = *state;
    GpuNet      n;
    net_init(&n);
    ProgTensor t[5] = { net_tensor(TENSOR_INPUT, "a", ARENA_IO, 0, 1, ELEMS),
                        net_tensor(TENSOR_INPUT, "m", ARENA_IO, 256, 1, ELEMS),
                        net_tensor(TENSOR_OUTPUT, "m", ARENA_IO, 256, 1, ELEMS),
                        net_tensor(TENSOR_INPUT, "w", ARENA_IO, 512, 1, ELEMS),
                        net_tensor(TENSOR_OUTPUT, "w", ARENA_IO, 512, 1, ELEMS) };
    Program    p = {
           .name = "update", .bytes = { 768, 0, 0, 0, 0 }, .tensors = t, .n_tensors = 5, .images = n.images, .n_images = 3
    };
    for (int i = 0; i < 3; i++)
        n.bufs[2][i] = (MemRef){ ARENA_IO, 256 * i };
    p.launches = &n.launches[2], p.n_launches = 1;
    open_gpu(f, 0);
    Exec *e = exec_here(f, (ExecOptions){ 0 });
    assert_int_equal(exec_add(e, &p), 0);
    float *a = exec_ptr(e, 0, &t[0]), *m = exec_ptr(e, 0, &t[1]), *w = exec_ptr(e, 0, &t[3]);
    assert_ptr_equal(exec_ptr(e, 0, &t[2]), m); /* one place is one place */
    for (int i = 0; i < ELEMS; i++)
        a[i] = (float)i, m[i] = 2, w[i] = 1;
    float want_m = 2, want_w = 1;
    for (int k = 0; k < 3; k++) { /* each run goes on from the one before */
        assert_true(exec_run(e, 0));
        want_m = want_m * 0.5f + 5;
        want_w -= want_m * 0.125f;
        assert_true(m[5] == want_m && w[5] == want_w && a[5] == 5);
    }
    assert_silent(f);
    exec_free(e);
}

/* ---- Memory ---------------------------------------------------------------------------------------------------- */

/* What is said to be needed is what is taken. */
static void memory_is_known_before(void **state)
{
    GpuFixture *f = *state;
    GpuNet      n;
    net_init(&n);
    open_gpu(f, 64 << 20);
    Exec   *e = exec_here(f, (ExecOptions){ 0 });
    int64_t before = cuda_sim_live().bytes, available = exec_memory_available(e);
    assert_int_equal(before, 0);
    assert_int_equal(available, gpu_free_bytes(f->gpu));
    Program *programs[] = { &n.train, &n.look, &n.train };
    int64_t  together = exec_memory_needed_by(e, (const Program *const *)programs, 3);
    for (int i = 0; i < 3; i++) {
        int64_t needed = exec_memory_needed(e, programs[i]);
        assert_int_equal(exec_add(e, programs[i]), i);
        assert_int_equal(cuda_sim_live().bytes - before, needed);
        assert_int_equal(exec_memory_available(e), available - needed);
        before += needed;
        available -= needed;
    }
    assert_true(exec_memory_needed(e, &n.look) >= n.look.bytes[ARENA_IO]); /* its own inputs and outputs, no more */
    assert_true(exec_memory_needed(e, &n.look) < n.look.bytes[ARENA_IO] + n.look.bytes[ARENA_WORK]);
    assert_int_equal(cuda_sim_counts().most_bytes, before);
    assert_int_equal(together, before);
    exec_free(e);
    assert_int_equal(cuda_sim_live().bytes, 0);
}

static void too_little_memory_is_told_before_any_is_taken(void **state)
{
    GpuFixture *f = *state;
    GpuNet      n;
    net_init(&n);
    open_gpu(f, 64 << 20);
    int64_t needed = exec_memory_needed(exec_here(f, (ExecOptions){ 0 }), &n.train);
    Exec   *e = exec_here(f, (ExecOptions){ .memory_limit = needed - 1 });
    assert_int_equal(exec_memory_available(e), needed - 1);
    assert_int_equal(exec_add(e, &n.train), -1);
    assert_int_equal(cuda_sim_counts().most_bytes, 0);
    assert_int_equal(cuda_sim_live().total, 3);
    const char *text = f->d.text.s;
    assert_non_null(strstr(text, arena_printf(&f->a, "memory: program train needs %s on %s, found %s",
                                              str_bytes(&f->a, needed), f->gpu->name, str_bytes(&f->a, needed - 1))));
    assert_non_null(strstr(text, "note: the limit is "));
    assert_non_null(strstr(text, "note: the largest values at its peak: a 256 B, b 128 B\n"));
    assert_said(f, "help: a smaller batch needs less");
    exec_free(e);
    e = exec_here(f, (ExecOptions){ .memory_limit = needed });
    assert_int_equal(exec_add(e, &n.train), 0);
    assert_int_equal(exec_add(e, &n.look), -1); /* the limit holds for all together */
    assert_said(f, "memory: program look needs ");
    NetModel s;
    model_init(&s);
    assert_true(tensor_write(e, 0, program_tensor(&n.train, "w"), s.w));
    assert_true(tensor_write(e, 0, program_tensor(&n.train, "v"), s.v));
    model_step(&s, 0); /* what was there still runs */
    assert_int_equal(submit(e, &n, 0), 0);
    assert_outputs(e, &n, 0, &s);
    exec_free(e);
    gpu_close(f->gpu);
    open_gpu(f, needed - 1); /* a GPU that has no more */
    e = exec_here(f, (ExecOptions){ 0 });
    assert_int_equal(exec_add(e, &n.train), -1);
    assert_null(strstr(f->d.text.s, "the limit is"));
    assert_said(f, "memory: program train needs ");
    exec_free(e);
}

/* ---- Kernels that go wrong ------------------------------------------------------------------------------------- */

static void assert_refuses(Exec *e, const GpuNet *n)
{
    float w[ELEMS];
    memset(w, 1, sizeof w);
    assert_int_equal(submit(e, n, 0), -1);
    assert_false(exec_run(e, 0));
    assert_false(tensor_write(e, 0, program_tensor(&n->train, "w"), w));
    assert_false(tensor_read(e, 0, program_tensor(&n->train, "w"), w));
    for (int i = 0; i < ELEMS; i++)
        assert_true(w[i] == 0);
    assert_int_equal(exec_add(e, (Program *)&n->look), -1);
}

static void a_kernel_that_goes_wrong_is_named(void **state)
{
    GpuFixture *f = *state;
    GpuNet      n;
    net_init(&n);
    n.kernels[1].grid = 3; /* reads and writes 32 floats too many */
    open_gpu(f, 0);
    Exec *e = exec_here(f, (ExecOptions){ 0 });
    assert_int_equal(exec_add(e, &n.train), 0);
    assert_int_equal(submit(e, &n, 0), -1);
    assert_non_null(strstr(f->d.text.s, "in launch 3 of 4, s0 update, of program train"));
    assert_non_null(strstr(f->d.text.s, "CUDA_ERROR_LAUNCH_FAILED"));
    int32_t errors = f->d.errors;
    assert_refuses(e, &n);
    exec_free(e);
    assert_int_equal(f->d.errors, errors); /* nothing is said twice */
    assert_int_equal(cuda_sim_live().total, 3);
}

static void code_that_cannot_be_loaded(void **state)
{
    GpuFixture *f = *state;
    GpuNet      n;
    net_init(&n);
    n.kernels[2].entry = "tutal";
    open_gpu(f, 0);
    Exec *e = exec_here(f, (ExecOptions){ 0 });
    assert_int_equal(exec_add(e, &n.train), -1);
    assert_non_null(strstr(f->d.text.s, "cuModuleGetFunction"));
    assert_said(f, "for kernel tutal of program train");
    exec_free(e);
    net_init(&n);
    n.modules[0].source = "\177ELF";
    e = exec_here(f, (ExecOptions){ 0 });
    assert_int_equal(exec_add(e, &n.train), -1);
    assert_non_null(strstr(f->d.text.s, "cuModuleLoadData"));
    assert_said(f, "program train was compiled for sim, the GPU is simulated GPU (sm_90)");
    exec_free(e);
    assert_int_equal(cuda_sim_live().total, 3);
}

/* ---- A failure at every call ----------------------------------------------------------------------------------- */

/* All that an Exec can be asked for. False as soon as something fails; then the rest is asked for, too. */
static bool everything(Exec *e, GpuNet *n)
{
    NetModel s;
    float    w[ELEMS];
    model_init(&s);
    const ProgTensor *param = program_tensor(&n->train, "w"), *loss = program_tensor(&n->train, "loss");
    bool              ok = exec_add(e, &n->train) == 0;
    if (!ok)
        return false;
    ok = tensor_write(e, 0, param, s.w) && tensor_write(e, 0, program_tensor(&n->train, "v"), s.v);
    for (int64_t k = 0; k < 4; k++)
        ok = submit(e, n, k) == k && exec_output(e, 0, loss, k) && ok;
    ok = ok && exec_add(e, &n->look) == 1;
    ok = ok && exec_run(e, 1) && exec_run(e, 1) && exec_run(e, 0);
    ok = tensor_read(e, 0, param, w) && ok;
    return ok;
}

/* With call number `at` failing: how many calls there were. */
static int32_t run_with_fault(GpuFixture *f, int32_t at, ExecOptions opt, uint32_t lazy)
{
    GpuNet n;
    net_init(&n);
    open_gpu(f, 0);
    cuda_sim_lazy(lazy);
    f->gpu->t = faulty_driver(&f->a, f->t, at);
    Exec   *e = exec_here(f, opt);
    bool    ok = everything(e, &n);
    int32_t errors = f->d.errors;
    exec_free(e);
    f->gpu->t = f->t;
    bool freed = ok && at > 0; /* it was a call of exec_free that failed */
    if (at == 0 ? !ok || f->d.errors != 0 : f->d.errors != 1 || errors != !freed)
        fail_msg("call %d (%s): %s, %d and %d errors: %s", at, faults.failed, ok ? "done" : "failed", errors,
                 f->d.errors, f->d.text.s ? f->d.text.s : "");
    if (at > 0 && !strstr(f->d.text.s, faults.failed))
        fail_msg("call %d (%s) is not named: %s", at, faults.failed, f->d.text.s);
    CudaSimLive left = cuda_sim_live();
    if (left.total != 3 || left.bytes != 0)
        fail_msg("call %d (%s): %d things and %d bytes are left", at, faults.failed, left.total, (int)left.bytes);
    gpu_close(f->gpu);
    f->gpu = NULL;
    diag_free(&f->d);
    f->d = diag_new(NULL);
    return faults.calls;
}

static void every_call_may_fail(void **state)
{
    const ExecOptions options[] = { { 0 }, { .no_graph = true }, { .profile = true } };
    for (int32_t i = 0; i < DT_COUNT(options); i++) {
        int32_t calls = run_with_fault(*state, 0, options[i], 0);
        assert_true(calls > 150);
        for (int32_t k = 1; k <= calls; k++)
            run_with_fault(*state, k, options[i], i == 0 ? 3 : 0);
    }
}

/* ---- The null GPU ---------------------------------------------------------------------------------------------- */

static void null_gpu_runs(void **state)
{
    GpuFixture *f = *state;
    GpuNet      n;
    net_init(&n);
    n.train.bytes[ARENA_WORK] = INT64_C(300) << 30; /* addresses, and nothing behind them */
    f->t = cuda_driver_null(&f->a, &f->d, 0);
    f->gpu = gpu_open(&f->a, &f->d, f->t, 0);
    Exec *e = exec_here(f, (ExecOptions){ 0 });
    assert_int_equal(exec_add(e, &n.train), 0);
    assert_int_equal(exec_add(e, &n.look), 1);
    for (int64_t k = 0; k < 5; k++) {
        assert_int_equal(submit(e, &n, k), k);
        const float *loss = exec_output(e, 0, program_tensor(&n.train, "loss"), k);
        assert_true(loss && *loss == 0);
        assert_true(exec_run(e, 1));
    }
    assert_int_equal(exec_gpu_graph_nodes(e, 0), 4);
    assert_int_equal(cuda_sim_counts().launches, 5 * 3 + 5 * 2);
    assert_int_equal(cuda_sim_counts().graph_launches, 4 + 4);
    n.look.bytes[ARENA_WORK] = INT64_C(2) << 40;
    Program larger = n.look;
    assert_silent(f);
    assert_int_equal(exec_add(e, &larger), -1);
    assert_said(f, "memory: program look needs ");
    exec_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_NEW(graph_steps),
        TEST_NEW(plain_steps),
        TEST_NEW(timed_steps),
        TEST_NEW(steps_that_are_waited_for),
        TEST_NEW(inputs_take_turns),
        TEST_NEW(memory_starts_as_zeros),
        TEST_NEW(programs_share_params),
        TEST_NEW(tensors_are_read_and_written),
        TEST_NEW(a_large_param),
        TEST_NEW(a_buffer_that_is_changed_in_place),
        TEST_NEW(memory_is_known_before),
        TEST_NEW(too_little_memory_is_told_before_any_is_taken),
        TEST_NEW(a_kernel_that_goes_wrong_is_named),
        TEST_NEW(code_that_cannot_be_loaded),
        TEST_NEW(every_call_may_fail),
        TEST_NEW(null_gpu_runs),
    };
    return cmocka_run_group_tests_name("gpu_exec", tests, NULL, NULL);
}
