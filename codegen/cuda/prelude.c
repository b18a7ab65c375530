/* prelude.c: the device functions that kernels are made of. A row says what a function uses, so that the text holds
 * just what it needs.
 *
 * Loads and stores of neighbours are made by rule: load4_f32, load8_u4, store8_b1, stream4_f32, and NAME_some for the
 * ends of rows. Tested by tests/unit/test_cuda.c. */
#include "codegen/cuda/print.h"

#include <string.h>

typedef struct Row {
    const char *name, *uses, *text; /* uses: names with blanks between */
} Row;

#define FN "static __device__ __forceinline__ "

/* clang-format off */
static const Row rows[] = {
    { "add_i32", "", "/* Integers wrap. */\n" FN "int add_i32(int x, int y)\n{\n    return (int)((unsigned)x + (unsigned)y);\n}\n" },
    { "sub_i32", "", FN "int sub_i32(int x, int y)\n{\n    return (int)((unsigned)x - (unsigned)y);\n}\n" },
    { "mul_i32", "", FN "int mul_i32(int x, int y)\n{\n    return (int)((unsigned)x * (unsigned)y);\n}\n" },
    { "neg_i32", "", FN "int neg_i32(int x)\n{\n    return (int)(0u - (unsigned)x);\n}\n" },
    { "shl_i32", "", FN "int shl_i32(int x, int n)\n{\n    return (int)((unsigned)x << (n & 31));\n}\n" },
    { "div_i32", "neg_i32",
      "/* Rounded down; 0 for a divisor 0. */\n" FN "int div_i32(int x, int y)\n{\n"
      "    if (y == 0)\n        return 0;\n"
      "    if (y == -1)\n        return neg_i32(x);\n"
      "    const int q = x / y;\n"
      "    return x % y != 0 && (x < 0) != (y < 0) ? q - 1 : q;\n}\n" },
    { "rem_i32", "div_i32 mul_i32 sub_i32",
      "/* x - floor(x / y) * y */\n" FN "int rem_i32(int x, int y)\n{\n    return sub_i32(x, mul_i32(div_i32(x, y), y));\n}\n" },
    { "div_u32", "", FN "unsigned div_u32(unsigned x, unsigned y)\n{\n    return y != 0u ? x / y : 0u;\n}\n" },
    { "rem_u32", "", FN "unsigned rem_u32(unsigned x, unsigned y)\n{\n    return y != 0u ? x % y : x;\n}\n" },
    { "clamp", "", FN "int clamp(int x, int least, int most)\n{\n    return min(max(x, least), most);\n}\n" },
    { "min_f32", "", "/* A NaN gives the other operand; of two equal ones, the second. */\n" FN
      "float min_f32(float x, float y)\n{\n    return x < y || y != y ? x : y;\n}\n" },
    { "max_f32", "", FN "float max_f32(float x, float y)\n{\n    return x > y || y != y ? x : y;\n}\n" },
    { "philox", "",
      "/* Philox 4x32-10: word 0 of counter (index, 0, substream, stream) under key (seed). */\n" FN
      "unsigned philox(unsigned seed_lo, unsigned seed_hi, unsigned stream, unsigned substream, unsigned index)\n{\n"
      "    unsigned c0 = index, c1 = 0u, c2 = substream, c3 = stream;\n"
      "#pragma unroll\n"
      "    for (int round = 0; round < 10; round++) {\n"
      "        const unsigned hi0 = __umulhi(0xD2511F53u, c0), lo0 = 0xD2511F53u * c0;\n"
      "        const unsigned hi1 = __umulhi(0xCD9E8D57u, c2), lo1 = 0xCD9E8D57u * c2;\n"
      "        c0 = hi1 ^ c1 ^ seed_lo;\n"
      "        c2 = hi0 ^ c3 ^ seed_hi;\n"
      "        c1 = lo1;\n"
      "        c3 = lo0;\n"
      "        seed_lo += 0x9E3779B9u;\n"
      "        seed_hi += 0xBB67AE85u;\n"
      "    }\n"
      "    return c0;\n}\n" },
    { "find_row", "",
      "/* The last of `rows` rows that begins at or before this block. */\n" FN
      "int find_row(const unsigned *first_block, int rows, unsigned block)\n{\n"
      "    int least = 0, most = rows;\n"
      "    while (most - least > 1) {\n"
      "        const int middle = (least + most) / 2;\n"
      "        if (first_block[middle] <= block)\n"
      "            least = middle;\n"
      "        else\n"
      "            most = middle;\n"
      "    }\n"
      "    return least;\n}\n" },
    { "get_bits", "", "/* Elements of less than a byte lie with the first one in the lowest bits. */\n" FN
      "int get_bits(const unsigned char *at, long long i, int bits)\n{\n"
      "    const long long per_byte = 8 / bits;\n"
      "    return at[i / per_byte] >> (int)(i % per_byte) * bits & (1 << bits) - 1;\n}\n" },
    { "put_bits", "", "/* For the one thread that writes this byte. */\n" FN
      "void put_bits(unsigned char *at, long long i, int bits, int value)\n{\n"
      "    const long long per_byte = 8 / bits;\n"
      "    const int shift = (int)(i % per_byte) * bits, mask = (1 << bits) - 1;\n"
      "    at[i / per_byte] = (unsigned char)(at[i / per_byte] & ~(mask << shift) | (value & mask) << shift);\n}\n" },
    { "get_shared_bits", "",
      "/* Of bytes that several threads write, word by word. */\n" FN
      "int get_shared_bits(unsigned char *at, long long i, int bits)\n{\n"
      "    const long long per_word = 32 / bits;\n"
      "    unsigned *word = (unsigned *)at + i / per_word;\n"
      "    return (int)(atomicAdd(word, 0u) >> (int)(i % per_word) * bits) & (1 << bits) - 1;\n}\n" },
    { "put_shared_bits", "get_shared_bits",
      "/* Adding the difference leaves the other elements of the word as they are; nobody else writes this one. */\n" FN
      "void put_shared_bits(unsigned char *at, long long i, int bits, int value)\n{\n"
      "    const long long per_word = 32 / bits;\n"
      "    const unsigned more = (unsigned)((value & (1 << bits) - 1) - get_shared_bits(at, i, bits));\n"
      "    atomicAdd((unsigned *)at + i / per_word, more << (int)(i % per_word) * bits);\n}\n" },
    { "sign_of_bits", "", FN "int sign_of_bits(int x, int bits)\n{\n    return (x ^ 1 << bits - 1) - (1 << bits - 1);\n}\n" },
};

