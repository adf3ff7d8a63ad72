/* Small kernels that exercise each intrinsic of kernels/common/device.cuh and compare it with NVIDIA's documentation.
 * They use no test framework and nothing of the simulation: a GPU can run them too. */
#ifndef CUDASIM_PROBES_H
#define CUDASIM_PROBES_H

#ifdef __cplusplus
extern "C" {
#endif

/* run returns 0 if the result is as documented; otherwise it writes the difference to text[256]. */
struct probe {
    const char *name;
    int (*run)(char *text);
};
extern const struct probe probes[];
extern const int n_probes;

#ifdef __cplusplus
}
#endif
#endif
