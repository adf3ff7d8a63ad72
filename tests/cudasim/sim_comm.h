/* Ranks of NCCL as host threads: what one rank calls is a bundle in its stream, which runs when all that it must meet
 * have come to the heads of theirs. Calls: comm.cpp; meetings and sums: comm_exchange.cpp. */
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
struct clique;

struct call {
    kind what;
    const void *send;
    void *recv;
    size_t count;
    ncclDataType_t type;
    ncclRedOp_t op;
    int peer; /* or root; -1 */
};
struct member {
    bundle *of;
    size_t call; /* which of the bundle's */
};
struct meeting { /* one collective, or one message, and who has called it so far */
    std::map<int, member> here;
    size_t need;
    bool bad = false;
};
struct bundle : sim::gate {
    ncclComm *comm;
    std::vector<call> calls;
    std::vector<std::shared_ptr<meeting>> meetings;
    std::vector<uint64_t> numbers;               /* of each call: the rank's how manyth collective; 0: a message */
    std::vector<std::vector<char>> sent, result; /* of each call, once released */
    uint64_t capture; /* launched from the graph of the communicator's capture of this number, from 1; 0: from none */
    bool released = false, failed = false, aborted = false;
    bundle(ncclComm *c, std::vector<call> x, uint64_t capture);
    ~bundle();
    bool open() override;
    void dropped() override;
    cudaError_t run();
};
struct clique {
    int n;
    std::vector<ncclComm *> ranks; /* NULL: not here yet */
    std::vector<bool> left;        /* destroyed or aborted */
    int joined = 0;
    std::set<bundle *> waiting; /* not released */
    std::map<std::string, std::shared_ptr<meeting>> meetings;
};

size_t bytes_of(ncclDataType_t t);
std::string text_of(const call &c);
bool does_send(const call &c, int rank), does_receive(const call &c, int rank);
size_t sent_bytes(const call &c, int ranks), received_bytes(const call &c, int ranks);
bool give_up(bool late); /* for sim::give_up */
bool has_left(const clique &q, int rank);
} // namespace comm

struct ncclComm {
    std::shared_ptr<comm::clique> all;
    int rank, device;
    std::shared_ptr<sim::host_thread> driver; /* the thread that called last for this rank */
    ncclResult_t async;
    std::shared_ptr<comm::bundle> newest; /* the next one comes after it, whatever its stream */
    uint64_t collectives;
    std::map<int, uint64_t> sends, recvs;
    std::vector<std::shared_ptr<sim::capture>> captures; /* of streams, in which it was called */
};

#endif
