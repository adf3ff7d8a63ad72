/* Small kernels that show what each intrinsic of kernels/common/device.cuh does, each with its check against what
 * NVIDIA documents. They know no test framework and nothing of the simulation: a GPU runs them too. */
#ifndef CUDASIM_PROBES_H
#define CUDASIM_PROBES_H

#ifdef __cplusplus
extern "C" {
#endif

/* run: 0 if all is as documented; else says in text[256] what is not. */
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
