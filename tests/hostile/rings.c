/* What an emulator that a guest has taken over makes of the rings of io_uring that aio=io_uring gives it: a ring's
 * operations pass no filter, so all that can keep it in is the ring. */
#include "hostile.h"
#include "ring.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* Setups while another thread changes the parameters. */
#define ROUNDS 1000
/* IORING_SETUP_NO_SQARRAY (Linux 6.6), which this system's headers may lack. */
#define NO_INDICES (1U << 16)
/* Operations that a ring can name: the opcode is a byte. */
#define OPERATIONS 256

static const unsigned char served[] = {IORING_OP_READV, IORING_OP_WRITEV,      IORING_OP_READ,   IORING_OP_WRITE,
                                       IORING_OP_FSYNC, IORING_OP_POLL_REMOVE, IORING_OP_TIMEOUT, IORING_OP_POLL_ADD};

static int is_served(unsigned operation)
{
    return memchr(served, (int)operation, sizeof served) != NULL;
}

static struct io_uring_sqe on_file(int operation, int descriptor, void *bytes, unsigned length)
{
    return (struct io_uring_sqe){.opcode = (unsigned char)operation, .fd = descriptor, .addr = (uintptr_t)bytes, .len = length};
}

/* What the command line asked a ring for. */
static void use_as_meant(struct ring *ring)
{
    static char bytes[512];
    struct iovec vector = {bytes, sizeof bytes};
    struct __kernel_timespec soon = {.tv_nsec = 1000};
    int image = (int)CALL(SYS_openat, AT_FDCWD, GRANTED, O_RDWR | O_CLOEXEC);
    int closed = open("/dev/null", O_RDWR);
    int reader = (int)CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY | O_CLOEXEC);
    report("served-read", submit(ring, on_file(IORING_OP_READ, image, bytes, sizeof bytes)));
    report("served-write", submit(ring, on_file(IORING_OP_WRITE, image, bytes, sizeof bytes)));
    report("served-readv", submit(ring, on_file(IORING_OP_READV, image, &vector, 1)));
    report("served-writev", submit(ring, on_file(IORING_OP_WRITEV, image, &vector, 1)));
    report("served-fsync", submit(ring, on_file(IORING_OP_FSYNC, image, NULL, 0)));
    report("served-write-read-only", submit(ring, on_file(IORING_OP_WRITE, reader, bytes, sizeof bytes)));
    struct io_uring_sqe wait = on_file(IORING_OP_POLL_ADD, closed, NULL, 0);
    wait.poll32_events = POLLOUT;
    report("served-poll", submit(ring, wait));
    report("served-poll-remove", submit(ring, on_file(IORING_OP_POLL_REMOVE, -1, bytes, 0)));
    report("served-timeout", submit(ring, on_file(IORING_OP_TIMEOUT, -1, &soon, 1)));
    /* The numbers are those of who submits: the agent's own lie elsewhere. */
    close(closed);
    report("served-closed", submit(ring, on_file(IORING_OP_READ, closed, bytes, sizeof bytes)));
    close(reader);
    close(image);
}

