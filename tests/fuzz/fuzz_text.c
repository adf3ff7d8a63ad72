#include "data/text/tokenizer.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

static const char vocabulary[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd\ne\n##a\n##b\n##e\n##s\nles\n##"
                                 "ion\nlesion\n!\n,\n-\n\xe6\x96\xb0\n##\xcc\x81\n&\n<\n";

FUZZ(text)
{
    enum { CONTEXT = 24 };
    static struct tokenizer *t;
    int32_t ids[CONTEXT + 1];
    int n;
    if (!t)
        FUZZ_REQUIRE(mcs_tokenizer_open(fuzz_file((const uint8_t *)vocabulary, sizeof vocabulary - 1, "vocab.txt"),
                                        &t) == MCS_OK,
                     "%s", mcs_error_message());
    char *text = fuzz_as_text(data, size), *words;
    for (int raw = 0; raw < 2; raw++) {
        ids[CONTEXT] = -77;
        const enum mcs_status st =
            raw ? mcs_tokenizer_encode_raw(t, text, CONTEXT, ids, &n) : mcs_tokenizer_encode(t, text, CONTEXT, ids, &n);
        FUZZ_REQUIRE(ids[CONTEXT] == -77, "more ids than asked for");
        if (!fuzz_ended(st)) continue;
        FUZZ_REQUIRE(n >= 2 && n <= CONTEXT && ids[0] == 2 && ids[n - 1] == 3, "%d tokens, %d to %d", n, ids[0],
                     ids[n - 1]);
        for (int i = 0; i < n; i++) FUZZ_REQUIRE(ids[i] >= 0 && ids[i] < mcs_tokenizer_n_pieces(t), "id %d", ids[i]);
    }
    if (fuzz_ended(mcs_tokenizer_words(text, &words))) {
        fuzz_use(words, strlen(words));
        free(words);
    }
    free(text);
}
