/* print_tokens FOLDER_OR_VOCABULARY CONTEXT < TEXTS: the ids of each text, one line each; a text is a JSON string in a
 * line. For tests/ref/tokens/compare.py. */
#include "data/text/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct tokenizer *tok;
    char *line = NULL;
    size_t capacity = 0;
    const int context = argc == 3 ? (int)strtol(argv[2], NULL, 10) : 0;

    if (context < 2 || mcs_tokenizer_open(argv[1], &tok) != MCS_OK) {
        fprintf(stderr, "print_tokens: %s\n",
                context < 2 ? "usage: print_tokens VOCABULARY CONTEXT" : mcs_error_message());
        return 1;
    }
    int32_t *ids = malloc((size_t)context * sizeof *ids);
    for (int n = 0; ids && getline(&line, &capacity, stdin) > 0; n = 0) {
        json_t *text = json_loads(line, JSON_DECODE_ANY, NULL);
        if (!text || mcs_tokenizer_encode(tok, json_string_value(text), context, ids, &n) != MCS_OK) {
            printf("error: %s", text ? mcs_error_message() : "not JSON");
            mcs_error_clear();
        }
        for (int i = 0; i < n; i++) printf(i ? " %d" : "%d", ids[i]);
        putchar('\n');
        json_decref(text);
    }
    free(ids);
    free(line);
    mcs_tokenizer_close(tok);
    return 0;
}
