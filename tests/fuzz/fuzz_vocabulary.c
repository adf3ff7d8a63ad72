#include "data/text/bpe.h"
#include "data/text/tokenizer.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

static void use(struct tokenizer *t)
{
    enum { CONTEXT = 16 };
    int32_t ids[CONTEXT];
    int n;
    const int pieces = mcs_tokenizer_n_pieces(t);
    for (int i = 0; i < pieces; i++)
        FUZZ_REQUIRE(mcs_tokenizer_id(t, mcs_tokenizer_piece(t, i)) == i, "piece %d of %d is found elsewhere", i,
                     pieces);
    FUZZ_REQUIRE(!mcs_tokenizer_piece(t, pieces) && !mcs_tokenizer_piece(t, -1), "pieces beyond %d", pieces);
    FUZZ_REQUIRE(mcs_tokenizer_encode(t, "A bright lesion, unlike the others!", CONTEXT, ids, &n) == MCS_OK, "%s",
                 mcs_error_message());
    FUZZ_REQUIRE(n >= 2 && n <= CONTEXT, "%d tokens", n);
    for (int i = 0; i < n; i++) FUZZ_REQUIRE(ids[i] >= 0 && ids[i] < pieces, "id %d of %d", ids[i], pieces);
    mcs_tokenizer_close(t);
}

static void use_bpe(struct bpe *b)
{
    static const char text[] = "A bright <|endoftext|> lesion, unlike 3 others'!";
    int32_t ids[16];
    int n;
    for (int raw = 0; raw < 2; raw++) {
        FUZZ_REQUIRE((raw ? mcs_bpe_encode_raw : mcs_bpe_encode)(b, text, 16, ids, &n) == MCS_OK, "%s",
                     mcs_error_message());
        for (int i = 0; i < n; i++) FUZZ_REQUIRE(ids[i] >= 0 && ids[i] < mcs_bpe_n_ids(b), "id %d", ids[i]);
    }
    mcs_bpe_close(b);
}

FUZZ(vocabulary)
{
    struct tokenizer *t;
    if (fuzz_ended(mcs_tokenizer_open(fuzz_file(data, size, "vocab.txt"), &t))) use(t);
    fuzz_file(data, size, "tokenizer.json");
    if (fuzz_ended(mcs_tokenizer_open_folder(fuzz_folder(), &t))) use(t);
    struct bpe *b;
    if (fuzz_ended(mcs_bpe_open_folder(fuzz_folder(), &b))) use_bpe(b);
    if (fuzz_ended(mcs_bpe_open(fuzz_file(data, size, "merges.txt"), &b))) use_bpe(b);
}
