/* Captures and graphs: results and orders of replays, and each documented way in which a capture fails. */
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <string.h>

#include <set>
#include <string>
#include <thread>

#include "kernels/common/kernels.h"
#include "tests/cudasim/cudasim.h"

#define OK(call) cr_assert_eq(call, cudaSuccess, "%s", #call)

struct streams { /* two non-blocking streams, and an event in each direction */
    cudaStream_t s[2];
    cudaEvent_t fork, join;
    char *a;
    streams()
    {
        for (int i = 0; i < 2; i++) OK(cudaStreamCreateWithFlags(&s[i], cudaStreamNonBlocking));
        OK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
        OK(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
        OK(cudaMalloc((void **)&a, 256));
        OK(cudaMemset(a, 0, 256));
        OK(cudaDeviceSynchronize());
    }
    ~streams()
    {
        cudaFree(a);
        cudaEventDestroy(fork);
        cudaEventDestroy(join);
        for (int i = 0; i < 2; i++) cudaStreamDestroy(s[i]);
    }
    char first()
    {
        char c;
        OK(cudaMemcpy(&c, a, 1, cudaMemcpyDeviceToHost));
        return c;
    }
};

static cudaGraphExec_t instantiate(cudaGraph_t g)
{
    cudaGraphExec_t x = NULL;
    OK(cudaGraphInstantiateWithFlags(&x, g, 0));
    return x;
}

/* Nothing runs during capture; a launch uses the arguments of the capture and the memory's contents at launch. */
Test(graph, replays_what_was_captured)
{
    streams t;
    float *x, *pinned;
    OK(cudaMalloc((void **)&x, 64 * 4));
    OK(cudaMallocHost((void **)&pinned, 64 * 4));
    k_gelu k = {};
    k.x = x, k.y = x, k.n = 64;
    cudaGraph_t g;
    enum cudaStreamCaptureStatus status;
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeThreadLocal));
    OK(cudaStreamIsCapturing(t.s[0], &status));
    cr_expect_eq(status, cudaStreamCaptureStatusActive);
    OK(cudaMemcpyAsync(x, pinned, 64 * 4, cudaMemcpyHostToDevice, t.s[0]));
    OK(k_gelu_fwd(&k, t.s[0]));
    OK(cudaMemcpyAsync(pinned, x, 64 * 4, cudaMemcpyDeviceToHost, t.s[0]));
    k.n = 1; /* no effect: arguments are copied at capture */
    OK(cudaStreamEndCapture(t.s[0], &g));
    OK(cudaStreamIsCapturing(t.s[0], &status));
    cr_expect_eq(status, cudaStreamCaptureStatusNone);
    size_t n = 0;
    cudaGraphNode_t nodes[4];
    OK(cudaGraphGetNodes(g, NULL, &n));
    cr_expect_eq(n, 3);
    n = 4;
    OK(cudaGraphGetNodes(g, nodes, &n));
    cr_expect(n == 3 && nodes[2] && !nodes[3]);
    cudaGraphExec_t exec = instantiate(g);
    OK(cudaGraphDestroy(g));
    cr_expect_eq(cudaGraphDestroy(g), cudaErrorInvalidValue);
    for (int turn = 1; turn <= 3; turn++) {
        cudasim_seed((uint64_t)turn);
        for (int i = 0; i < 64; i++) pinned[i] = (float)(10 * turn); /* in float gelu(x) = x from 10 on */
        OK(cudaGraphLaunch(exec, t.s[1]));
        OK(cudaStreamSynchronize(t.s[1]));
        for (int i = 0; i < 64; i++) cr_assert_eq(pinned[i], (float)(10 * turn));
        for (int i = 0; i < 64; i++) pinned[i] = -100;
        OK(cudaGraphLaunch(exec, t.s[turn & 1]));
        /* launches of one graph run one after the other in any streams */
        OK(cudaGraphLaunch(exec, t.s[1 - (turn & 1)]));
        OK(cudaDeviceSynchronize());
        for (int i = 0; i < 64; i++) cr_assert(pinned[i] == 0, "GELU(-100) is -0");
    }
    OK(cudaGraphExecDestroy(exec));
    cr_expect_eq(cudaGraphLaunch(exec, t.s[0]), cudaErrorInvalidValue);
    OK(cudaFree(x));
    OK(cudaFreeHost(pinned));
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
}