static void reach_out(struct ring *ring)
{
    static struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = 0x100};
    static struct iovec byte = {"x", 1};
    struct msghdr message = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &byte, .msg_iovlen = 1};
    int one = socket(AF_UNIX, SOCK_STREAM, 0), image = (int)CALL(SYS_openat, AT_FDCWD, GRANTED, O_RDWR | O_CLOEXEC);
    struct io_uring_sqe open = on_file(IORING_OP_OPENAT, AT_FDCWD, (void *)absolute(VICTIM), 0);
    open.open_flags = O_RDWR;
    report("openat", submit(ring, open));
    struct io_uring_sqe rename = on_file(IORING_OP_RENAMEAT, AT_FDCWD, VICTIM, (unsigned)AT_FDCWD);
    rename.addr2 = (uintptr_t) "stolen";
    report("renameat", submit(ring, rename));
    report("unlinkat", submit(ring, on_file(IORING_OP_UNLINKAT, AT_FDCWD, VICTIM, 0)));
    report("mkdirat", submit(ring, on_file(IORING_OP_MKDIRAT, AT_FDCWD, "made", 0700)));
    struct io_uring_sqe mark = on_file(IORING_OP_FSETXATTR, image, "user.mark", 1);
    mark.addr2 = (uintptr_t) "x";
    report("fsetxattr", submit(ring, mark));
    struct io_uring_sqe connect = on_file(IORING_OP_CONNECT, one, &address, 0);
    connect.addr2 = sizeof address;
    report("connect", submit(ring, connect));
    report("sendmsg", submit(ring, on_file(IORING_OP_SENDMSG, one, &message, 1)));
    report("socket", submit(ring, (struct io_uring_sqe){.opcode = IORING_OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM}));
    report("nothing", submit(ring, (struct io_uring_sqe){.opcode = IORING_OP_NOP}));
    close(one);
    close(image);
    /* All others, those of newer kernels too: an operation that this one does not know is EINVAL. */
    long carried = 0, unknown = 0;
    for (unsigned operation = 0; operation < OPERATIONS; operation++) {
        if (is_served(operation))
            continue;
        submit(ring, (struct io_uring_sqe){.opcode = (unsigned char)operation, .fd = -1});
        carried += errno != EACCES && errno != EINVAL;
        unknown += errno == EINVAL && operation <= IORING_OP_SOCKET;
    }
    report_number("others-carried", carried);
    report_number("others-unknown", unknown);
}

static void use_flags(struct ring *ring)
{
    static const struct {
        const char *name;
        unsigned char flag;
    } flags[] = {
        {"flag-fixed-file", IOSQE_FIXED_FILE}, {"flag-drain", IOSQE_IO_DRAIN}, {"flag-link", IOSQE_IO_LINK},
        {"flag-hard-link", IOSQE_IO_HARDLINK}, {"flag-async", IOSQE_ASYNC},    {"flag-buffer", IOSQE_BUFFER_SELECT},
    };
    char byte;
    int null = open("/dev/null", O_RDWR);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        struct io_uring_sqe entry = on_file(IORING_OP_READ, null, &byte, 1);
        entry.flags = flags[i].flag;
        report(flags[i].name, submit(ring, entry));
    }
    struct io_uring_sqe entry = on_file(IORING_OP_READ, null, &byte, 1);
    entry.personality = 1;
    report("other-personality", submit(ring, entry));
    close(null);
}

static void register_things(struct ring *ring)
{
    static char page[4096];
    struct iovec vector = {page, sizeof page};
    struct io_uring_rsrc_update number = {.offset = -1U, .data = (unsigned)ring->descriptor};
    struct io_uring_restriction all = {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_OPENAT};
    report("register-buffers", CALL(SYS_io_uring_register, ring->descriptor, IORING_REGISTER_BUFFERS, &vector, 1));
    report("register-files", CALL(SYS_io_uring_register, ring->descriptor, IORING_REGISTER_FILES, &(int){1}, 1));
    report("register-personality", CALL(SYS_io_uring_register, ring->descriptor, IORING_REGISTER_PERSONALITY, NULL, 0));
    report("register-restrictions", CALL(SYS_io_uring_register, ring->descriptor, IORING_REGISTER_RESTRICTIONS, &all, 1));
    report("register-enable", CALL(SYS_io_uring_register, ring->descriptor, IORING_REGISTER_ENABLE_RINGS, NULL, 0));
    report("register-no-ring", CALL(SYS_io_uring_register, -1, 31 /* IORING_REGISTER_SEND_MSG_RING */, page, 1));
    report("register-high-half", CALL(SYS_io_uring_register, ring->descriptor, 0x100000000L | IORING_REGISTER_BUFFERS, &vector, 1));
    report("register-number", CALL(SYS_io_uring_register, ring->descriptor, IORING_REGISTER_RING_FDS, &number, 1));
    long by_number = CALL(SYS_io_uring_enter, number.offset, 0, 0, 1U << 4 /* IORING_ENTER_REGISTERED_RING */, NULL, 0);
    report("enter-by-number", by_number);
    number.data = 0;
    report("unregister-number", CALL(SYS_io_uring_register, ring->descriptor, IORING_UNREGISTER_RING_FDS, &number, 1));
}

