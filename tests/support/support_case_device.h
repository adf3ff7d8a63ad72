/* The run of one test case (support_cases.h): its tensors, and device memory with guard bytes behind each block. */
#ifndef MCS_SUPPORT_CASE_DEVICE_H
#define MCS_SUPPORT_CASE_DEVICE_H

#include "tests/ref/ref.h"
#include "tests/support/support_cases.h"

enum { CASE_GUARD = 64, N_SLOTS = MCS_MAX_IN + MCS_MAX_OUT };

/* The storage of a tensor on the device. */
struct case_memory {
    void *p;
    int64_t bytes;
};

struct case_runner {
    const struct op_case *c;
    const struct case_backend *b;
    const struct op_info *info;
    struct arena host;
    struct case_memory *made; /* all allocations, to check their guards and free them */
    int n_made, cap_made, failed;
    struct tensor in[MCS_MAX_IN], out[MCS_MAX_OUT], dout[MCS_MAX_OUT];
    struct ref_step ref;
    struct run_state run;
    unsigned dout_mask, grad_mask;
};

/* Counts a failed check and prints it to standard error; of one case the first nine are printed. */
void case_complain(struct case_runner *r, const char *what, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Copies bytes from the device. */
void case_download(struct case_runner *r, void *dst, const void *src, int64_t bytes);
/* Device memory with guard bytes at its end, filled from src, or with NaN if src is NULL. */
void *case_device_new(struct case_runner *r, int64_t bytes, const void *src);
/* Checks the guards of the allocations since `from` and frees them. */
void case_device_free_from(struct case_runner *r, int from);
/* Copies `host` to the device as values of type dt; host NULL: NaN. */
void *case_device_floats(struct case_runner *r, enum mcs_dtype dt, const void *host, int64_t n);
/* The values of a tensor of either type, as float32. */
void case_get_floats(struct case_runner *r, const struct tensor *t, float *dst);

#endif
