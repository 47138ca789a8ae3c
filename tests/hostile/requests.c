/* The protocol of docs/protocol.md, spoken by a program that was taken over, on the connection that `--protocol-socket`
 * gives it: more requests of each kind than anybody needs, and what is no request. */
#include "hostile.h"

#include <poll.h>
#include <sys/socket.h>

/* Kinds of request, and of what a reply says (docs/protocol.md). */
enum { OPEN, UNLINK, REFUSED, CREATE, COMMIT_BEGIN, COMMIT_END, CHANGE_MEDIUM, STATUS, RESOLVE };
enum { DESCRIPTOR, DONE, ERRNO, STATUS_REPLY };

/* Bytes of a packet (docs/protocol.md). */
#define MAX_PACKET 8192
/* Requests that may be unanswered at a time. */
#define IN_FLIGHT 64

static int broker = -1;

struct packet {
    unsigned char bytes[MAX_PACKET];
    size_t length;
};

static void put_number(struct packet *packet, unsigned long number)
{
    for (; number > 127; number >>= 7)
        packet->bytes[packet->length++] = (unsigned char)(number | 128);
    packet->bytes[packet->length++] = (unsigned char)number;
}

static void put_name(struct packet *packet, const char *name)
{
    size_t length = strlen(name);
    put_number(packet, length);
    memcpy(packet->bytes + packet->length, name, length);
    packet->length += length;
}

static const char *number_at(const char *at, unsigned long *number)
{
    *number = 0;
    for (int shift = 0;; shift += 7) {
        *number |= (unsigned long)(*at & 127) << shift;
        if (!(*at++ & 128))
            return at;
    }
}

static void await(short events)
{
    struct pollfd polled = {.fd = broker, .events = events};
    if (poll(&polled, 1, -1) < 0)
        give_up("wait for the broker");
}

static void send_packet(const struct packet *packet)
{
    while (send(broker, packet->bytes, packet->length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        if (errno != EAGAIN)
            give_up("send a request");
        await(POLLOUT);
    }
}

/* Takes a reply, closes what came with it, and returns the errno in it, or 0. */
static unsigned long take_reply(void)
{
    char bytes[MAX_PACKET];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = {bytes, sizeof bytes};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    unsigned long id, outcome, number = 0;
    int fd;
    for (ssize_t length; (length = recvmsg(broker, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)) <= 0; await(POLLIN)) {
        if (length == 0)
            errno = EPIPE;
        if (errno != EAGAIN)
            give_up("receive a reply");
    }
    const char *rest = number_at(number_at(bytes, &id), &outcome);
    if (outcome == DESCRIPTOR) {
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (!header || header->cmsg_type != SCM_RIGHTS)
            give_up("find the descriptor");
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
        close(fd);
    }
    if (outcome == ERRNO)
        number_at(rest, &number);
    return number;
}

static void greet(void)
{
    struct packet hello = {"BRKR\x03", 5};
    char welcome[64];
    const char *number = getenv("BROKER_SOCKET");
    broker = number ? atoi(number) : -1;
    send_packet(&hello);
    await(POLLIN);
    if (recv(broker, welcome, sizeof welcome, 0) < 6 || memcmp(welcome, hello.bytes, 5))
        give_up("be welcomed");
}

/* One request of a kind: what follows name and flags in it depends on the kind. */
static void ask(unsigned long id, int kind, const char *name, int access)
{
    struct packet packet = {.length = 0};
    put_number(&packet, id);
    put_number(&packet, (unsigned long)kind);
    if (kind != STATUS)
        put_name(&packet, name);
    if (kind == OPEN || kind == CREATE || kind == CHANGE_MEDIUM) {
        put_number(&packet, (unsigned long)access);
        put_number(&packet, 1 << 13 /* O_CLOEXEC */);
    }
    if (kind == CREATE)
        put_number(&packet, 0644);
    send_packet(&packet);
}

/* `rounds` requests of a kind, many at a time and answered in any order, for names that differ; how many came to `wanted`, an errno or 0. */
static void flood(const char *title, int kind, const char *start, int access, long rounds, unsigned long wanted)
{
    long fits = 0, taken = 0;
    char name[256];
    for (long i = 0; i < rounds; i++) {
        /* A name that ends in a hyphen is another one each time. */
        snprintf(name, sizeof name, start[strlen(start) - 1] == '-' ? "%s%ld" : "%s", start, i);
        if (i - taken == IN_FLIGHT) {
            fits += take_reply() == wanted;
            taken++;
        }
        ask((unsigned long)i, kind, name, access);
    }
    for (; taken < rounds; taken++)
        fits += take_reply() == wanted;
    report_number(title, fits);
}

/* Every kind once, an equal part of the rounds each. */
static void flood_with_everything(const char *prefix, long rounds)
{
    static const struct {
        const char *title;
        int kind;
        const char *name;
        int access;
        unsigned long wanted;
    } floods[] = {
        {"status", STATUS, "-", 0, 0},
        {"resolve-known", RESOLVE, READ_ONLY, 0, 0},
        {"resolve-unknown", RESOLVE, "unknown-", 0, ENOENT},
        {"open", OPEN, READ_ONLY, 0, 0},
        {"open-unknown", OPEN, "unknown-", 0, EACCES},
        {"create-elsewhere", CREATE, "new-", 2, EACCES},
        {"create-too-many", CREATE, "made/new-", 2, EDQUOT},
        {"unlink-unknown", UNLINK, "unknown-", 0, EACCES},
        {"commit-begin", COMMIT_BEGIN, BACKING, 0, EACCES},
        {"commit-end", COMMIT_END, BACKING, 0, 0},
        {"medium", CHANGE_MEDIUM, "media/disc.iso", 0, 0},
        {"medium-missing", CHANGE_MEDIUM, "media/missing-", 0, ENOENT},
        {"medium-unknown", CHANGE_MEDIUM, "unknown-", 0, EACCES},
    };
    char title[64];
    long part = rounds / (long)(sizeof floods / sizeof floods[0]);
    for (size_t i = 0; i < sizeof floods / sizeof floods[0]; i++) {
        snprintf(title, sizeof title, "%s%s", prefix, floods[i].title);
        flood(title, floods[i].kind, floods[i].name, floods[i].access, part, floods[i].wanted);
    }
}

/* In two parts, between which and after which the test looks; the one file that may be created is there before. */
void attack_with_requests(void)
{
    long rounds = number_parameter("rounds");
    greet();
    flood("created", CREATE, "made/own", 2, 1, 0);
    flood_with_everything("first-", rounds / 10);
    wait_for('a');
    flood_with_everything("second-", rounds - rounds / 10);
    flood("unlinked", UNLINK, "made/own", 0, 1, 0);
    /* Nobody can tell whether this program still has the file open, so its place stays taken. */
    flood("create-after-removal", CREATE, "made/again-", 2, rounds / 100, EDQUOT);
    wait_for('b');
}
