/* Files of weights made by hand, for hostile cases: a zip of stored entries, pickles, the parts of a legacy file. */
#ifndef MCS_SUPPORT_WEIGHTS_H
#define MCS_SUPPORT_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

struct made_file {
    size_t n;
    uint8_t v[1 << 16];
};

void made_add(struct made_file *f, const void *bytes, size_t n);
void made_text(struct made_file *f, const char *text);
void made_little(struct made_file *f, uint64_t value, int n);
void made_save(const struct made_file *f, const char *path);

/* One entry of a zip file. */
struct made_entry {
    const char *name;
    const void *bytes;
    size_t n;
};
/* A zip file of stored entries, without zip64. */
void made_zip(struct made_file *f, int n, const struct made_entry *entries);
/* A zip as torch.save writes it, of this pickle and one storage "0" of the floats. */
void made_torch(struct made_file *f, const void *pickle, size_t n, int n_floats, const float *floats);

/* Pickle text of a dictionary with the tensor "a" of shape (2, 2) in storage "0" of 4 floats; replaces one part of it.
 * `from` NULL: nothing is replaced. */
size_t made_pickle(const char *from, size_t from_n, const char *to, size_t to_n, char dst[1024]);

#endif
