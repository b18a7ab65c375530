/* doctor.c: `detent doctor`: what this machine has, what Detent makes of it, what is missing and how to get it.
 *
 * Tested by tests/unit/test_cli.c. */
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "runtime/integer/integer.h"

/* What the processor can do that decides which code runs. */
typedef struct CpuFeature {
    const char *name;
    bool        has;
} CpuFeature;

static int32_t doctor_cpu(CpuFeature out[12])
{
    int32_t n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
#define CPU_(x) out[n++] = (CpuFeature){ x, __builtin_cpu_supports(x) != 0 }
    CPU_("avx");
    CPU_("avx2");
    CPU_("fma");
    CPU_("avx512f");
    CPU_("avx512bw");
    CPU_("avx512vl");
    CPU_("avx512vnni");
#undef CPU_
#endif
    return n;
}

const char *doctor_cpuinfo(Arena *a, const char *key)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char  line[4096];
    if (f == NULL)
        return "";
    const char *found = "";
    while (found[0] == 0 && fgets(line, sizeof(line), f) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) == 0 && colon != NULL) {
            colon[strcspn(colon, "\n")] = 0;
            found = arena_strdup(a, colon + 2);
        }
    }
    fclose(f);
    return found;
}

static bool doctor_flag(const char *flags, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = strstr(flags, word); at != NULL; at = strstr(at + 1, word))
        if ((at == flags || at[-1] == ' ') && (at[len] == ' ' || at[len] == 0))
            return true;
    return false;
}

/* ---- Kernels of integer products ---- */

/* What --isa takes here, the best in front. */
static void doctor_isa(Session *s)
{
    fprintf(s->out, "integers        %s; --isa:", isa_doc(isa_best()));
    for (int isa = ISA_COUNT - 1; isa >= 0; isa--)
        if (isa_is_here((Isa)isa))
            fprintf(s->out, " %s", isa_name((Isa)isa));
    fprintf(s->out, "\n");
}

int command_doctor(Session *s, const StrList *rest)
{
    (void)rest;
    CpuFeature  cpu[12];
    int32_t     n = doctor_cpu(cpu);
    const char *flags = doctor_cpuinfo(&s->arena, "flags");
    fprintf(s->out, "detent          " DT_VERSION "\n");
    fprintf(s->out, "processor       %s, %ld cores\nfeatures       ", doctor_cpuinfo(&s->arena, "model name"),
            sysconf(_SC_NPROCESSORS_ONLN));
    for (int32_t i = 0; i < n; i++)
        if (cpu[i].has)
            fprintf(s->out, " %s", cpu[i].name);
    fprintf(s->out, "%s%s\n", doctor_flag(flags, "amx_int8") ? " amx_int8" : "",
            doctor_flag(flags, "amx_bf16") ? " amx_bf16" : "");
    bool ready = session_backend(s, true);
    if (ready) {
        fprintf(s->out, "kernels         %s\n", jit_describe(&s->arena, s->jit));
        fprintf(s->out, "convolutions    %s\n", s->lib->name);
        fprintf(s->out, "threads         %d\n", exec_threads(s->exec));
    }
    doctor_isa(s);
    doctor_gpu(&s->arena, s->out); /* also where --backend cuda was asked for and failed: here is why */
    return ready ? EXIT_OK : EXIT_MISTAKE;
}