/* X(sum, add): x (+) what the thread `from` further on has, then from / 2, ... down to `to`. */
#define WARP_FN(name, type, step)                                                                                      \
    FN type " " name "(" type " x, int from, int to)\n{\n"                                                             \
    "#pragma unroll\n    for (int d = from; d >= to; d /= 2)\n"                                                        \
    "        x = " step ";\n    return x;\n}\n"
#define DOWN "__shfl_down_sync(0xffffffffu, x, d)"
static const Row warp_rows[] = {
    { "warp_sum_f32", "", WARP_FN("warp_sum_f32", "float", "x + " DOWN) },
    { "warp_min_f32", "min_f32", WARP_FN("warp_min_f32", "float", "min_f32(x, " DOWN ")") },
    { "warp_max_f32", "max_f32", WARP_FN("warp_max_f32", "float", "max_f32(x, " DOWN ")") },
    { "warp_sum_i32", "add_i32", WARP_FN("warp_sum_i32", "int", "add_i32(x, " DOWN ")") },
    { "warp_min_i32", "", WARP_FN("warp_min_i32", "int", "min(x, " DOWN ")") },
    { "warp_max_i32", "", WARP_FN("warp_max_i32", "int", "max(x, " DOWN ")") },
};
/* clang-format on */

/* ---- Neighbours ------------------------------------------------------------------------------------------------- */

typedef enum VectorKind { VECTOR_LOAD, VECTOR_STORE, VECTOR_STREAM, VECTOR_KINDS } VectorKind;
static const char *const vector_names[VECTOR_KINDS] = { "load", "store", "stream" };

static const char       *vector_name(Arena *a, VectorKind kind, int32_t width, DType t, bool some)
{
    return arena_printf(a, "%s%d_%s%s", vector_names[kind], width, dtype_name(t), some ? "_some" : "");
}

static const char *element_type(DType t)
{
    return t == DTYPE_F32 ? "float" : t == DTYPE_U32 ? "unsigned" : t == DTYPE_B1 ? "bool" : "int";
}

static const char *memory_type(DType t)
{
    return dtype_bits(t) == 32 ? element_type(t) : t == DTYPE_S8 ? "signed char" : "unsigned char";
}

