/* cubin.c: what machine code for a GPU says of its kernels: registers, local memory, shared memory.
 *
 * A cubin is an ELF file. Section .nv.info is a list of attributes
 *
 *   u8 format, u8 attribute, u16 size;  format 4: `size` bytes follow, here u32 symbol, u32 value
 *
 * of which three matter: registers of a thread, its stack frame, its whole stack with what it calls. Arrays that are
 * indexed at run time and registers that did not fit live there: "local memory", 0 in all that Detent means to write.
 * The size of section .nv.shared.KERNEL is shared memory. From sm_90 on it has 1 KiB in front that is the system's, and
 * the file then has a section .nv.shared.reserved.0.
 *
 * The file is read here, and not the log of the assembler, because it comes out of the disk cache, too. Tested by
 * tests/unit/test_nvrtc.c: equal to the assembler's log on every architecture; cut and damaged files. */
#include "codegen/nvrtc/nvrtc.h"

#include <elf.h>
#include <string.h>

enum { ATTR_FRAME_SIZE = 0x11, ATTR_MIN_STACK_SIZE = 0x12, ATTR_REGCOUNT = 0x2f, FORMAT_SIZED = 4 };
enum { SYSTEM_SHARED_BYTES = 1024 };

typedef struct Bytes {
    const uint8_t *at;
    size_t         len;
} Bytes;

typedef struct Cubin {
    Bytes      all, names; /* the file; names of its sections */
    Elf64_Ehdr head;
} Cubin;

/* Every look into the file goes through here: at NULL where it does not lie inside. */
static Bytes slice(Bytes b, uint64_t from, uint64_t len)
{
    return from <= b.len && len <= b.len - from ? (Bytes){ b.at + from, (size_t)len } : (Bytes){ NULL, 0 };
}

static bool section_at(const Cubin *c, uint32_t i, Elf64_Shdr *out)
{
    Bytes b = slice(c->all, c->head.e_shoff, (uint64_t)c->head.e_shnum * sizeof *out);
    b = slice(b, (uint64_t)i * sizeof *out, sizeof *out);
    if (b.at)
        memcpy(out, b.at, sizeof *out);
    return b.at != NULL;
}

static Bytes section_bytes(const Cubin *c, const Elf64_Shdr *s)
{
    return slice(c->all, s->sh_offset, s->sh_size);
}

/* Whether the text at `offset` of `table` is `name`, its 0 inside the table. */
static bool is_name(Bytes table, uint64_t offset, const char *name)
{
    size_t len = strlen(name) + 1;
    Bytes  b = slice(table, offset, len);
    return b.at && memcmp(b.at, name, len) == 0;
}

/* Its number, 0: no such section (section 0 is none). */
static uint32_t find_section(const Cubin *c, const char *name, Elf64_Shdr *out)
{
    for (uint32_t i = 1; section_at(c, i, out); i++)
        if (is_name(c->names, out->sh_name, name))
            return i;
    return 0;
}

static bool cubin_open(Cubin *c, const void *cubin, size_t bytes)
{
    Elf64_Shdr names;
    *c = (Cubin){ .all = { cubin, bytes } };
    if (bytes < sizeof c->head)
        return false;
    memcpy(&c->head, cubin, sizeof c->head);
    if (memcmp(c->head.e_ident, ELFMAG, SELFMAG) != 0 || c->head.e_ident[EI_CLASS] != ELFCLASS64 ||
        c->head.e_machine != EM_CUDA || c->head.e_shentsize != sizeof(Elf64_Shdr) ||
        !section_at(c, c->head.e_shstrndx, &names))
        return false;
    c->names = section_bytes(c, &names);
    return true;
}

/* The index of symbol `entry`; 0: none. */
static uint32_t find_symbol(const Cubin *c, const char *entry)
{
    Elf64_Shdr symbols, texts;
    if (!find_section(c, ".symtab", &symbols) || !section_at(c, symbols.sh_link, &texts))
        return 0;
    Bytes table = section_bytes(c, &symbols), names = section_bytes(c, &texts);
    for (uint32_t i = 1; i < table.len / sizeof(Elf64_Sym); i++) {
        Elf64_Sym s;
        memcpy(&s, table.at + i * sizeof s, sizeof s);
        if (ELF64_ST_TYPE(s.st_info) == STT_FUNC && is_name(names, s.st_name, entry))
            return i;
    }
    return 0;
}

static uint32_t word_at(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static void read_attributes(Bytes info, uint32_t symbol, CubinKernel *out)
{
    enum { HEAD = 4, PAIR = 8 };
    for (size_t at = 0; at + HEAD <= info.len;) {
        const uint8_t *a = info.at + at;
        size_t         size = a[0] == FORMAT_SIZED ? (size_t)(a[2] | a[3] << 8) : 0;
        if (size > info.len - at - HEAD)
            return;
        if (size == PAIR && word_at(a + HEAD) == symbol) {
            int32_t value = (int32_t)(word_at(a + HEAD + 4) & INT32_MAX);
            if (a[1] == ATTR_REGCOUNT)
                out->registers = value;
            else if ((a[1] == ATTR_FRAME_SIZE || a[1] == ATTR_MIN_STACK_SIZE) && value > out->local_bytes)
                out->local_bytes = value;
        }
        at += HEAD + size;
    }
}

static int32_t shared_bytes(const Cubin *c, const char *entry)
{
    Arena      scratch = arena_new("cubin");
    Elf64_Shdr own, reserved;
    int64_t    bytes = 0;
    if (find_section(c, arena_printf(&scratch, ".nv.shared.%s", entry), &own))
        bytes = (int64_t)(own.sh_size & INT32_MAX) -
                (find_section(c, ".nv.shared.reserved.0", &reserved) ? SYSTEM_SHARED_BYTES : 0);
    arena_free(&scratch);
    return (int32_t)dt_max64(bytes, 0);
}

bool cubin_kernel(const void *cubin, size_t bytes, const char *entry, CubinKernel *out)
{
    Cubin      c;
    Elf64_Shdr info;
    *out = (CubinKernel){ -1, -1, -1 };
    if (!cubin_open(&c, cubin, bytes))
        return false;
    uint32_t symbol = find_symbol(&c, entry);
    if (symbol == 0)
        return false;
    if (find_section(&c, ".nv.info", &info))
        read_attributes(section_bytes(&c, &info), symbol, out);
    out->shared_bytes = shared_bytes(&c, entry);
    return true;
}
