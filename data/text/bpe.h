/* OpenAI CLIP's tokenizer: byte-pair encoding over lower-cased text, as open_clip's SimpleTokenizer computes it
 * (Radford et al. 2021; Sennrich et al. 2016). The merges are OpenAI's bpe_simple_vocab_16e6.txt.gz: a line of comment,
 * then a merge of two pieces a line, of which the first 48,894 count; "</w>" ends a word.
 *
 *     struct bpe *bpe;
 *     MCS_TRY(mcs_bpe_open("bpe_simple_vocab_16e6.txt.gz", &bpe));
 *     MCS_TRY(mcs_bpe_encode(bpe, caption, 77, ids, &n));    // ids[0] begins the text, ids[n-1] ends it
 *     mcs_bpe_close(bpe);
 *
 * Ids: 256 bytes, the same at the end of a word, the merges in their order, <start_of_text>, <end_of_text>. An open
 * tokenizer is constant: threads may share it. */
#ifndef MCS_BPE_H
#define MCS_BPE_H

#include "data/text/unicode.h"

struct bpe;

/* Reads the merges, gzip or plain. E_NOINPUT, E_IO; E_DATA: damaged, more than 16 MiB, or a line that is no merge of
 * two pieces. */
enum mcs_status mcs_bpe_open(const char *path, struct bpe **bpe);
void mcs_bpe_close(struct bpe *bpe);
/* The number of ids; 49,408 for OpenAI's file. The last two begin and end a text. */
int mcs_bpe_n_ids(const struct bpe *bpe);
/* Cleans the text as open_clip does (mcs_text_clean), lower-cases it and writes its ids between the two special ones:
 * at most context_length (2 or more), the last of which ends the text. A literal <start_of_text> or <end_of_text> in
 * the text is that id. E_DATA: not UTF-8; E_USAGE: context_length below 2. */
enum mcs_status mcs_bpe_encode(const struct bpe *bpe, const char *text, int context_length, int32_t *ids,
                               int *n_tokens);
/* The same without the cleaning, as transformers' CLIPTokenizer does it: NFC, lower case by character, the special
 * tokens are <|startoftext|> and <|endoftext|>. Letters and digits that Unicode added after its version 14 are such
 * here, but not for transformers. */
enum mcs_status mcs_bpe_encode_raw(const struct bpe *bpe, const char *text, int context_length, int32_t *ids,
                                   int *n_tokens);
/* The id of a piece as the files write it ("</w>" ends a word), or of a special token under either name; -1: none. */
int32_t mcs_bpe_id(const struct bpe *bpe, const char *piece);

/* The tokenizer of a model's folder: its tokenizer.json, else merges.txt (with vocab.json, if there is one), else
 * bpe_simple_vocab_16e6.txt.gz or .txt. E_NOINPUT: none of them; E_DATA: ids that do not follow from the merges, or
 * parts of tokenizer.json that mcsam does not compute, by name. */
enum mcs_status mcs_bpe_open_folder(const char *folder, struct bpe **bpe);
/* Writes the same tokenizer as transformers' CLIPTokenizer reads it: folder/vocab.json and folder/merges.txt. E_DATA:
 * two merges of one pair, or a merge of pieces that no merge makes, which transformers does not have; E_IO, E_NOMEM. */
enum mcs_status mcs_bpe_write_folder(const struct bpe *bpe, const char *folder);

/* Properties of code points that decide where words end: bits of mcs_bpe_kinds' values. SPACE: white space and U+0345,
 * which the reference's pattern skips too. CASED and IGNORABLE decide whether a capital sigma ends a word (Unicode's
 * Final_Sigma). */
enum { MCS_BPE_LETTER = 1, MCS_BPE_NUMBER = 2, MCS_BPE_SPACE = 4, MCS_BPE_CASED = 8, MCS_BPE_IGNORABLE = 16 };
extern const struct unicode_range mcs_bpe_kinds[];
extern const int mcs_bpe_n_kinds;

#endif
