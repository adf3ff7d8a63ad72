/* The text tower's tokenizer: BERT WordPiece over a vocab.txt (one piece per line, id = line from 0, UTF-8, "##"
 * continues a word), equal to the reference's for every code point (tokenizers 0.23: BertNormalizer with lower case,
 * BertPreTokenizer, WordPiece). Devlin et al. 2018; the normalising and splitting rules are in unicode.h.
 *
 *     struct tokenizer *tok;
 *     MCS_TRY(mcs_tokenizer_open("model/vocab.txt", &tok));
 *     MCS_TRY(mcs_tokenizer_encode(tok, caption, 256, ids, &n));    // ids[0] is [CLS], ids[n-1] is [SEP]
 *     mcs_tokenizer_close(tok);
 *
 * An open tokenizer is constant: threads may share it. A call allocates heap memory in proportion to its text. */
#ifndef MCS_TOKENIZER_H
#define MCS_TOKENIZER_H

#include "engine/base/status.h"

#include <stdint.h>

struct tokenizer;

/* E_NOINPUT: no such file; E_DATA: not UTF-8, an empty line, a piece twice, [PAD] not in the first line (the model's
 * mask treats 0 as padding), or one of [UNK] [CLS] [SEP] missing. The last line may end with or without a line feed; CR
 * LF is accepted. */
enum mcs_status mcs_tokenizer_open(const char *vocab_path, struct tokenizer **tok);
/* The tokenizer of a model's folder: its tokenizer.json, else its vocab.txt, like transformers. E_DATA: tokenizer.json
 * asks for a normalizer, pre-tokenizer, model, post-processor or added token that mcsam does not compute; the message
 * names the key. */
enum mcs_status mcs_tokenizer_open_folder(const char *folder, struct tokenizer **tok);
/* OpenAI CLIP's byte-pair encoding from a model's folder (mcs_bpe_open_folder); its texts begin and end with that
 * tokenizer's special tokens instead of [CLS] and [SEP]. */
enum mcs_status mcs_tokenizer_open_bpe(const char *folder, struct tokenizer **tok);
void mcs_tokenizer_close(struct tokenizer *tok);

/* Writes [CLS] pieces [SEP] and returns their number, 2 .. context_length, in n_tokens; ids holds context_length int32,
 * those after n_tokens are not changed (no padding). Pieces that do not fit are dropped from the end, [SEP] is kept.
 * mcs_tokenizer_encode first cleans the text as open_clip does (mcs_text_clean): BiomedCLIP was trained and is
 * evaluated with that. _encode_raw does not clean, like the transformers package. E_DATA: the text is not UTF-8.
 * E_USAGE: context_length < 2. */
enum mcs_status mcs_tokenizer_encode(const struct tokenizer *tok, const char *text, int context_length, int32_t *ids,
                                     int *n_tokens);
enum mcs_status mcs_tokenizer_encode_raw(const struct tokenizer *tok, const char *text, int context_length,
                                         int32_t *ids, int *n_tokens);

int mcs_tokenizer_n_pieces(const struct tokenizer *tok);
/* The piece with an id, owned by the tokenizer; NULL when there is none, and for a byte-pair encoding. */
const char *mcs_tokenizer_piece(const struct tokenizer *tok, int32_t id);
/* The id of a piece, -1 when there is none. */
int32_t mcs_tokenizer_id(const struct tokenizer *tok, const char *piece);

/* The words of a text before pieces are looked up: normalised, split, each ended by a line feed, in a malloc'ed text.
 * Literal special tokens are not recognised. */
enum mcs_status mcs_tokenizer_words(const char *text, char **words);

#endif
