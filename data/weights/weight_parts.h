/* The inside of struct weight_file, for the readers of each kind of file. */
#ifndef MCS_WEIGHT_PARTS_H
#define MCS_WEIGHT_PARTS_H

#include "data/weights/weight_file.h"

struct weight_part {
    const char *path;
    int fd; /* -1: closed */
    int64_t n_bytes;
};

struct weight_file {
    struct arena arena;             /* owns everything but the files and `tensors` */
    const struct weight_file *base; /* of a view: owns parts, meta, object and entries; NULL */
    struct weight_file *owned;      /* base where it is closed with the view; NULL */
    const char *path, *wrapper, *prefix;
    enum weight_kind kind;
    int n_parts;
    struct weight_part *parts; /* (n_parts) */
    int n;
    struct weight_tensor *tensors; /* (n), sorted by name once the file is open; malloc'ed */
    int n_meta;
    const char *(*meta)[2];      /* (n_meta) key, value */
    struct pickle_value *object; /* of a PyTorch file */
    int script;                  /* it is TorchScript: the object is a module, a dictionary of tensors and modules */
    int n_entries;
    const struct zip_entry *entries; /* (n_entries) of PyTorch's zip */
};

/* Readers: each fills tensors, and meta or object, from parts[0], which is open. */
enum mcs_status mcs_weight_safetensors(struct weight_file *f);
enum mcs_status mcs_weight_torch_zip(struct weight_file *f);
enum mcs_status mcs_weight_torch_legacy(struct weight_file *f);
enum mcs_status mcs_weight_index(struct weight_file *f);

/* Makes f->tensors for at most n entries; f->n stays 0. */
enum mcs_status mcs_weight_reserve(struct weight_file *f, int64_t n);
/* Memory of f's arena; E_NOMEM. */
enum mcs_status mcs_weight_alloc(struct weight_file *f, int64_t bytes, void *dst);
/* Sorts the tensors by name. E_DATA: one is there twice. */
enum mcs_status mcs_weight_sort(struct weight_file *f);
/* Fills n_values, n_bytes and row-major strides from type and dims. E_DATA: impossible sizes. */
enum mcs_status mcs_weight_sizes(const struct weight_file *f, struct weight_tensor *t);

/* Where the storages of a PyTorch file lie. */
struct torch_storage {
    const char *key;
    int64_t at, n_bytes; /* -1: not known, the length follows from the type (legacy) */
};
/* Lists the tensors of f->object; storages: (n), sorted by key. */
enum mcs_status mcs_weight_torch_tensors(struct weight_file *f, int n, const struct torch_storage *storages);
const struct torch_storage *mcs_torch_storage_find(int n, const struct torch_storage *storages, const char *key);
void mcs_torch_storages_sort(int n, struct torch_storage *storages);

#endif