/* Captures s0: write 1 | s1: write 2 | join. wait_first: s1 starts after the write of s0. */
static cudaGraphExec_t forked(streams &t, bool wait_first)
{
    cudaGraph_t g;
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    if (!wait_first) OK(cudaEventRecord(t.fork, t.s[0]));
    OK(cudaMemsetAsync(t.a, 1, 1, t.s[0]));
    if (wait_first) OK(cudaEventRecord(t.fork, t.s[0]));
    OK(cudaStreamWaitEvent(t.s[1], t.fork, 0));
    OK(cudaMemsetAsync(t.a, 2, 1, t.s[1]));
    OK(cudaEventRecord(t.join, t.s[1]));
    OK(cudaStreamWaitEvent(t.s[0], t.join, 0));
    OK(cudaStreamEndCapture(t.s[0], &g));
    cudaGraphExec_t x = instantiate(g);
    OK(cudaGraphDestroy(g));
    return x;
}

/* An event's edge is kept in the graph; without it both orders occur and the race is reported. */
Test(graph, branches)
{
    cudasim_quiet(1);
    for (int wait = 0; wait < 2; wait++) {
        streams t;
        cudaGraphExec_t x = forked(t, wait);
        std::set<char> seen;
        for (uint64_t seed = 1; seed <= 20; seed++) {
            cudasim_seed(seed);
            OK(cudaGraphLaunch(x, t.s[0]));
            OK(cudaStreamSynchronize(t.s[0]));
            seen.insert(t.first());
        }
        if (wait) {
            cr_expect(seen.size() == 1 && *seen.begin() == 2);
            for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
        } else {
            cr_expect_eq(seen.size(), 2, "one order alone was seen");
            if (cudasim_checked()) {
                cr_assert_geq(cudasim_reports(), 1);
                cr_expect_eq(cudasim_report_kind(0), CUDASIM_RACE_GLOBAL);
            }
            cudasim_reports_clear();
        }
        OK(cudaGraphExecDestroy(x));
    }
}

/* Later operations of the launch's stream run after all its nodes; those of another stream may not. */
Test(graph, launch_is_an_operation_of_its_stream)
{
    cudasim_quiet(1);
    streams t;
    cudaGraphExec_t x = forked(t, true);
    for (uint64_t seed = 0; seed < 10; seed++) {
        cudasim_seed(seed);
        OK(cudaMemsetAsync(t.a, 7, 1, t.s[1]));
        OK(cudaEventRecord(t.fork, t.s[1]));
        OK(cudaStreamWaitEvent(t.s[0], t.fork, 0));
        OK(cudaGraphLaunch(x, t.s[0]));
        OK(cudaMemsetAsync(t.a, 3, 1, t.s[0]));
        OK(cudaStreamSynchronize(t.s[0]));
        cr_expect_eq(t.first(), 3);
    }
    cr_expect_eq(cudasim_reports(), 0);
    OK(cudaGraphLaunch(x, t.s[0]));
    OK(cudaMemsetAsync(t.a, 9, 1, t.s[1])); /* not ordered with the graph */
    OK(cudaDeviceSynchronize());
    if (cudasim_checked()) cr_expect_geq(cudasim_reports(), 1);
    OK(cudaGraphExecDestroy(x));
}

