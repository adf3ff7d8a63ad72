/* Internals of the CUDA backend: a device's streams, and helpers that every op of this folder uses. Everything is
 * enqueued on the compute stream; the host waits only in download and sync. The same code runs on a GPU and on the
 * simulation (tests/cudasim), which defines the same runtime calls. */
#ifndef MCS_CUDA_H
#define MCS_CUDA_H

#include <cuda_runtime_api.h>

#include "engine/device_ops.h"
#include "kernels/common/kernels.h"

enum { N_STAGING = 2 };

struct cuda_stage { /* uploads: host -> pinned by memcpy, pinned -> device on the copy stream */
    void *pinned, *device;
    cudaEvent_t copied, used; /* the copy stream has read `pinned`; the compute stream has read `device` */
};

struct cuda_device {
    int index;
    char name[256];
    int sm; /* compute capability, 90 for 9.0 */
    cudaStream_t compute, copy;
    struct cuda_stage staging[N_STAGING]; /* a double buffer */
    int next_staging;
    struct k_run *run; /* device memory: seed and step of the run being enqueued (backend's begin_run) */
    void *blas;        /* cublasLtHandle_t of vendor_blas.c, created on first use */
    void *optim;       /* optim_cuda.c, created on first use */
    void *ops_state;   /* device_ops_cuda.c, created on first use */
    void *dnn;         /* cudnnHandle_t of vendor_dnn.c, created on first use */
};

static inline struct cuda_device *mcs_cuda_of(const struct step *s)
{
    return s->device->state;
}
static inline cudaStream_t mcs_cuda_stream(const struct step *s)
{
    return mcs_cuda_of(s)->compute;
}
static inline const struct k_run *mcs_cuda_run(const struct step *s)
{
    return mcs_cuda_of(s)->run;
}
static inline enum k_dtype mcs_cuda_dtype(const struct tensor *t)
{
    return t->dt == MCS_BF16 ? K_BF16 : K_F32;
}
static inline void *mcs_cuda_data(const struct tensor *t) /* NULL for an absent slot */
{
    return t ? t->data : NULL;
}
static inline size_t mcs_cuda_round(size_t bytes) /* parts of a workspace start on multiples of 256 bytes */
{
    return (bytes + 255) / 256 * 256;
}

/* Allocates device memory. E_NOMEM states the bytes requested and the bytes free. */
enum mcs_status mcs_cuda_alloc(const struct cuda_device *c, size_t bytes, void **p);

/* Allocates the buffers and events of a staging buffer. After a failure close it as well. Close it only when no stream
 * uses it. */
enum mcs_status mcs_cuda_stage_open(const struct cuda_device *c, size_t bytes, struct cuda_stage *t);
void mcs_cuda_stage_close(struct cuda_stage *t);

/* Converts a CUDA error to a status: out of memory, no usable device and failed launches have separate messages, each
 * with CUDA's text. */
enum mcs_status mcs_cuda_status(cudaError_t e, const char *call);
static inline enum mcs_status mcs_cuda_traced(cudaError_t e, const char *call, const char *file, int line)
{
    return e == cudaSuccess ? MCS_OK : mcs_trace(mcs_cuda_status(e, call), file, line);
}
/* The status of a call, with a line in the trace where it failed; and a return where it failed. */
#define MCS_CUDA_STATUS(call) mcs_cuda_traced((call), #call, __FILE__, __LINE__)
#define MCS_CUDA(call)                                                                                                 \
    do {                                                                                                               \
        const enum mcs_status cuda_status_ = MCS_CUDA_STATUS(call);                                                    \
        if (cuda_status_ != MCS_OK) return cuda_status_;                                                               \
    } while (0)

/* engine/cuda/op_conv.c: bytes of the moments (kernels/conv/convolution.h) that step s writes at the start of its
 * workspace. Not 0 only where s is a forward convolution and the next step is the instance norm of its y, which then
 * skips a pass over y. */
size_t mcs_cuda_moments_bytes(const struct step *s, int *part_rows);

/* engine/cuda/vendor_nccl.c: collectives on the device; NULL where the build has no nccl.h. */
const struct comm_ops *mcs_cuda_comm(void);

/* engine/cuda/measure.c: for bench. */
const struct measure *mcs_cuda_measure(void);

/* engine/cuda/optim_cuda.c */
enum mcs_status mcs_cuda_optim_update(struct device *d, const struct optim_update *u);
enum mcs_status mcs_cuda_optim_norm(struct device *d, double *norm);
void mcs_cuda_optim_close(struct cuda_device *c);

/* engine/cuda/device_ops_cuda.c */
extern const struct device_ops mcs_cuda_device_ops;
void mcs_cuda_device_ops_close(struct cuda_device *c);

#endif
