#include "hostile.h"
#include "ring.h"

#include <stdatomic.h>
#include <sys/mman.h>

int open_ring(struct ring *ring, unsigned flags)
{
    memset(ring, 0, sizeof *ring);
    ring->parameters.flags = flags;
    ring->descriptor = (int)CALL(SYS_io_uring_setup, 8, &ring->parameters);
    if (ring->descriptor < 0)
        return -1;
    const struct io_uring_params *made = &ring->parameters;
    /* One mapping holds both rings (IORING_FEAT_SINGLE_MMAP, Linux 5.4), and the completions come last. */
    ring->length = made->cq_off.cqes + made->cq_entries * sizeof(struct io_uring_cqe);
    if (ring->length < made->sq_off.array + made->sq_entries * sizeof(unsigned))
        ring->length = made->sq_off.array + made->sq_entries * sizeof(unsigned);
    ring->rings = mmap(NULL, ring->length, PROT_READ | PROT_WRITE, MAP_SHARED, ring->descriptor, IORING_OFF_SQ_RING);
    ring->entries = mmap(NULL, made->sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED,
                         ring->descriptor, IORING_OFF_SQES);
    if (ring->rings == MAP_FAILED || ring->entries == MAP_FAILED)
        give_up("map a ring");
    return ring->descriptor;
}

void close_ring(struct ring *ring)
{
    munmap(ring->rings, ring->length);
    munmap(ring->entries, ring->parameters.sq_entries * sizeof(struct io_uring_sqe));
    close(ring->descriptor);
}

long submit(struct ring *ring, struct io_uring_sqe entry)
{
    const struct io_uring_params *made = &ring->parameters;
    atomic_uint *sq_tail = (atomic_uint *)(ring->rings + made->sq_off.tail);
    atomic_uint *cq_head = (atomic_uint *)(ring->rings + made->cq_off.head);
    atomic_uint *cq_tail = (atomic_uint *)(ring->rings + made->cq_off.tail);
    unsigned slot = atomic_load(sq_tail) & (made->sq_entries - 1);
    ring->entries[slot] = entry;
    ((unsigned *)(ring->rings + made->sq_off.array))[slot] = slot;
    atomic_fetch_add(sq_tail, 1);
    /* What is refused completes as well, so there always is one to wait for. */
    if (CALL(SYS_io_uring_enter, ring->descriptor, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
        give_up("io_uring_enter");
    if (atomic_load(cq_head) == atomic_load(cq_tail))
        give_up("wait for a completion");
    const struct io_uring_cqe *all = (struct io_uring_cqe *)(ring->rings + made->cq_off.cqes);
    int result = all[atomic_load(cq_head) & (made->cq_entries - 1)].res;
    atomic_fetch_add(cq_head, 1);
    errno = result < 0 ? -result : 0;
    return result < 0 ? -1 : result;
}
