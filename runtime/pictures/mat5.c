/* mat5.c: is a MAT file of version 5 whole? libmatio does not ask: of a file that was cut off, or whose array says more
 * elements than it holds, it returns what happens to be in memory.
 *
 *   header of 128 bytes; then elements { type, bytes } + content, up to the end of the file
 *   compressed (15): a zlib stream of one element; matrix (14): flags, dimensions, name, data, each an element
 *
 * So all elements must end where the file ends, zlib streams must have their check sums, and arrays of bytes as many
 * bytes as their dimensions say. Tested by tests/unit/test_pictures.c, fuzzed by tests/fuzz. */
#include "runtime/pictures/pictures.h"

#include <string.h>
#include <zlib.h>

enum { HEADER = 128, AT_VERSION = 124, VERSION_5 = 0x0100, MATRIX = 14, COMPRESSED = 15 };
enum { CLASS_UINT8 = 9, TYPE_UINT8 = 2, TYPE_INT32 = 5, TYPE_UINT32 = 6 };
enum { FRONT = 4096 }; /* of an inflated matrix, what is looked at: all but its data */

static uint32_t little_endian(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

typedef struct Element {
    uint32_t       type, bytes;
    const uint8_t *content;
    int64_t        total; /* with its tag and padding */
} Element;

/* The tag at `p`, of which `left` bytes are at hand; short content stands in the tag itself. */
static bool read_tag(const uint8_t *p, int64_t left, Element *e)
{
    if (left < 8)
        return false;
    e->type = little_endian(p);
    e->bytes = little_endian(p + 4);
    e->content = p + 8;
    e->total = 8 + dt_round_up(e->bytes, 8);
    if (e->type >> 16) {
        e->bytes = e->type >> 16;
        e->type &= 0xffff;
        e->content = p + 4;
        e->total = 8;
        return e->bytes <= 4;
    }
    return true;
}

/* The inside of a matrix of `bytes`, of which the first `known` are at hand. */
static bool check_matrix(const uint8_t *p, int64_t known, int64_t bytes)
{
    Element flags, dims, name, data;
    int64_t at = 0, elems = 1;
    if (!read_tag(p, known, &flags) || flags.type != TYPE_UINT32 || flags.bytes != 8 || known < 16)
        return false;
    at = flags.total;
    if (!read_tag(p + at, known - at, &dims) || dims.type != TYPE_INT32 || dims.bytes % 4 != 0 ||
        dims.total > known - at)
        return false;
    at += dims.total;
    if (!read_tag(p + at, known - at, &name) || name.total > known - at)
        return false;
    at += name.total;
    if ((little_endian(flags.content) & 0xff) != CLASS_UINT8)
        return true; /* nobody reads it */
    if (!read_tag(p + at, known - at, &data) || data.type != TYPE_UINT8 || data.total > bytes - at)
        return false;
    for (uint32_t i = 0; i < dims.bytes / 4; i++)
        if (!dt_mul64(elems, (int32_t)little_endian(dims.content + 4 * i), &elems) || elems < 0)
            return false;
    return elems == data.bytes;
}

/* A zlib stream of exactly `bytes` that holds one whole matrix. */
static bool check_compressed(const uint8_t *from, int64_t bytes)
{
    uint8_t  front[FRONT], more[1 << 14];
    z_stream z = { .next_in = (Bytef *)(uintptr_t)from, .avail_in = (uInt)bytes, .next_out = front };
    Element  matrix;
    int      code = inflateInit(&z);
    if (code != Z_OK)
        return false;
    z.avail_out = sizeof front;
    while (code == Z_OK) {
        if (z.avail_out == 0) {
            z.next_out = more;
            z.avail_out = sizeof more;
        }
        code = inflate(&z, Z_NO_FLUSH);
    }
    int64_t total = (int64_t)z.total_out, known = dt_min64(total, FRONT);
    bool    whole = code == Z_STREAM_END && z.avail_in == 0;
    inflateEnd(&z);
    return whole && read_tag(front, known, &matrix) && matrix.type == MATRIX && matrix.bytes + 8 == total &&
           check_matrix(front + 8, known - 8, matrix.bytes);
}

const char *mat5_check(const uint8_t *file, int64_t bytes)
{
    if (bytes < HEADER || memcmp(file + HEADER - 2, "IM", 2) != 0)
        return bytes >= HEADER && memcmp(file + HEADER - 2, "MI", 2) == 0 ? "it was written on a big-endian machine"
                                                                          : "it is no MAT file of version 5 or 7.3";
    if ((file[AT_VERSION] | file[AT_VERSION + 1] << 8) != VERSION_5)
        return NULL; /* 7.3: HDF5 looks after itself */
    for (int64_t at = HEADER; at < bytes;) {
        Element e;
        if (!read_tag(file + at, bytes - at, &e) || e.content != file + at + 8 || e.bytes > bytes - at - 8)
            return "damaged: it is cut off, or an element is";
        bool ok = e.type == COMPRESSED ? check_compressed(e.content, e.bytes)
                                       : e.type != MATRIX || check_matrix(e.content, e.bytes, e.bytes);
        if (!ok)
            return "damaged: an array in it is not whole";
        at += 8 + (e.type == COMPRESSED ? e.bytes : dt_round_up(e.bytes, 8));
    }
    return NULL;
}
