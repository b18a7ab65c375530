/* builtin_recipes.c: recipes that have a name: the files of passes/recipes. CMake makes the table recipe_builtins of
 * them, so that there is one text to use, to copy and to read.
 *
 * Tested by tests/unit/test_recipe_file.c and test_cli.c. */
#include "passes/passes.h"

#include <string.h>

const BuiltinRecipe *recipe_find_builtin(Arena *a, Diag *d, const char *what, const char *name)
{
    const char **names = ARENA_ARRAY(a, const char *, recipe_n_builtins);
    for (int32_t i = 0; i < recipe_n_builtins; i++) {
        names[i] = recipe_builtins[i].name;
        if (str_eq(names[i], name))
            return &recipe_builtins[i];
    }
    diag_error(d, LOC_NONE, "%s: expected a file or the name of a recipe that is built in, found '%s'", what, name);
    diag_help_nearest(d, name, names, recipe_n_builtins, "`detent recipes` lists those that are built in");
    return NULL;
}

const char *recipe_title(Arena *a, const BuiltinRecipe *r)
{
    const char *from = r->text + strspn(r->text, "# ");
    return arena_strndup(a, from, strcspn(from, "\n"));
}
