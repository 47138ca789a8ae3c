/* A ring of io_uring, as far as an attack needs one: one operation at a time. */
#ifndef RING_H
#define RING_H

#include <linux/io_uring.h>

struct ring {
    int descriptor;
    struct io_uring_params parameters;
    unsigned char *rings;
    struct io_uring_sqe *entries;
    size_t length;
};

/* Makes a ring with `flags` and maps it; the descriptor, or -1 and errno. */
int open_ring(struct ring *ring, unsigned flags);
void close_ring(struct ring *ring);
/* Submits one operation and waits for its completion: what that says, as a system call would return it. */
long submit(struct ring *ring, struct io_uring_sqe entry);

#endif