static const char *vector_uses(Arena *a, VectorKind kind, int32_t width, DType t, bool some)
{
    if (some)
        return arena_printf(a, "%s %s", vector_name(a, kind, width, t, false),
                            dtype_bits(t) >= 8    ? (kind == VECTOR_LOAD || dtype_bits(t) == 32 ? "" : "clamp")
                            : kind == VECTOR_LOAD ? (dtype_is_signed(t) ? "get_bits sign_of_bits" : "get_bits")
                                                  : "put_bits clamp");
    if (width == 8 && dtype_bits(t) >= 8)
        return vector_name(a, kind, 4, t, false);
    if (dtype_bits(t) < 32 && t != DTYPE_B1)
        return kind != VECTOR_LOAD ? "clamp" : dtype_is_signed(t) ? "sign_of_bits" : "";
    return "";
}

/* 32-bit elements, four at a time. */
static void print_quad(Str *out, VectorKind kind, DType t)
{
    const char *quad = t == DTYPE_F32 ? "float4" : t == DTYPE_U32 ? "uint4" : "int4";
    if (kind == VECTOR_LOAD)
        str_printf(
            out,
            "    const %s q = *(const %s *)at;\n    to[0] = q.x;\n    to[1] = q.y;\n    to[2] = q.z;\n    to[3] = "
            "q.w;\n",
            quad, quad);
    else if (kind == VECTOR_STORE)
        str_printf(out, "    *(%s *)at = make_%s(from[0], from[1], from[2], from[3]);\n", quad, quad);
    else
        str_printf(out, "    __stcs((%s *)at, make_%s(from[0], from[1], from[2], from[3]));\n", quad, quad);
}

/* Small elements that fill a word of `width` times their bits. */
static void print_packed(Str *out, VectorKind kind, int32_t width, DType t)
{
    int         bits = dtype_bits(t), all = bits * width;
    const char *word = all == 32 ? "unsigned" : all == 16 ? "unsigned short" : "unsigned char";
    unsigned    mask = (1u << bits) - 1;
    if (kind == VECTOR_LOAD) {
        str_printf(out, "    const unsigned w = *(const %s *)at;\n#pragma unroll\n    for (int j = 0; j < %d; j++)\n",
                   word, width);
        if (t == DTYPE_B1)
            str_add(out, "        to[j] = (w >> j & 1u) != 0u;\n");
        else if (dtype_is_signed(t))
            str_printf(out, "        to[j] = sign_of_bits((int)(w >> %d * j & %uu), %d);\n", bits, mask, bits);
        else
            str_printf(out, "        to[j] = (int)(w >> %d * j & %uu);\n", bits, mask);
        return;
    }
    str_printf(out, "    unsigned w = 0u;\n#pragma unroll\n    for (int j = 0; j < %d; j++)\n", width);
    if (t == DTYPE_B1)
        str_add(out, "        w |= from[j] ? 1u << j : 0u;\n");
    else
        str_printf(out, "        w |= ((unsigned)clamp(from[j], %d, %d) & %uu) << %d * j;\n", (int)dtype_min(t),
                   (int)dtype_max(t), mask, bits);
    if (kind == VECTOR_STORE)
        str_printf(out, "    *(%s *)at = (%s)w;\n", word, word);
    else
        str_printf(out, "    __stcs((%s *)at, (%s)w);\n", word, word);
}

static void print_some(Str *out, Arena *a, VectorKind kind, int32_t width, DType t)
{
    int         bits = dtype_bits(t);
    const char *array = kind == VECTOR_LOAD ? "to" : "from", *all = vector_name(a, kind, width, t, false);
    str_printf(out, "    if (count >= %d)\n        %s(%s, at);\n    else\n", width, all, array);
    str_printf(out, "        for (int j = 0; j < %d; j++)\n", width);
    if (kind == VECTOR_LOAD) {
        const char *one = bits >= 8 ? "at[j]" : arena_printf(a, "get_bits(at, j, %d)", bits);
        if (bits < 8 && t == DTYPE_B1)
            one = arena_printf(a, "%s != 0", one);
        else if (bits < 8 && dtype_is_signed(t))
            one = arena_printf(a, "sign_of_bits(%s, %d)", one, bits);
        str_printf(out, "            to[j] = j < count ? %s : %s;\n", one,
                   t == DTYPE_F32   ? "0.0f"
                   : t == DTYPE_B1  ? "false"
                   : t == DTYPE_U32 ? "0u"
                                    : "0");
        return;
    }
    str_add(out, "            if (j < count)\n");
    const char *value = "from[j]";
    if (bits < 32 && t != DTYPE_B1)
        value = arena_printf(a, "clamp(from[j], %d, %d)", (int)dtype_min(t), (int)dtype_max(t));
    if (bits < 8)
        str_printf(out, "                put_bits(at, j, %d, %s);\n", bits, t == DTYPE_B1 ? "from[j] ? 1 : 0" : value);
    else if (bits == 8)
        str_printf(out, "                at[j] = (%s)%s;\n", memory_type(t), value);
    else
        str_printf(out, "                at[j] = %s;\n", value);
}

