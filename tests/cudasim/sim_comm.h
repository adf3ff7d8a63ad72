/* NCCL with ranks as host threads. The calls of one rank in a group are one bundle, an operation of its stream that
 * runs when every rank's matching bundle is at the head of its stream. API: comm.cpp; matching and reductions:
 * comm_exchange.cpp. */
#ifndef CUDASIM_SIM_COMM_H
#define CUDASIM_SIM_COMM_H

#include <nccl.h>

#include <map>
#include <set>

#include "tests/cudasim/stream.h"

namespace comm
{
enum kind { ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, BROADCAST, REDUCE, SEND, RECV };
struct bundle;
struct communicator;

struct call {
    kind what;
    const void *send;
    void *recv;
    size_t count;
    ncclDataType_t type;
    ncclRedOp_t op;
    int peer; /* peer of send and receive, root of broadcast and reduce; -1: none */
};
struct member {
    bundle *of;
    size_t call; /* index in the bundle's calls */
};
struct rendezvous { /* one collective or one send/receive pair, and the ranks that have called it so far */
    std::map<int, member> arrived;
    size_t need;
    bool bad = false;
};
struct bundle : sim::gate {
    ncclComm *comm;
    std::vector<call> calls;
    std::vector<std::shared_ptr<rendezvous>> points; /* of each call */
    std::vector<uint64_t> numbers; /* of each call: number of the collective on this rank, from 1; 0: send or receive */
    std::vector<std::vector<char>> sent, result; /* of each call, filled on release */
    uint64_t capture; /* number, from 1, of the capture whose graph launched it; 0: launched outside a graph */
    bool released = false, failed = false, aborted = false;
    bundle(ncclComm *c, std::vector<call> x, uint64_t capture);
    ~bundle();
    bool open() override;
    void cancelled() override;
    cudaError_t run();
};
struct communicator {
    int n;
    std::vector<ncclComm *> ranks; /* NULL: not joined yet */
    std::vector<bool> left;        /* destroyed or aborted */
    int joined = 0;
    std::set<bundle *> waiting;                                /* bundles that are not released */
    std::map<std::string, std::shared_ptr<rendezvous>> points; /* that not all ranks have reached */
};

size_t bytes_of(ncclDataType_t t);
std::string text_of(const call &c);
bool does_send(const call &c, int rank), does_receive(const call &c, int rank);
size_t sent_bytes(const call &c, int ranks), received_bytes(const call &c, int ranks);
bool give_up(bool late); /* registered in sim::give_up */
bool has_left(const communicator &q, int rank);
} // namespace comm

struct ncclComm {
    std::shared_ptr<comm::communicator> all;
    int rank, device;
    std::shared_ptr<sim::host_thread> driver; /* the host thread of this rank's last call */
    ncclResult_t async;
    std::shared_ptr<comm::bundle> newest; /* the next bundle runs after it, even in another stream */
    uint64_t collectives;
    std::map<int, uint64_t> sends, recvs;
    std::vector<std::shared_ptr<sim::capture>> captures; /* captures in which it was called */
};

#endif
