/* More of everything than an emulator would ask for: what is bounded must stay bounded, and nobody may hang. */
#include "hostile.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Enough threads to fill every table between here and the broker: both sides hold 64 calls. */
#define THREADS 160

/* Opens of names that are `length` bytes long and name nothing. */
static long flood(long rounds, int length)
{
    long answered = 0;
    char name[4096];
    memset(name, 0xff, sizeof name);
    for (long i = 0; i < rounds; i++) {
        sprintf(name + length - 12, "%012ld", i);
        long fd = CALL(SYS_openat, AT_FDCWD, name, O_RDONLY);
        answered += fd < 0 && errno == EACCES;
        if (fd >= 0)
            close((int)fd);
    }
    return answered;
}

/* Refused opens, granted opens, refused calls: in two parts, between which and after which the test looks. */
void attack_with_floods(void)
{
    long rounds = number_parameter("rounds");
    report_number("first", flood(rounds / 10, 20));
    wait_for('a');
    report_number("second", flood(rounds - rounds / 10, 20));
    long opened = 0, refused = 0;
    for (long i = 0; i < rounds / 10; i++) {
        int fd = (int)CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY);
        opened += fd >= 0;
        close(fd);
        refused += CALL(SYS_keyctl, 0, -3, 0) < 0 && errno == EPERM;
    }
    report_number("opened", opened);
    report_number("refused-calls", refused);
    wait_for('b');
}

/* The longest names, of bytes that take the most room when they are written down. */
void attack_with_long_names(void)
{
    report_number("answered", flood(number_parameter("rounds"), 4095));
}

static atomic_long granted_opens, refused_opens, other_answers;

static void *open_often(void *unused)
{
    for (int i = 0; i < 50; i++) {
        int fd = (int)CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY);
        if (fd >= 0) {
            granted_opens++;
            close(fd);
        } else {
            other_answers++;
        }
        fd = (int)CALL(SYS_openat, AT_FDCWD, VICTIM, O_RDONLY);
        if (fd < 0 && errno == EACCES)
            refused_opens++;
        else
            other_answers++;
    }
    return unused;
}

static void open_from_everywhere(void)
{
    static pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, open_often, NULL))
            give_up("start a thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    report_number("granted-opens", granted_opens);
    report_number("refused-opens", refused_opens);
    report_number("other-answers", other_answers);
}

static void *open_for_ever(void *name)
{
    for (;;)
        CALL(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
    return NULL;
}

/* Ended in the midst of a call: what it waited for must not clog anything. */
static void end_while_asking(void)
{
    int ended = 0;
    for (int i = 0; i < 100; i++) {
        pthread_t opener;
        int child = fork();
        if (child < 0)
            give_up("fork");
        if (child == 0) {
            if (pthread_create(&opener, NULL, open_for_ever, i % 2 ? READ_ONLY : VICTIM))
                give_up("start a thread");
            for (int turn = 0; turn < i; turn++)
                sched_yield();
            /* The kernel kills the other thread, wherever it is. */
            CALL(SYS_exit_group, 0);
        }
        ended += waitpid(child, NULL, 0) == child;
    }
    report_number("ended", ended);
    report_descriptor("after-the-ended", CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY));
}

static void handle(int signal)
{
    (void)signal;
}

/* Signals without SA_RESTART, as a vCPU is kicked, from another thread at every moment of an open. */
static void *kick(void *thread)
{
    while (!pthread_kill(*(pthread_t *)thread, SIGUSR1) && !other_answers)
        sched_yield();
    return NULL;
}

static void be_kicked(void)
{
    struct sigaction action = {.sa_handler = handle};
    pthread_t self = pthread_self(), kicker;
    long opened = 0, interrupted = 0, otherwise = 0;
    sigaction(SIGUSR1, &action, NULL);
    if (pthread_create(&kicker, NULL, kick, &self))
        give_up("start a thread");
    for (int i = 0; i < 2000; i++) {
        int fd = (int)CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY);
        opened += fd >= 0;
        interrupted += fd < 0 && errno == EINTR;
        otherwise += fd < 0 && errno != EINTR;
        if (fd >= 0)
            close(fd);
    }
    other_answers = 1;
    pthread_join(kicker, NULL);
    /* No descriptor may have come that nobody was told of. */
    int next = dup(0);
    report_number("opened-or-interrupted", opened + interrupted);
    report_number("otherwise-while-kicked", otherwise);
    report_number("lowest-free-descriptor", next);
    report_descriptor("after-the-kicks", CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY));
}

/* No room for the descriptor: an error, and the broker keeps nothing of it. */
static void fill_the_table(void)
{
    struct rlimit few = {32, 32};
    int last = 0;
    setrlimit(RLIMIT_NOFILE, &few);
    for (int fd; (fd = dup(0)) >= 0;)
        last = fd;
    for (int i = 0; i < 200; i++)
        if (CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY) >= 0 || errno != EMFILE)
            give_up("open with a full table");
    report("full-table", CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY));
    close(last);
    report("room-again", CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY));
}

void attack_with_threads(void)
{
    wait_for('a');
    open_from_everywhere();
    end_while_asking();
    be_kicked();
    fill_the_table();
    wait_for('b');
}
