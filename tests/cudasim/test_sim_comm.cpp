/* Simulated NCCL: results of each collective, alone and in groups, with a thread for each rank or one for all, in
 * graphs; ranks whose calls differ, that miss a collective or leave get a report and an error, never a hang. */
#include <criterion/criterion.h>
#include <cuda_bf16.h>
#include <nccl.h>
#include <string.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/cudasim/cudasim.h"

#define OK(call) cr_assert_eq(call, cudaSuccess, "%s", #call)
#define DONE(call) cr_assert_eq(call, ncclSuccess, "%s", #call)

struct rank { /* a device, a stream and two device arrays of 64 floats */
    int index, n;
    ncclComm_t comm;
    cudaStream_t s;
    float *a, *b;
    void open(int i, int n_, const ncclUniqueId *id)
    {
        index = i, n = n_;
        OK(cudaSetDevice(i));
        OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
        OK(cudaMalloc((void **)&a, 256));
        OK(cudaMalloc((void **)&b, 256));
        OK(cudaMemset(a, 0, 256));
        OK(cudaMemset(b, 0, 256));
        OK(cudaDeviceSynchronize());
        if (id) DONE(ncclCommInitRank(&comm, n, *id, i));
    }
    void close()
    {
        OK(cudaSetDevice(index));
        DONE(ncclCommDestroy(comm));
        OK(cudaFree(a));
        OK(cudaFree(b));
        OK(cudaStreamDestroy(s));
    }
    void put(std::vector<float> v)
    {
        OK(cudaMemcpyAsync(a, v.data(), v.size() * 4, cudaMemcpyHostToDevice, s));
    }
    std::vector<float> get(const float *p, size_t k)
    {
        std::vector<float> v(k);
        OK(cudaMemcpyAsync(v.data(), p, k * 4, cudaMemcpyDeviceToHost, s));
        OK(cudaStreamSynchronize(s));
        return v;
    }
};

/* Runs f in one thread for each rank. */
static void by_threads(int n, const std::function<void(rank &)> &f)
{
    cudasim_devices(n);
    ncclUniqueId id;
    DONE(ncclGetUniqueId(&id));
    std::vector<std::thread> all;
    for (int i = 0; i < n; i++)
        all.emplace_back([&, i]() {
            rank r;
            r.open(i, n, &id);
            f(r);
        });
    for (auto &t : all) t.join();
}
static void no_reports()
{
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
}

Test(comm, each_collective)
{
    for (uint64_t seed = 0; seed < 3; seed++) {
        cudasim_seed(seed);
        by_threads(4, [](rank &r) {
            const float i = (float)r.index;
            int v = 0;
            DONE(ncclCommCount(r.comm, &v));
            cr_expect_eq(v, 4);
            DONE(ncclCommUserRank(r.comm, &v));
            cr_expect_eq(v, r.index);
            DONE(ncclCommCuDevice(r.comm, &v));
            cr_expect_eq(v, r.index);
            r.put({i, 10 * i, 1, -i});
            DONE(ncclAllReduce(r.a, r.b, 4, ncclFloat, ncclSum, r.comm, r.s));
            cr_expect(r.get(r.b, 4) == std::vector<float>({6, 60, 4, -6}));
            DONE(ncclAllReduce(r.a, r.b, 4, ncclFloat, ncclAvg, r.comm, r.s));
            cr_expect(r.get(r.b, 4) == std::vector<float>({1.5f, 15, 1, -1.5f}));
            DONE(ncclAllReduce(r.a, r.b, 4, ncclFloat, ncclMax, r.comm, r.s));
            cr_expect(r.get(r.b, 4) == std::vector<float>({3, 30, 1, 0}));
            DONE(ncclAllGather(r.a, r.b, 1, ncclFloat, r.comm, r.s));
            cr_expect(r.get(r.b, 4) == std::vector<float>({0, 1, 2, 3}));
            DONE(ncclReduceScatter(r.a, r.b, 1, ncclFloat, ncclSum, r.comm, r.s));
            cr_expect(r.get(r.b, 1)[0] == std::vector<float>({6, 60, 4, -6})[(size_t)r.index]);
            DONE(ncclBroadcast(r.a, r.b, 4, ncclFloat, 2, r.comm, r.s));
            cr_expect(r.get(r.b, 4) == std::vector<float>({2, 20, 1, -2}));
            DONE(ncclReduce(r.a, r.index == 1 ? r.b : NULL, 4, ncclFloat, ncclSum, 1, r.comm, r.s));
            cr_expect(r.get(r.b, 2) == (r.index == 1 ? std::vector<float>({6, 60}) : std::vector<float>({2, 20})));
            DONE(ncclAllReduce(r.a, r.a, 4, ncclFloat, ncclSum, r.comm, r.s)); /* in place */
            cr_expect(r.get(r.a, 4) == std::vector<float>({6, 60, 4, -6}));
            ncclResult_t e;
            DONE(ncclCommGetAsyncError(r.comm, &e));
            cr_expect_eq(e, ncclSuccess);
            r.close();
        });
        no_reports();
        cr_expect_eq(cudasim_bytes_held(), 0);
    }
}