static void make_others(void)
{
    struct io_uring_params zero = {0}, reserved = {.resv = {0, 0, 1}};
    /* A page that cannot be written, and nothing behind it. */
    char *constant = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(constant + 4096, 4096);
    struct ring other;
    long granted = 0;
    for (unsigned bit = 0; bit < 32; bit++) {
        if (1U << bit == NO_INDICES)
            continue;
        struct io_uring_params one = {.flags = 1U << bit, .cq_entries = 16};
        long made = CALL(SYS_io_uring_setup, 8, &one);
        granted += made >= 0 || errno != EINVAL;
    }
    report_number("flags-granted", granted);
    report("no-indices", open_ring(&other, NO_INDICES));
    struct io_uring_params polling = {.flags = IORING_SETUP_SQPOLL};
    report("polling-thread", CALL(SYS_io_uring_setup, 8, &polling));
    report("no-entries", CALL(SYS_io_uring_setup, 0, &zero));
    report("many-entries", CALL(SYS_io_uring_setup, 32768, &zero));
    report("reserved", CALL(SYS_io_uring_setup, 8, &reserved));
    report("no-parameters", CALL(SYS_io_uring_setup, 8, NULL));
    report("unmapped-parameters", CALL(SYS_io_uring_setup, 8, 4096L));
    report("half-mapped-parameters", CALL(SYS_io_uring_setup, 8, constant + 4096 - 60));
    report("constant-parameters", CALL(SYS_io_uring_setup, 8, constant));
}

static void in_a_child(struct ring *ring)
{
    fflush(stdout);
    pid_t child = (pid_t)CALL(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0) {
        struct ring own;
        report("child-parents-ring", submit(ring, (struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD}));
        report("child-own-ring", open_ring(&own, 0));
        report("child-openat", submit(&own, (struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD}));
        fflush(stdout);
        _exit(0);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child)
        give_up("fork");
}

static struct io_uring_params contested;
static atomic_int stop;

static void *contest(void *nothing)
{
    for (unsigned turn = 0; !stop; turn++)
        *(volatile unsigned *)&contested.flags = turn & 1 ? IORING_SETUP_R_DISABLED : 0;
    return nothing;
}

/* One thread changes the parameters while the agent reads them: a ring that is disabled could still be given another list. */
static void race(void)
{
    pthread_t thread;
    struct io_uring_restriction open = {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_OPENAT};
    long made = 0, strange = 0;
    pthread_create(&thread, NULL, contest, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        int one = (int)CALL(SYS_io_uring_setup, 8, &contested);
        if (one < 0) {
            /* A ring's memory is given back some time after it was closed, and is limited. */
            strange += errno != EINVAL && errno != ENOMEM;
            continue;
        }
        made++;
        strange += CALL(SYS_io_uring_enter, one, 0, 0, 0, NULL, 0) != 0;
        if (round % 100 == 0)
            strange += CALL(SYS_io_uring_register, one, IORING_REGISTER_RESTRICTIONS, &open, 1) == 0;
        close(one);
    }
    stop = 1;
    pthread_join(thread, NULL);
    report("race-some-made", made > 0 && made < ROUNDS ? 0 : -1);
    report_number("race-strange", strange);
}

void attack_with_rings(void)
{
    struct ring ring;
    report("make", open_ring(&ring, 0));
    report("close-on-exec", fcntl(ring.descriptor, F_GETFD) == FD_CLOEXEC ? 0 : -1);
    report_number("entries", ring.parameters.sq_entries);
    report_number("flags-shown", ring.parameters.flags);
    use_as_meant(&ring);
    reach_out(&ring);
    use_flags(&ring);
    register_things(&ring);
    make_others();
    in_a_child(&ring);
    race();
}

/* Rings until there is no number left for one, again and again, until the program is killed. */
void attack_with_many_rings(void)
{
    static int numbers[4096];
    for (int round = 0;; round++) {
        size_t made = 0;
        for (; made < sizeof numbers / sizeof numbers[0]; made++) {
            struct io_uring_params parameters = {0};
            numbers[made] = (int)CALL(SYS_io_uring_setup, 256, &parameters);
            if (numbers[made] < 0)
                break;
        }
        if (round == 0) {
            report("one-more", -1);
            report_number("rings", (long)made);
            fflush(stdout);
        }
        while (made > 0)
            close(numbers[--made]);
    }
}