/* Ends a capture that must be invalid: no graph is returned, and the stream can be used again. */
static void expect_broken(streams &t)
{
    cudaGraph_t g = (cudaGraph_t)&t;
    enum cudaStreamCaptureStatus status;
    OK(cudaStreamIsCapturing(t.s[0], &status));
    cr_expect_eq(status, cudaStreamCaptureStatusInvalidated);
    cr_expect_eq(cudaMemsetAsync(t.a, 1, 1, t.s[0]), cudaErrorStreamCaptureInvalidated);
    cr_expect_eq(cudaStreamEndCapture(t.s[0], &g), cudaErrorStreamCaptureInvalidated);
    cr_expect_null(g);
    cr_expect_eq(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
    OK(cudaMemsetAsync(t.a, 1, 1, t.s[0]));
    OK(cudaStreamSynchronize(t.s[0]));
}

Test(graph, calls_that_break_a_capture)
{
    cudasim_quiet(1);
    streams t;
    void *p;
    char pageable[16] = {0};
    for (int what = 0; what < 12; what++) {
        cudasim_reports_clear();
        OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
        OK(cudaEventRecord(t.fork, t.s[0]));
        cudaError_t e = cudaSuccess, want = cudaErrorStreamCaptureUnsupported;
        switch (what) {
        case 0: e = cudaMalloc(&p, 16); break;
        case 1: e = cudaStreamSynchronize(t.s[0]); break;
        case 2: e = cudaStreamQuery(t.s[0]); break;
        case 3: e = cudaDeviceSynchronize(); break;
        case 4: e = cudaMemcpy(pageable, t.a, 16, cudaMemcpyDeviceToHost); break;
        case 5: e = cudaMemcpyAsync(pageable, t.a, 16, cudaMemcpyDeviceToHost, t.s[0]); break;
        case 6: e = cudaMemcpyAsync(t.a, pageable, 16, cudaMemcpyHostToDevice, t.s[0]); break;
        case 7: e = cudaFree(t.a); break;
        case 8: e = cudaMallocHost(&p, 16); break;
        case 9: e = cudaStreamSynchronize(t.s[1]); break; /* not captured, but forbidden by the capture's mode */
        case 10: e = cudaEventSynchronize(t.fork), want = cudaErrorCapturedEvent; break;
        case 11: e = cudaEventQuery(t.fork), want = cudaErrorCapturedEvent; break;
        default: break;
        }
        cr_expect_eq(e, want, "%d: %s", what, cudaGetErrorName(e));
        cr_expect_eq(cudasim_reports(), 1, "%d", what);
        cr_expect_eq(cudasim_report_kind(0), CUDASIM_CAPTURE);
        expect_broken(t);
    }
}

Test(graph, modes)
{
    cudasim_quiet(1);
    streams t;
    void *p;
    cudaGraph_t g;
    cudaError_t e = cudaSuccess;
    const auto elsewhere = [&e, &p]() { e = cudaMalloc(&p, 16); };
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeRelaxed));
    OK(cudaMalloc(&p, 16)); /* allowed in relaxed mode */
    OK(cudaFree(p));
    OK(cudaStreamEndCapture(t.s[0], &g));
    OK(cudaGraphDestroy(g));
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeThreadLocal));
    std::thread(elsewhere).join();
    cr_expect_eq(e, cudaSuccess, "another thread is free to");
    cr_expect_eq(cudaMalloc(&p, 16), cudaErrorStreamCaptureUnsupported, "this one is not");
    expect_broken(t);
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    std::thread(elsewhere).join();
    cr_expect_eq(e, cudaErrorStreamCaptureUnsupported, "global: no thread may");
    expect_broken(t);
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    OK(cudaThreadExchangeStreamCaptureMode(&mode));
    cr_expect_eq(mode, cudaStreamCaptureModeGlobal);
    OK(cudaMalloc(&p, 16));
    OK(cudaFree(p));
    OK(cudaThreadExchangeStreamCaptureMode(&mode));
    std::thread([&]() { e = cudaStreamEndCapture(t.s[0], &g); }).join();
    cr_expect_eq(e, cudaErrorStreamCaptureWrongThread);
    OK(cudaStreamEndCapture(t.s[0], &g));
    OK(cudaGraphDestroy(g));
}