/* bfloat16 sums are rounded after each rank's term; double and integer sums are exact here. */
Test(comm, types)
{
    by_threads(3, [](rank &r) {
        const __nv_bfloat16 h[2] = {__float2bfloat16_rn(256), __float2bfloat16_rn(1)};
        OK(cudaMemcpyAsync(r.a, &h[r.index > 0], 2, cudaMemcpyHostToDevice, r.s));
        DONE(ncclAllReduce(r.a, r.b, 1, ncclBfloat16, ncclSum, r.comm, r.s));
        __nv_bfloat16 out;
        OK(cudaMemcpyAsync(&out, r.b, 2, cudaMemcpyDeviceToHost, r.s));
        cr_expect_eq(__bfloat162float(out), 256, "256 + 1 is 256 in bfloat16, twice");
        const double d = r.index ? 1e-12 : 1;
        double sum;
        OK(cudaMemcpyAsync(r.a, &d, 8, cudaMemcpyHostToDevice, r.s));
        DONE(ncclAllReduce(r.a, r.b, 1, ncclDouble, ncclSum, r.comm, r.s));
        OK(cudaMemcpyAsync(&sum, r.b, 8, cudaMemcpyDeviceToHost, r.s));
        cr_expect_eq(sum, 1 + 1e-12 + 1e-12);
        const int32_t i = r.index + 1;
        int32_t product;
        OK(cudaMemcpyAsync(r.a, &i, 4, cudaMemcpyHostToDevice, r.s));
        DONE(ncclAllReduce(r.a, r.b, 1, ncclInt32, ncclProd, r.comm, r.s));
        OK(cudaMemcpyAsync(&product, r.b, 4, cudaMemcpyDeviceToHost, r.s));
        cr_expect_eq(product, 6);
        r.close();
    });
    no_reports();
}

/* Send and receive in both directions need a group; several collectives in one group are one operation. */
Test(comm, groups_and_messages)
{
    by_threads(2, [](rank &r) {
        r.put({(float)r.index + 1, 5});
        DONE(ncclGroupStart());
        DONE(ncclSend(r.a, 1, ncclFloat, 1 - r.index, r.comm, r.s));
        DONE(ncclRecv(r.b, 1, ncclFloat, 1 - r.index, r.comm, r.s));
        DONE(ncclAllReduce(r.a + 1, r.b + 1, 1, ncclFloat, ncclSum, r.comm, r.s));
        DONE(ncclGroupEnd());
        cr_expect(r.get(r.b, 2) == std::vector<float>({(float)(2 - r.index), 10}));
        if (r.index == 0) /* one direction: no group needed */
            DONE(ncclSend(r.a, 1, ncclFloat, 1, r.comm, r.s));
        else
            DONE(ncclRecv(r.b, 1, ncclFloat, 0, r.comm, r.s));
        if (r.index == 1) cr_expect_eq(r.get(r.b, 1)[0], 1);
        r.close();
    });
    no_reports();
}

