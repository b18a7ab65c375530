/* target.c: a libFuzzer program of one reader (READER says which), built by the preset `fuzz`:
 *
 *   cmake --preset fuzz && cmake --build --preset fuzz
 *   build/fuzz/tests/fuzz/fuzz_jpeg -max_total_time=600 /tmp/found tests/fuzz/corpus/jpeg
 *
 * /tmp/found collects what reaches new code; a file that crashes is written to the current directory, and its name is
 * all that the program needs to show it again. */
#include "tests/fuzz/readers.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* One for the process: libFuzzer has no place for anything else. */
static const Reader *fuzz_reader(ReaderPlace **place)
{
    static ReaderPlace   made;
    static char          dir[] = "/tmp/detent-fuzz-XXXXXX";
    static const Reader *reader;
    if (!reader) {
        reader = reader_find(READER);
        made.dir = mkdtemp(dir);
        DT_ASSERT(reader && made.dir, "reader %s, directory %s", READER, dir);
        log_set_level(LOG_QUIET);
    }
    *place = &made;
    return reader;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    ReaderPlace  *place;
    const Reader *reader = fuzz_reader(&place);
    Arena         a = arena_new("fuzz");
    Diag          d = diag_new(NULL);
    bool          ok = reader->read(&a, &d, place, data, bytes);
    DT_ASSERT(ok || d.errors > 0, "%s refused without a word", reader->name);
    diag_free(&d);
    arena_free(&a);
    return 0;
}
