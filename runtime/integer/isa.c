/* isa.c: instruction sets: what they are called, which of them this machine has, what kernels are made for them.
 *
 * Tested by tests/unit/test_integer.c. */
#include "runtime/integer/integer_impl.h"

static const struct IsaInfo {
    const char *name, *doc;
} infos[ISA_COUNT] = {
    [ISA_PORTABLE] = { "portable", "plain C" },     [ISA_AVX2] = { "avx2", "AVX2" },
    [ISA_AVX512] = { "avx512", "AVX-512" },         [ISA_AVX_VNNI] = { "avx-vnni", "AVX-VNNI" },
    [ISA_AVX512_VNNI] = { "vnni", "AVX-512 VNNI" },
};

const char *isa_name(Isa isa)
{
    return infos[isa].name;
}

const char *isa_doc(Isa isa)
{
    return infos[isa].doc;
}

#if defined(__x86_64__)
#include <cpuid.h>

/* clang knows no name for it before version 16. Bit 4 of eax. */
static bool has_avx_vnni(void)
{
    unsigned eax = 0, ebx, ecx, edx;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & 1 << 4);
}

/* The compiler's run-time support also asks whether the system saves the registers. */
bool isa_is_here(Isa isa)
{
    bool avx2 = __builtin_cpu_supports("avx2");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    switch (isa) {
    case ISA_PORTABLE:
        return true;
    case ISA_AVX2:
        return avx2;
    case ISA_AVX512:
        return avx512;
    case ISA_AVX_VNNI:
        return avx2 && has_avx_vnni();
    case ISA_AVX512_VNNI:
        return avx512 && __builtin_cpu_supports("avx512vnni");
    case ISA_COUNT:
        break;
    }
    DT_UNREACHABLE("instruction set %d", (int)isa);
}

const TileKernel *isa_kernels(Isa isa, TileForm form)
{
    static const TileTable *const tables[ISA_COUNT] = { &tiles_portable, &tiles_avx2, &tiles_avx512, &tiles_avx_vnni,
                                                        &tiles_avx512_vnni };
    const TileKernel             *k = (*tables[isa])[form];
    return k[0].outputs > 0 ? k : NULL;
}

#else

bool isa_is_here(Isa isa)
{
    return isa == ISA_PORTABLE;
}

const TileKernel *isa_kernels(Isa isa, TileForm form)
{
    (void)isa;
    return tiles_portable[form][0].outputs > 0 ? tiles_portable[form] : NULL;
}

#endif

Isa isa_best(void)
{
    Isa best = ISA_PORTABLE;
    for (Isa i = ISA_PORTABLE; i < ISA_COUNT; i++)
        best = isa_is_here(i) ? i : best;
    return best;
}

bool isa_parse(Arena *a, Diag *d, const char *text, Isa *out)
{
    Str here = str_new(a);
    *out = isa_best();
    if (!text || str_eq(text, "native"))
        return true;
    for (Isa i = ISA_PORTABLE; i < ISA_COUNT; i++) {
        if (!isa_is_here(i))
            continue;
        str_printf(&here, "%s, ", infos[i].name);
        if (str_eq(text, infos[i].name)) {
            *out = i;
            return true;
        }
    }
    diag_error(d, LOC_NONE, "--isa: expected an instruction set that this machine has, %sor native, found %s", here.s,
               text);
    diag_help(d, "leave it out: the best one is chosen");
    return false;
}