/* One thread for all ranks: works with groups only. */
Test(comm, one_thread)
{
    cudasim_devices(2);
    rank r[2];
    ncclComm_t comms[2];
    DONE(ncclCommInitAll(comms, 2, NULL));
    for (int i = 0; i < 2; i++) {
        r[i].open(i, 2, NULL);
        r[i].comm = comms[i];
        r[i].put({1.0f + (float)i});
    }
    DONE(ncclGroupStart());
    for (int i = 0; i < 2; i++) DONE(ncclAllReduce(r[i].a, r[i].b, 1, ncclFloat, ncclSum, comms[i], r[i].s));
    DONE(ncclGroupEnd());
    for (int i = 0; i < 2; i++) cr_expect_eq(r[i].get(r[i].b, 1)[0], 3);
    for (int i = 0; i < 2; i++) r[i].close();
    ncclUniqueId id;
    DONE(ncclGetUniqueId(&id));
    DONE(ncclGroupStart());
    for (int i = 0; i < 2; i++) {
        OK(cudaSetDevice(i));
        DONE(ncclCommInitRank(&comms[i], 2, id, i));
    }
    DONE(ncclGroupEnd());
    for (int i = 0; i < 2; i++) DONE(ncclCommDestroy(comms[i]));
    const int twice[2] = {1, 1};
    cudasim_quiet(1);
    cr_expect_eq(ncclCommInitAll(comms, 2, twice), ncclInvalidUsage);
    const int none[2] = {0, 2};
    cr_expect_eq(ncclCommInitAll(comms, 2, none), ncclInvalidArgument);
}

Test(comm, in_a_graph)
{
    by_threads(2, [](rank &r) {
        cudaGraph_t g;
        cudaGraphExec_t x;
        OK(cudaStreamBeginCapture(r.s, cudaStreamCaptureModeThreadLocal));
        DONE(ncclAllReduce(r.a, r.a, 2, ncclFloat, ncclSum, r.comm, r.s));
        DONE(ncclAllReduce(r.a, r.b, 2, ncclFloat, ncclSum, r.comm, r.s));
        OK(cudaStreamEndCapture(r.s, &g));
        OK(cudaGraphInstantiateWithFlags(&x, g, 0));
        for (int turn = 1; turn < 5; turn++) {
            r.put({(float)turn, (float)(turn * r.index)});
            OK(cudaGraphLaunch(x, r.s));
            cr_expect(r.get(r.b, 2) == std::vector<float>({4 * (float)turn, 2 * (float)turn}));
        }
        OK(cudaGraphExecDestroy(x));
        OK(cudaGraphDestroy(g));
        r.close();
    });
    no_reports();
}

/* Runs f in one thread for each rank; all must return, and a report must contain both texts. */
static void expect_told(int n, const char *one, const char *two, const std::function<void(rank &)> &f)
{
    cudasim_quiet(1);
    cudasim_reports_clear();
    by_threads(n, f);
    for (int i = 0; i < n; i++) {
        cudaSetDevice(i);
        OK(cudaDeviceReset());
    }
    for (int i = 0; i < cudasim_reports(); i++)
        if (cudasim_report_kind(i) == CUDASIM_COMM && strstr(cudasim_report_text(i), one) &&
            strstr(cudasim_report_text(i), two))
            return;
    std::string all;
    for (int i = 0; i < cudasim_reports(); i++) all += std::string("\n    ") + cudasim_report_text(i);
    cr_expect(0, "nothing says '%s' and '%s' in:%s", one, two, all.c_str());
}
static void expect_failed(rank &r)
{
    ncclResult_t e = ncclSuccess;
    cr_expect_neq(cudaStreamSynchronize(r.s), cudaSuccess);
    DONE(ncclCommGetAsyncError(r.comm, &e));
    cr_expect_neq(e, ncclSuccess);
}

Test(comm, mismatched_collectives, .timeout = 30)
{
    expect_told(2, "AllReduce of 4 float, sum", "AllReduce of 5 float, sum", [](rank &r) {
        DONE(ncclAllReduce(r.a, r.b, 4 + (size_t)r.index, ncclFloat, ncclSum, r.comm, r.s));
        expect_failed(r);
    });
    expect_told(2, "AllReduce of 4", "AllGather of 4", [](rank &r) {
        if (r.index)
            DONE(ncclAllReduce(r.a, r.b, 4, ncclFloat, ncclSum, r.comm, r.s));
        else
            DONE(ncclAllGather(r.a, r.b, 4, ncclFloat, r.comm, r.s));
        expect_failed(r);
    });
    expect_told(2, "float", "bfloat16", [](rank &r) {
        DONE(ncclAllReduce(r.a, r.b, 4, r.index ? ncclFloat : ncclBfloat16, ncclSum, r.comm, r.s));
        expect_failed(r);
    });
    /* Two collectives in exchanged order. The second call of the later rank may already return the first one's
     * error. */
    expect_told(2, "root 0", "root 1", [](rank &r) {
        DONE(ncclBroadcast(r.a, r.a, 4, ncclFloat, r.index, r.comm, r.s));
        const ncclResult_t second = ncclBroadcast(r.a, r.a, 4, ncclFloat, 1 - r.index, r.comm, r.s);
        cr_expect(second == ncclSuccess || second == ncclUnhandledCudaError, "%d", (int)second);
        expect_failed(r);
    });
    expect_told(2, "Send of 3", "Recv of 4", [](rank &r) {
        if (r.index)
            DONE(ncclRecv(r.a, 4, ncclFloat, 0, r.comm, r.s));
        else
            DONE(ncclSend(r.a, 3, ncclFloat, 1, r.comm, r.s));
        expect_failed(r);
    });
}

