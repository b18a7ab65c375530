/* test_doctor.c: what `detent doctor` says of GPUs and their libraries: found, missing, damaged, failing. The rest of
 * its output: test_cli.c. */
#include "tests/unit/gpu_fixture.h"

#include <unistd.h>

#include "cli/doctor.h"

/* ---- What was printed ---- */

typedef struct Print {
    FILE  *out;
    char  *text;
    size_t len;
} Print;

static FILE *print_open(Print *p)
{
    p->out = open_memstream(&p->text, &p->len);
    assert_non_null(p->out);
    return p->out;
}

static const char *print_close(GpuFixture *f, Print *p)
{
    fclose(p->out);
    const char *text = arena_strdup(&f->a, p->text);
    free(p->text);
    return text;
}

static void assert_in(const char *part, const char *text)
{
    if (!strstr(text, part))
        fail_msg("expected '%s' in:\n%s", part, text);
}

static void assert_not_in(const char *part, const char *text)
{
    if (strstr(text, part))
        fail_msg("'%s' should not be in:\n%s", part, text);
}

/* ---- Devices ---- */

static const char *devices(GpuFixture *f, const CudaDriver *t, int32_t usable)
{
    Print p;
    assert_int_equal(doctor_devices(&f->a, print_open(&p), t), usable);
    const char *text = print_close(f, &p);
    assert_nothing_live();
    return text;
}

static void test_device(void **state)
{
    GpuFixture *f = *state;
    assert_string_equal(devices(f, cuda_driver_null(&f->a, &f->d, 80LL << 30), 1),
                        "CUDA driver     CUDA 13.0, null GPU\n"
                        "GPU 0           null GPU, compute capability 9.0, 132 multiprocessors, 80.0 GiB of 80.0 GiB "
                        "free\n");
    assert_silent(f);
}

static CuResult two(int *count)
{
    *count = 2;
    return CU_SUCCESS;
}
static CuResult none(int *count)
{
    *count = 0;
    return CU_SUCCESS;
}
static CuResult mismatch(unsigned flags)
{
    (void)flags;
    return CU_SYSTEM_DRIVER_MISMATCH;
}
static CuResult old_version(int *version)
{
    *version = 11040;
    return CU_SUCCESS;
}
static CuResult no_version(int *version)
{
    (void)version;
    return CU_INVALID_VALUE;
}
static CuResult busy(CuHandle *context, CuDevice device)
{
    (void)context, (void)device;
    return 46;
}

static void test_device_trouble(void **state)
{
    GpuFixture *f = *state;
    CudaDriver  t = *cuda_driver_sim(&f->a, &f->d, 0), broken = t;
    broken.init = mismatch;
    const char *text = devices(f, &broken, 0);
    assert_in("GPU             cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): ", text);
    assert_in("\n                -> the driver was updated while its old kernel module still runs: reboot", text);
    broken = t;
    broken.device_count = none;
    text = devices(f, &broken, 0);
    assert_in("CUDA driver     CUDA 13.0, simulated GPU\n", text);
    assert_in("GPU             cuDeviceGetCount: CUDA_ERROR_NO_DEVICE (100): ", text);
    assert_in("CUDA_VISIBLE_DEVICES", text);
    broken = t;
    broken.driver_version = old_version;
    text = devices(f, &broken, 0);
    assert_in("CUDA driver     CUDA 11.4, simulated GPU\n", text);
    assert_in("GPU 0           the NVIDIA driver supports CUDA 11.4; CUDA 12.0 is needed\n", text);
    broken.driver_version = no_version;
    assert_in("CUDA driver     version not known, simulated GPU\n", devices(f, &broken, 0));
    broken = t;
    broken.context_retain = busy;
    text = devices(f, &broken, 0);
    assert_in("GPU 0           cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE (46): ", text);
    broken = t;
    broken.device_count = two; /* the second cannot be opened, the first can */
    text = devices(f, &broken, 1);
    assert_in("GPU 0           simulated GPU, compute capability 9.0", text);
    assert_in("GPU 1           cuDeviceGet: CUDA_ERROR_INVALID_DEVICE (101): ", text);
}

/* ---- Libraries ---- */

static const char *all(GpuFixture *f, bool usable)
{
    Print p;
    assert_int_equal(doctor_gpu(&f->a, print_open(&p)), usable);
    return print_close(f, &p);
}

