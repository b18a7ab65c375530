/* scan.h: reads words, numbers and strings from a text, for parse.c.
 *
 * Every function skips spaces and comments first. What is not as expected is reported with file and line, once: after
 * the first mistake nothing is accepted any more and nothing else is said. */
#ifndef DETENT_IR_SCAN_H
#define DETENT_IR_SCAN_H

#include "base/base.h"

typedef struct Scanner {
    Arena      *a; /* strings that are read live here */
    Diag       *d;
    const char *file; /* for messages */
    const char *text;
    size_t      pos;  /* in the text */
    int32_t     line; /* of pos, from 1 */
    bool        failed;
} Scanner;

/* A stretch of the text. */
typedef struct Word {
    const char *s;
    int32_t     len;
} Word;

bool        scan_fail(Scanner *p, const char *fmt, ...) DT_PRINTF(2, 3); /* always false */
const char *scan_peek(Scanner *p);                                       /* what comes next */
const char *scan_found(Scanner *p);                                      /* the same for messages: "'}'" */
bool        scan_accept(Scanner *p, const char *s);                      /* the sign or whole word `s`, if it is next */
bool        scan_expect(Scanner *p, const char *s, const char *where);
bool        scan_is(Word w, const char *s);

/* `what` names the thing in messages. */
bool scan_word(Scanner *p, Word *out, const char *what); /* letters, digits, _ */
bool scan_int(Scanner *p, int64_t *out, const char *what);
bool scan_int_in(Scanner *p, int64_t lo, int64_t hi, int64_t *out, const char *what);
bool scan_number(Scanner *p, double *out, const char *what);      /* 0.1, or 0.1f: the float's value */
bool scan_string(Scanner *p, const char **out, const char *what); /* in quotes, with escapes */
bool scan_name(Scanner *p, const char **out, const char *what);   /* letters, digits and . - _, or a string */

#endif