Test(graph, incomplete_captures)
{
    cudasim_quiet(1);
    streams t;
    cudaGraph_t g, h;
    cr_expect_eq(cudaStreamEndCapture(t.s[0], &g), cudaErrorIllegalState);
    cr_expect_eq(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    cr_expect_eq(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
    OK(cudaEventRecord(t.fork, t.s[0]));
    OK(cudaStreamWaitEvent(t.s[1], t.fork, 0));
    OK(cudaMemsetAsync(t.a, 2, 1, t.s[1]));
    cr_expect_eq(cudaStreamEndCapture(t.s[0], &g), cudaErrorStreamCaptureUnjoined);
    cr_expect_null(g);
    OK(cudaStreamSynchronize(t.s[1])); /* no longer captured */
    cr_expect_eq(cudaStreamWaitEvent(t.s[1], t.fork, 0), cudaErrorCapturedEvent, "an event of a capture that ended");

    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    OK(cudaEventRecord(t.fork, t.s[0]));
    OK(cudaStreamWaitEvent(t.s[1], t.fork, 0));
    cr_expect_eq(cudaStreamEndCapture(t.s[1], &g), cudaErrorStreamCaptureUnmatched);
    expect_broken(t);

    OK(cudaEventRecord(t.join, t.s[1])); /* outside the capture */
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    cr_expect_eq(cudaStreamWaitEvent(t.s[0], t.join, 0), cudaErrorStreamCaptureIsolation);
    expect_broken(t);

    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    OK(cudaStreamBeginCapture(t.s[1], cudaStreamCaptureModeGlobal));
    OK(cudaEventRecord(t.fork, t.s[0]));
    cr_expect_eq(cudaStreamWaitEvent(t.s[1], t.fork, 0), cudaErrorStreamCaptureMerge);
    cr_expect_eq(cudaStreamEndCapture(t.s[1], &h), cudaErrorStreamCaptureInvalidated);
    expect_broken(t);

    cudaStream_t blocking; /* a blocking stream: the default stream would wait for it */
    OK(cudaStreamCreate(&blocking));
    OK(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal));
    cr_expect_eq(cudaMemsetAsync(t.a, 1, 1, NULL), cudaErrorStreamCaptureImplicit);
    cr_expect_eq(cudaStreamEndCapture(blocking, &g), cudaErrorStreamCaptureInvalidated);
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    OK(cudaMemsetAsync(t.a, 1, 1, NULL)); /* the default stream does not wait for a non-blocking stream */
    OK(cudaStreamEndCapture(t.s[0], &g));
    OK(cudaGraphDestroy(g));
    OK(cudaStreamDestroy(blocking));
}

static cudaGraph_t memset_to(streams &t, int value, int times)
{
    cudaGraph_t g;
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    for (int i = 0; i < times; i++) OK(cudaMemsetAsync(t.a, value, 1, t.s[0]));
    OK(cudaStreamEndCapture(t.s[0], &g));
    return g;
}

Test(graph, update)
{
    streams t;
    cudaGraph_t one = memset_to(t, 1, 1), two = memset_to(t, 2, 1), longer = memset_to(t, 3, 2);
    cudaGraphExec_t x = instantiate(one);
#if CUDART_VERSION >= 12000
    cudaGraphExecUpdateResultInfo info;
    OK(cudaGraphExecUpdate(x, two, &info));
    OK(cudaGraphLaunch(x, t.s[0]));
    OK(cudaStreamSynchronize(t.s[0]));
    cr_expect_eq(t.first(), 2);
    cr_expect_eq(cudaGraphExecUpdate(x, longer, &info), cudaErrorGraphExecUpdateFailure);
    cr_expect_eq(info.result, cudaGraphExecUpdateErrorTopologyChanged);
#endif
    OK(cudaGraphExecDestroy(x));
    for (cudaGraph_t g : {one, two, longer}) OK(cudaGraphDestroy(g));
}

/* The error of a kernel in a graph is as sticky as any other. */
Test(graph, errors_of_nodes)
{
    if (!cudasim_checked()) return;
    cudasim_quiet(1);
    streams t;
    k_gelu k = {};
    k.x = k.y = t.a, k.n = 65; /* one more than allocated */
    cudaGraph_t g;
    OK(cudaStreamBeginCapture(t.s[0], cudaStreamCaptureModeGlobal));
    OK(k_gelu_fwd(&k, t.s[0]));
    OK(cudaStreamEndCapture(t.s[0], &g));
    cudaGraphExec_t x = instantiate(g);
    OK(cudaGraphLaunch(x, t.s[0]));
    cr_expect_eq(cudaStreamSynchronize(t.s[0]), cudaErrorIllegalAddress);
    cr_expect_eq(cudaGraphLaunch(x, t.s[0]), cudaErrorIllegalAddress);
    OK(cudaDeviceReset());
}