static void print_vector(Str *out, Arena *a, VectorKind kind, int32_t width, DType t, bool some)
{
    bool load = kind == VECTOR_LOAD;
    str_printf(out, FN "void %s(%s%s *%s, %s%s *at%s)\n{\n", vector_name(a, kind, width, t, some), load ? "" : "const ",
               element_type(t), load ? "to" : "from", load ? "const " : "", memory_type(t), some ? ", int count" : "");
    if (some) {
        print_some(out, a, kind, width, t);
    } else if (width == 8 && dtype_bits(t) >= 8) {
        const char *half = vector_name(a, kind, 4, t, false), *array = load ? "to" : "from";
        str_printf(out, "    %s(%s, at);\n    %s(%s + 4, at + 4);\n", half, array, half, array);
    } else if (dtype_bits(t) == 32) {
        print_quad(out, kind, t);
    } else {
        print_packed(out, kind, width, t);
    }
    str_add(out, "}\n");
}

/* ---- What is used ----------------------------------------------------------------------------------------------- */

static const Row *find_row(const char *name)
{
    for (int32_t i = 0; i < DT_COUNT(rows); i++)
        if (str_eq(rows[i].name, name))
            return &rows[i];
    for (int32_t i = 0; i < DT_COUNT(warp_rows); i++)
        if (str_eq(warp_rows[i].name, name))
            return &warp_rows[i];
    return NULL;
}

/* Calls fn for every vector function, plain ones before those that use them. */
typedef void (*VectorFn)(void *user, VectorKind kind, int32_t width, DType t, bool some);
static void each_vector(VectorFn fn, void *user)
{
    for (int32_t width = 4; width <= 8; width += 4)
        for (int32_t some = 0; some < 2; some++)
            for (int32_t t = 0; t < DTYPE_COUNT; t++)
                for (int32_t kind = 0; kind < VECTOR_KINDS; kind++)
                    if (width == 8 || dtype_bits((DType)t) >= 8)
                        fn(user, (VectorKind)kind, width, (DType)t, some == 1);
}

typedef struct FindUses {
    Arena      *arena;
    const char *name, *uses;
} FindUses;

static void find_uses(void *user, VectorKind kind, int32_t width, DType t, bool some)
{
    FindUses *f = user;
    if (str_eq(vector_name(f->arena, kind, width, t, some), f->name))
        f->uses = vector_uses(f->arena, kind, width, t, some);
}

bool prelude_is_name(const char *name)
{
    static const char *const prefixes[] = { "load4_", "load8_", "store4_", "store8_", "stream4_", "stream8_" };
    for (int32_t i = 0; i < DT_COUNT(prefixes); i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return find_row(name) != NULL;
}

void prelude_use(Prelude *p, const char *name)
{
    if (strmap_get(&p->used, name) >= 0)
        return;
    strmap_put(&p->used, name, 1);
    const Row  *row = find_row(name);
    const char *uses = row ? row->uses : NULL;
    if (!row) {
        FindUses f = { .arena = p->arena, .name = name };
        each_vector(find_uses, &f);
        uses = f.uses;
    }
    DT_ASSERT(uses, "no device function %s", name);
    char *words = arena_strdup(p->arena, uses), *save = NULL;
    for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
        prelude_use(p, w);
}

typedef struct PrintUsed {
    Str           *out;
    const Prelude *p;
} PrintUsed;

static void print_used(void *user, VectorKind kind, int32_t width, DType t, bool some)
{
    const PrintUsed *u = user;
    if (strmap_get(&u->p->used, vector_name(u->p->arena, kind, width, t, some)) < 0)
        return;
    print_vector(u->out, u->p->arena, kind, width, t, some);
    str_add(u->out, "\n");
}

static void print_rows(Str *out, const Prelude *p, const Row *table, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (strmap_get(&p->used, table[i].name) >= 0)
            str_printf(out, "%s\n", table[i].text);
}

void prelude_print(Str *out, const Prelude *p)
{
    print_rows(out, p, rows, DT_COUNT(rows));
    each_vector(print_used, &(PrintUsed){ out, p });
    print_rows(out, p, warp_rows, DT_COUNT(warp_rows));
}