static cudaGraphExec_t captured_sum(rank &r)
{
    cudaGraph_t g;
    cudaGraphExec_t x;
    OK(cudaStreamBeginCapture(r.s, cudaStreamCaptureModeThreadLocal));
    DONE(ncclAllReduce(r.a, r.b, 2, ncclFloat, ncclSum, r.comm, r.s));
    OK(cudaStreamEndCapture(r.s, &g));
    OK(cudaGraphInstantiateWithFlags(&x, g, 0));
    OK(cudaGraphDestroy(g));
    return x;
}

/* NCCL's rule: all ranks or none capture a collective, and all launch the graph of that capture. */
Test(comm, captures_must_be_uniform, .timeout = 30)
{
    by_threads(2, [](rank &r) { /* two captures launched in any order and a call outside them, alike on all ranks */
                                const cudaGraphExec_t first = captured_sum(r), second = captured_sum(r);
                                r.put({1, 2});
                                OK(cudaGraphLaunch(second, r.s));
                                DONE(ncclAllReduce(r.a, r.b, 2, ncclFloat, ncclSum, r.comm, r.s));
                                OK(cudaGraphLaunch(first, r.s));
                                OK(cudaGraphLaunch(second, r.s));
                                cr_expect(r.get(r.b, 2) == std::vector<float>({2, 4}));
                                OK(cudaGraphExecDestroy(first));
                                OK(cudaGraphExecDestroy(second));
                                r.close();
    });
    no_reports();
    expect_told(2, "AllReduce of 2 float, sum (its collective 1): rank 0 launches it from the graph of its capture 1",
                ", rank 1 outside a graph", [](rank &r) {
                    const cudaGraphExec_t x = captured_sum(r);
                    if (r.index)
                        (void)ncclAllReduce(r.a, r.b, 2, ncclFloat, ncclSum, r.comm, r.s);
                    else
                        (void)cudaGraphLaunch(x, r.s);
                    expect_failed(r);
                });
    expect_told(2, "rank 0 launches it from the graph of its capture 1", ", rank 1 from the graph of its capture 2",
                [](rank &r) {
                    const cudaGraphExec_t first = captured_sum(r), second = captured_sum(r);
                    (void)cudaGraphLaunch(r.index ? second : first, r.s);
                    expect_failed(r);
                });
}

Test(comm, missing_rank, .timeout = 30)
{
    expect_told(3, "waits in AllReduce of 4 float, sum (its collective 2)", "rank 1 has not called: it has left",
                [](rank &r) {
                    DONE(ncclAllReduce(r.a, r.b, 4, ncclFloat, ncclSum, r.comm, r.s));
                    OK(cudaStreamSynchronize(r.s));
                    if (r.index == 1) return; /* its host thread ends */
                    DONE(ncclAllReduce(r.a, r.b, 4, ncclFloat, ncclSum, r.comm, r.s));
                    expect_failed(r);
                });
    /* Both ranks are present, and each waits for a collective that the other never calls. */
    expect_told(2, "AllReduce", "which rank 1 has not called", [](rank &r) {
        DONE(r.index ? ncclRecv(r.a, 4, ncclFloat, 0, r.comm, r.s)
                     : ncclAllReduce(r.a, r.b, 4, ncclFloat, ncclSum, r.comm, r.s));
        expect_failed(r);
    });
    /* Send in both directions without a group: each sends, nobody receives. */
    expect_told(2, "waits in Send of 1 float", "is behind other work in its stream", [](rank &r) {
        DONE(ncclSend(r.a, 1, ncclFloat, 1 - r.index, r.comm, r.s));
        DONE(ncclRecv(r.b, 1, ncclFloat, 1 - r.index, r.comm, r.s));
        expect_failed(r);
    });
}

