/* A program that does what the test tells it to, each order in a thread of its own: so a test can have many calls wait
 * at once, and look at what came of each. Orders are lines in the talk image, `ID VERB ARGUMENTS`; the answer to each
 * is a line of output, `ID ANSWER`. */
#include "hostile.h"

#include <pthread.h>
#include <time.h>

/* Where orders stand in the talk image, and how many bytes of them there may be; see tests/src/hostile/puppet.rs. */
#define ORDERS 8192
#define ORDERS_END (256 * 1024)
/* Orders that there may be. */
#define MANY 4096
/* Looks at the talk image without any order, 2 ms apart, before the test counts as gone: ten minutes. */
#define PATIENCE 300000

struct order {
    int id;
    char verb[32];
    char arguments[4200];
};

/* The descriptor that each order left. */
static int descriptors[MANY];

static int descriptor_of(int id)
{
    return id >= 0 && id < MANY ? descriptors[id] : -1;
}

static void answer(int id, long result)
{
    char name[16];
    int error = errno;
    snprintf(name, sizeof name, "%d", id);
    errno = error;
    report(name, result);
}

/* `open FLAGS MODE NAME`: the descriptor stays open. */
static void open_file(const struct order *order)
{
    unsigned flags, mode;
    int start = 0;
    sscanf(order->arguments, "%x %o %n", &flags, &mode, &start);
    int fd = (int)CALL(SYS_openat, AT_FDCWD, order->arguments + start, flags, mode);
    descriptors[order->id] = fd;
    answer(order->id, fd);
}

/* `descriptor ID`: its number. */
static void tell_descriptor(const struct order *order)
{
    printf("%d %d\n", order->id, descriptor_of(atoi(order->arguments)));
}

static void close_file(const struct order *order)
{
    answer(order->id, CALL(SYS_close, descriptor_of(atoi(order->arguments))));
}

static void unlink_file(const struct order *order)
{
    answer(order->id, CALL(SYS_unlink, order->arguments));
}

/* `write ID TEXT`, to the start of the file. */
static void write_file(const struct order *order)
{
    int id, start = 0;
    sscanf(order->arguments, "%d %n", &id, &start);
    const char *text = order->arguments + start;
    answer(order->id, CALL(SYS_pwrite64, descriptor_of(id), text, strlen(text), 0));
}

/* `fill ID BYTES`: takes up room on the disk. */
static void fill_file(const struct order *order)
{
    int id;
    long bytes;
    sscanf(order->arguments, "%d %ld", &id, &bytes);
    answer(order->id, CALL(SYS_fallocate, descriptor_of(id), 0, 0, bytes));
}

/* `create-loop ROUNDS FOLDER`: makes a file in each round and removes it; how often either was done. */
static void create_often(const struct order *order)
{
    long rounds, made = 0, removed = 0;
    int start = 0;
    char name[5000];
    sscanf(order->arguments, "%ld %n", &rounds, &start);
    for (long i = 0; i < rounds; i++) {
        snprintf(name, sizeof name, "%s/new-%ld", order->arguments + start, i);
        int fd = (int)CALL(SYS_openat, AT_FDCWD, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0)
            continue;
        made++;
        close(fd);
        removed += CALL(SYS_unlink, name) == 0;
    }
    printf("%d %ld %ld\n", order->id, made, removed);
}

/* `open-loop ROUNDS NAME`: how often it could be opened, and how often what came was somebody else's. */
static void open_often(const struct order *order)
{
    long rounds, opened = 0, foreign = 0;
    int start = 0;
    sscanf(order->arguments, "%ld %n", &rounds, &start);
    for (long i = 0; i < rounds; i++) {
        char bytes[6] = "";
        int fd = (int)CALL(SYS_openat, AT_FDCWD, order->arguments + start, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        opened++;
        foreign += CALL(SYS_pread64, fd, bytes, sizeof bytes, 0) < 0 || !memcmp(bytes, "CANARY", sizeof bytes);
        close(fd);
    }
    printf("%d %ld %ld\n", order->id, opened, foreign);
}

static const struct {
    const char *name;
    void (*run)(const struct order *order);
} verbs[] = {
    {"open", open_file},
    {"descriptor", tell_descriptor},
    {"close", close_file},
    {"unlink", unlink_file},
    {"write", write_file},
    {"fill", fill_file},
    {"create-loop", create_often},
    {"open-loop", open_often},
};

static void *carry_out(void *memory)
{
    struct order *order = memory;
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (!strcmp(verbs[i].name, order->verb))
            verbs[i].run(order);
    free(order);
    return NULL;
}

/* Starts a thread for the order in `line`; 0 when it is the last one. */
static int start(const char *line)
{
    pthread_t thread;
    pthread_attr_t small;
    struct order *order = calloc(1, sizeof *order);
    if (!order || sscanf(line, "%d %31s %4199[^\n]", &order->id, order->verb, order->arguments) < 2)
        give_up("read an order");
    if (!strcmp(order->verb, "end"))
        return 0;
    if (order->id < 0 || order->id >= MANY)
        give_up("number of an order");
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &small, carry_out, order))
        give_up("start a thread");
    return 1;
}

void attack_as_told(void)
{
    static char orders[ORDERS_END - ORDERS + 1];
    const struct timespec pause = {.tv_nsec = 2000000};
    int talk = (int)CALL(SYS_openat, AT_FDCWD, TALK, O_RDONLY | O_CLOEXEC);
    char *next = orders;
    if (talk < 0)
        give_up("open the talk image");
    puts("ready now");
    for (int turns = 0; turns < PATIENCE; turns++) {
        size_t read = (size_t)(next - orders);
        if (CALL(SYS_pread64, talk, next, sizeof orders - 1 - read, ORDERS + (long)read) < 0)
            give_up("read orders");
        for (char *end; (end = strchr(next, '\n')); next = end + 1, turns = 0)
            if (!start(next))
                return;
        nanosleep(&pause, NULL);
    }
    give_up("wait for orders");
}
