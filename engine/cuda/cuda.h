/* The CUDA backend inside: a device's streams, and what every op of this folder asks of it. Everything is enqueued on
 * the compute stream; the host waits only in download and sync. The same code runs on a GPU and on the simulation
 * (tests/cudasim), which defines the same runtime calls. */
#ifndef MCS_CUDA_H
#define MCS_CUDA_H

#include <cuda_runtime_api.h>

#include "engine/stage_ops.h"
#include "kernels/common/kernels.h"

enum { CUDA_STAGES = 2 };

struct cuda_stage { /* what uploads go through: the copy stream moves what the host put in one into the other */
    void *pinned, *device;
    cudaEvent_t copied, used; /* pinned was read; device was read */
};

struct cuda_device {
    int index;
    char name[128];
    int sm; /* compute capability, 90 for 9.0 */
    cudaStream_t compute, copy;
    struct cuda_stage stage[CUDA_STAGES]; /* a double buffer */
    int next_stage;
    struct k_run *run; /* device memory: seed and step of the run that is enqueued (backend's begin_run) */
    void *blas;        /* vendor.h's, made when first asked for */
    void *optim;       /* optim_cuda.c's, the same */
    void *stages;      /* stages_cuda.c's, the same */
    void *dnn;         /* vendor_dnn.c's, the same */
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
static inline void *mcs_cuda_data(const struct tensor *t) /* NULL for a slot that is not given */
{
    return t ? t->data : NULL;
}
static inline size_t mcs_cuda_round(size_t bytes) /* parts of a workspace start on multiples of 256 bytes */
{
    return (bytes + 255) / 256 * 256;
}

/* Device memory; E_NOMEM with what was asked for, and what is free. */
enum mcs_status mcs_cuda_alloc(const struct cuda_device *c, size_t bytes, void **p);

/* Memory and events of a stage; what failed half-way is closed as well. Close when no stream uses it. */
enum mcs_status mcs_cuda_stage_open(const struct cuda_device *c, size_t bytes, struct cuda_stage *t);
void mcs_cuda_stage_close(struct cuda_stage *t);

/* A failed CUDA call as a status: out of memory, no device and broken launches apart, with CUDA's own words. */
enum mcs_status mcs_cuda_status(cudaError_t e, const char *call);
#define MCS_CUDA(call)                                                                                                 \
    do {                                                                                                               \
        const cudaError_t cuda_error = (call);                                                                         \
        if (cuda_error != cudaSuccess) return mcs_trace(mcs_cuda_status(cuda_error, #call), __FILE__, __LINE__);       \
    } while (0)

/* engine/cuda/op_conv.c: bytes of the moments (kernels/conv/convolution.h) that this step leaves at the start of the
 * workspace, because it is a convolution whose y the next step, an instance norm, would else read twice; 0: none. */
size_t mcs_cuda_moments_bytes(const struct step *s, int *part_rows);

/* engine/cuda/vendor_nccl.c: collectives on the device; NULL where the build knows no NCCL. */
const struct comm_ops *mcs_cuda_comm(void);

/* engine/cuda/measure.c: for bench. */
const struct measure *mcs_cuda_measure(void);

/* engine/cuda/optim_cuda.c */
enum mcs_status mcs_cuda_optim_update(struct device *d, const struct optim_update *u);
enum mcs_status mcs_cuda_optim_norm(struct device *d, double *norm);
void mcs_cuda_optim_close(struct cuda_device *c);

/* engine/cuda/stages_cuda.c */
extern const struct stage_ops mcs_cuda_stages;
void mcs_cuda_stages_close(struct cuda_device *c);

#endif
