/* print_tokens VOCABULARY CONTEXT < TEXTS: the ids of each text, one line each; a text is a JSON string in a line.
 * VOCABULARY is a vocab.txt, or merges if "bpe" is in its name. For tests/ref/tokens/compare.py. */
#include "data/text/bpe.h"
#include "data/text/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct tokenizer *tok = NULL;
    struct bpe *bpe = NULL;
    char *line = NULL;
    size_t capacity = 0;
    const int context = argc == 3 ? (int)strtol(argv[2], NULL, 10) : 0;

    if (context < 2) {
        fprintf(stderr, "usage: print_tokens VOCABULARY CONTEXT\n");
        return 1;
    }
    if ((strstr(argv[1], "bpe") ? mcs_bpe_open(argv[1], &bpe) : mcs_tokenizer_open(argv[1], &tok)) != MCS_OK) {
        fprintf(stderr, "print_tokens: %s\n", mcs_error_message());
        return 1;
    }
    int32_t *ids = malloc((size_t)context * sizeof *ids);
    for (int n = 0; ids && getline(&line, &capacity, stdin) > 0; n = 0) {
        json_t *json = json_loads(line, JSON_DECODE_ANY, NULL);
        const char *text = json_string_value(json);
        if (!text || (bpe ? mcs_bpe_encode(bpe, text, context, ids, &n)
                          : mcs_tokenizer_encode(tok, text, context, ids, &n)) != MCS_OK) {
            printf("error: %s", text ? mcs_error_message() : "not JSON");
            mcs_error_clear();
        }
        for (int i = 0; i < n; i++) printf(i ? " %d" : "%d", ids[i]);
        putchar('\n');
        json_decref(json);
    }
    free(ids);
    free(line);
    mcs_tokenizer_close(tok);
    mcs_bpe_close(bpe);
    return 0;
}