/* A program that polls sees the error by ncclCommGetAsyncError, aborts, and can continue without the other ranks. */
Test(comm, async_error_and_abort, .timeout = 30)
{
    cudasim_quiet(1);
    by_threads(2, [](rank &r) {
        if (r.index == 1) {
            DONE(ncclCommAbort(r.comm));
            return;
        }
        DONE(ncclAllReduce(r.a, r.b, 4, ncclFloat, ncclSum, r.comm, r.s));
        ncclResult_t e = ncclSuccess;
        for (int i = 0; i < 10000 && e == ncclSuccess; i++) {
            cr_expect_eq(cudaStreamQuery(r.s), cudaErrorNotReady);
            DONE(ncclCommGetAsyncError(r.comm, &e));
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        cr_expect_eq(e, ncclRemoteError);
        DONE(ncclCommAbort(r.comm));
        OK(cudaStreamSynchronize(r.s)); /* the aborted collective has ended */
        r.put({1});
        cr_expect_eq(r.get(r.a, 1)[0], 1);
    });
    no_reports();
}

Test(comm, timeout, .timeout = 30)
{
    cudasim_quiet(1);
    cudasim_devices(2);
    cudasim_patience(100);
    ncclUniqueId id;
    ncclComm_t c;
    DONE(ncclGetUniqueId(&id));
    cr_expect_eq(ncclCommInitRank(&c, 2, id, 0), ncclSystemError);
    cr_assert_eq(cudasim_reports(), 1);
    cr_expect(strstr(cudasim_report_text(0), "rank 0 waits in ncclCommInitRank for rank 1"), "%s",
              cudasim_report_text(0));
}

Test(comm, wrong_arguments)
{
    cudasim_quiet(1);
    static float host[4];
    by_threads(2, [](rank &r) {
        cr_expect_eq(ncclAllReduce(host, r.b, 4, ncclFloat, ncclSum, r.comm, r.s), ncclInvalidArgument);
        cr_expect_eq(ncclAllReduce(r.a, r.b + 62, 4, ncclFloat, ncclSum, r.comm, r.s), ncclInvalidArgument);
        cr_expect_eq(ncclAllReduce(r.a, r.a + 1, 4, ncclFloat, ncclSum, r.comm, r.s), ncclInvalidArgument);
        cr_expect_eq(ncclBroadcast(r.a, r.b, 4, ncclFloat, 2, r.comm, r.s), ncclInvalidArgument);
        cr_expect_eq(ncclSend(r.a, 4, ncclFloat, r.index, r.comm, r.s), ncclInvalidArgument);
        cr_expect_eq(ncclAllGather(r.b + 3, r.b, 4, ncclFloat, r.comm, r.s), ncclInvalidArgument);
        cr_expect_eq(ncclGroupEnd(), ncclInvalidUsage);
        DONE(ncclAllGather(r.b + 4 * r.index, r.b, 4, ncclFloat, r.comm, r.s)); /* in place, at the rank's own part */
        OK(cudaStreamSynchronize(r.s));
        r.close();
    });
}

/* Unordered access is a race with a collective as with a kernel: here the missing wait for the gradients. */
Test(comm, races_are_seen)
{
    if (!cudasim_checked()) return;
    cudasim_quiet(1);
    by_threads(2, [](rank &r) {
        cudaStream_t compute;
        OK(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking));
        OK(cudaMemsetAsync(r.a, 0, 16, compute));
        DONE(ncclAllReduce(r.a, r.b, 4, ncclFloat, ncclSum, r.comm, r.s));
        OK(cudaDeviceSynchronize());
        OK(cudaStreamDestroy(compute));
        r.close();
    });
    cr_assert_geq(cudasim_reports(), 1);
    cr_expect_eq(cudasim_report_kind(0), CUDASIM_RACE_GLOBAL);
    cr_expect(strstr(cudasim_report_text(0), "ncclAllReduce") || strstr(cudasim_report_text(0), "nccl in stream"), "%s",
              cudasim_report_text(0));
}