static void test_nothing(void **state)
{
    GpuFixture *f = *state;
    setenv("DETENT_CUDA_DRIVER", "/nowhere", 1);
    setenv("DETENT_NVRTC", "/nowhere", 1);
    setenv("DETENT_CUDNN", "/nowhere", 1);
    const char *text = all(f, false);
    assert_in("CUDA driver     no library that can be used\n", text);
    assert_in("                /nowhere: No such file or directory\n", text);
    assert_in("                -> install the NVIDIA driver", text);
    assert_in("GPU             none: without a driver none can be seen\n", text);
    assert_in("NVRTC           no library that can be used\n", text);
    assert_in("pip install nvidia-cuda-nvrtc", text);
    assert_in("cuDNN           no library that can be used\n", text);
    assert_in("pip install nvidia-cudnn-cu13", text);
    assert_not_in("looked for", text);
    assert_in("\ntraining        --backend cuda cannot be used: there is no CUDA driver; --backend cpu can\n", text);
    unsetenv("DETENT_CUDA_DRIVER");
    unsetenv("DETENT_NVRTC");
    unsetenv("DETENT_CUDNN");
}

/* A library of C text under DIR/name, that the variable names. */
static void build(GpuFixture *f, const char *dir, const char *name, const char *text, const char *variable)
{
    const char *c = arena_printf(&f->a, "%s/%s.c", dir, name), *so = arena_printf(&f->a, "%s/%s.so", dir, name);
    FILE       *out = fopen(c, "w");
    assert_non_null(out);
    fputs(text, out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(system(arena_printf(&f->a, "cc -shared -fPIC -w -o '%s' '%s'", so, c)), 0);
    setenv(variable, so, 1);
}

/* Libraries that answer a little: a driver without a device, NVRTC for two architectures, a cuDNN of some version. */
static void test_libraries(void **state)
{
    GpuFixture *f = *state;
    char        dir[] = "/tmp/detent-doctor-XXXXXX";
    assert_non_null(mkdtemp(dir));
    Str driver = str_new(&f->a);
#define X(name, symbol, params)                                                                                        \
    if (!str_eq(symbol, "cuDriverGetVersion"))                                                                         \
        str_printf(&driver, "int %s(void) { return 100; }\n", symbol);
    CUDA_DRIVER(X)
#undef X
    str_add(&driver, "int cuDriverGetVersion(int *v) { *v = 12060; return 0; }\n");
    build(f, dir, "driver", driver.s, "DETENT_CUDA_DRIVER");
    build(f, dir, "nvrtc",
          "int nvrtcVersion(int *a, int *b) { *a = 12; *b = 6; return 0; }\n"
          "int nvrtcGetNumSupportedArchs(int *n) { *n = 2; return 0; }\n"
          "int nvrtcGetSupportedArchs(int *n) { n[0] = 90; n[1] = 75; return 0; }\n"
          "const char *nvrtcGetErrorString(int s) { return \"\"; }\n"
          "int nvrtcCreateProgram(void) { return 1; }\nint nvrtcCompileProgram(void) { return 1; }\n"
          "int nvrtcGetCUBINSize(void) { return 1; }\nint nvrtcGetCUBIN(void) { return 1; }\n"
          "int nvrtcGetPTXSize(void) { return 1; }\nint nvrtcGetPTX(void) { return 1; }\n"
          "int nvrtcGetProgramLogSize(void) { return 1; }\nint nvrtcGetProgramLog(void) { return 1; }\n"
          "int nvrtcDestroyProgram(void) { return 1; }\n",
          "DETENT_NVRTC");
    build(f, dir, "cudnn", "int cudnnGetVersionOnly(void) { return 1; }\n", "DETENT_CUDNN");
    const char *text = all(f, false);
    assert_in(arena_printf(&f->a, "CUDA driver     CUDA 12.6, %s/driver.so\n", dir), text);
    assert_in("GPU             cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n", text);
    assert_in(arena_printf(&f->a, "NVRTC           12.6, %s/nvrtc.so\n                compiles for sm 75 90\n", dir),
              text);
    assert_in(arena_printf(&f->a, "                %s/cudnn.so: too old: it has no cudnn", dir), text);
    assert_in("\ntraining        --backend cuda cannot be used: there is no GPU that can be used; --backend cpu can\n",
              text);
    unsetenv("DETENT_CUDA_DRIVER");
    unsetenv("DETENT_NVRTC");
    unsetenv("DETENT_CUDNN");
    assert_int_equal(system(arena_printf(&f->a, "rm -rf '%s'", dir)), 0);
}

/* Whatever this machine has: it ends with the answer, which is the one given back. */
static void test_here(void **state)
{
    GpuFixture *f = *state;
    Print       p;
    bool        usable = doctor_gpu(&f->a, print_open(&p));
    const char *text = print_close(f, &p);
    assert_in(usable ? "\ntraining        --backend cuda can be used, --backend cpu too\n"
                     : "\ntraining        --backend cuda cannot be used: ",
              text);
    assert_in("CUDA driver     ", text);
    assert_in("\nNVRTC           ", text);
    assert_in("\ncuDNN           ", text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_NEW(test_device),    TEST_NEW(test_device_trouble), TEST_NEW(test_nothing),
        TEST_NEW(test_libraries), TEST_NEW(test_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
