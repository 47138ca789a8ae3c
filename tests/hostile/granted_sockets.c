/* What an emulator that a guest has taken over makes of the sockets that its command line names: one to listen on and two to
 * connect by TCP, and a UNIX path to listen at. Everything is at 127.0.0.1. */
#include "hostile.h"
#include "ring.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Attempts of a race; each one is a request to the broker. */
#define ROUNDS 10000
/* Attempts of those that only have to do no harm. */
#define FEW 500

static struct sockaddr_in inet(const char *host, long port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    return address;
}

static int stream(int more)
{
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | more, 0);
}

/* Binds or connects (`call`) a new socket and reports what came of it; the socket, if it succeeded. */
static int attempt(const char *name, long call, const void *address, socklen_t length)
{
    int one = socket(*(const sa_family_t *)address, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(one, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    long result = CALL(call, one, address, length);
    report(name, result);
    if (result == 0)
        return one;
    close(one);
    return -1;
}

static int attempt_inet(const char *name, long call, const char *host, long port)
{
    struct sockaddr_in address = inet(host, port);
    return attempt(name, call, &address, sizeof address);
}

static int attempt_path(const char *name, long call, const char *path, size_t length)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, length);
    return attempt(name, call, &address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
}

static void listen_where_granted(void)
{
    long granted = number_parameter("listen");
    attempt_inet("bind-other-port", SYS_bind, "127.0.0.1", number_parameter("free"));
    attempt_inet("bind-any-port", SYS_bind, "127.0.0.1", 0);
    attempt_inet("bind-other-address", SYS_bind, "127.0.0.2", granted);
    attempt_inet("bind-all-addresses", SYS_bind, "0.0.0.0", granted);
    attempt_inet("bind-what-may-be-connected", SYS_bind, "127.0.0.1", number_parameter("free-to-connect"));
    struct sockaddr_in6 all = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)granted)};
    attempt("bind-all-v6", SYS_bind, &all, sizeof all);
    int one = attempt_inet("bind-granted", SYS_bind, "127.0.0.1", granted);
    struct sockaddr_in found = {0}, other = inet("127.0.0.1", number_parameter("connect"));
    socklen_t length = sizeof found;
    if (getsockname(one, (struct sockaddr *)&found, &length))
        give_up("getsockname");
    report_number("bound-to", ntohs(found.sin_port));
    report("close-on-exec", fcntl(one, F_GETFD) == FD_CLOEXEC ? 0 : -1);
    report("bind-again", CALL(SYS_bind, one, &other, sizeof other));
    report("connect-bound", CALL(SYS_connect, one, &other, sizeof other));
    report("listen", listen(one, 5));
    report("connect-listening", CALL(SYS_connect, one, &other, sizeof other));
    wait_for('a');
    report_descriptor("accept", accept(one, NULL, NULL));
    /* An address without a family would set the socket free. */
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    report("disconnect-listening", CALL(SYS_connect, one, &none, sizeof none));
    report("bind-unspecified", CALL(SYS_bind, one, &none, sizeof none));
    close(one);
}

/* Messages that name an address themselves. */
static void send_elsewhere(int connected)
{
    struct sockaddr_in other = inet("127.0.0.1", number_parameter("foreign"));
    struct iovec byte = {"x", 1};
    struct mmsghdr message = {.msg_hdr = {.msg_name = &other, .msg_namelen = sizeof other, .msg_iov = &byte, .msg_iovlen = 1}};
    int fresh = stream(0), bound = stream(0);
    struct sockaddr_in granted = inet("127.0.0.1", number_parameter("listen"));
    setsockopt(bound, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (CALL(SYS_bind, bound, &granted, sizeof granted))
        give_up("bind once more");
    report("send-fast-open", CALL(SYS_sendto, fresh, "x", 1, MSG_FASTOPEN, &other, sizeof other));
    report("send-fast-open-bound", CALL(SYS_sendto, bound, "x", 1, MSG_FASTOPEN, &other, sizeof other));
    report("message-fast-open", CALL(SYS_sendmsg, bound, &message.msg_hdr, MSG_FASTOPEN));
    report("messages-fast-open", CALL(SYS_sendmmsg, bound, &message, 1, MSG_FASTOPEN));
    report("fast-open-high-half", CALL(SYS_sendmsg, bound, &message.msg_hdr, 0x100000000L | MSG_FASTOPEN));
    report("send-elsewhere-connected", CALL(SYS_sendto, connected, "x", 1, MSG_NOSIGNAL, &other, sizeof other));
    report("send-elsewhere-bound", CALL(SYS_sendto, bound, "x", 1, MSG_NOSIGNAL, &other, sizeof other));
    close(fresh);
    close(bound);
}

static void tune(int one)
{
    struct sock_filter accept_all = {6 /* return */, 0, 0, 0xffffffff};
    struct sock_fprog program = {1, &accept_all};
    static const struct {
        const char *name;
        int level, option;
    } options[] = {
        {"option-device", SOL_SOCKET, SO_BINDTODEVICE},      {"option-detach", SOL_SOCKET, SO_DETACH_FILTER},
        {"option-share-port", SOL_SOCKET, SO_REUSEPORT},     {"option-mark", SOL_SOCKET, SO_MARK},
        {"option-route", IPPROTO_IP, IP_OPTIONS},            {"option-group", IPPROTO_IP, IP_ADD_MEMBERSHIP},
        {"option-transparent", IPPROTO_IP, IP_TRANSPARENT},  {"option-repair", IPPROTO_TCP, TCP_REPAIR},
        {"option-protocol", IPPROTO_TCP, TCP_ULP},           {"option-fast-open", IPPROTO_TCP, TCP_FASTOPEN},
        {"option-late-connect", IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        report(options[i].name, CALL(SYS_setsockopt, one, options[i].level, options[i].option, &(int){1}, sizeof(int)));
    report("option-filter", CALL(SYS_setsockopt, one, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
    report("option-no-delay", CALL(SYS_setsockopt, one, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
    struct ifreq interface = {.ifr_ifindex = 1};
    struct ifconf all = {0};
    report("interfaces", CALL(SYS_ioctl, one, SIOCGIFCONF, &all));
    report("interface-name", CALL(SYS_ioctl, one, SIOCGIFNAME, &interface));
    report("interface-name-high-half", CALL(SYS_ioctl, one, 0x100000000L | SIOCGIFNAME, &interface));
    report("network-namespace", CALL(SYS_ioctl, one, 0x894c /* SIOCGSKNS */));
    report("send-signals-to", CALL(SYS_ioctl, one, 0x8902 /* SIOCSPGRP */, &(int){1}));
}

/* What passes no filter, where the command line asks for a ring. */
static void through_a_ring(void)
{
    struct ring ring;
    int made = open_ring(&ring, 0);
    report("ring", made);
    if (made < 0)
        return;
    struct sockaddr_in granted = inet("127.0.0.1", number_parameter("connect"));
    struct sockaddr_in other = inet("127.0.0.1", number_parameter("foreign"));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct iovec byte = {"x", 1};
    struct msghdr message = {.msg_name = &other, .msg_namelen = sizeof other, .msg_iov = &byte, .msg_iovlen = 1};
    int fresh = stream(0), connected = stream(0);
    if (CALL(SYS_connect, connected, &granted, sizeof granted))
        give_up("connect once more");
    const struct {
        const char *name;
        struct io_uring_sqe entry;
    } attempts[] = {
        {"ring-connect", {.opcode = IORING_OP_CONNECT, .fd = fresh, .addr = (uintptr_t)&other, .off = sizeof other}},
        {"ring-disconnect", {.opcode = IORING_OP_CONNECT, .fd = connected, .addr = (uintptr_t)&none, .off = sizeof none}},
        {"ring-fast-open",
         {.opcode = IORING_OP_SENDMSG, .fd = fresh, .addr = (uintptr_t)&message, .len = 1, .msg_flags = MSG_FASTOPEN}},
        {"ring-send", {.opcode = IORING_OP_SEND, .fd = connected, .addr = (uintptr_t) "x", .len = 1}},
        {"ring-accept", {.opcode = IORING_OP_ACCEPT, .fd = connected}},
        {"ring-bind", {.opcode = 56 /* Linux 6.11 */, .fd = fresh, .addr = (uintptr_t)&other, .off = sizeof other}},
        {"ring-listen", {.opcode = 57 /* Linux 6.11 */, .fd = fresh, .len = 1}},
        {"ring-socket-command", {.opcode = IORING_OP_URING_CMD, .fd = fresh}},
        {"ring-write", {.opcode = IORING_OP_WRITE, .fd = connected, .addr = (uintptr_t) "x", .len = 1}},
    };
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
        report(attempts[i].name, submit(&ring, attempts[i].entry));
    close(fresh);
    close(connected);
    close_ring(&ring);
}

static void connect_where_granted(void)
{
    long granted = number_parameter("connect"), foreign = number_parameter("foreign");
    attempt_inet("connect-other-port", SYS_connect, "127.0.0.1", foreign);
    attempt_inet("connect-other-address", SYS_connect, "127.0.0.2", granted);
    attempt_inet("connect-what-may-be-bound", SYS_connect, "127.0.0.1", number_parameter("listen"));
    attempt_inet("connect-outside", SYS_connect, "192.0.2.1", granted);
    int one = attempt_inet("connect-granted", SYS_connect, "127.0.0.1", granted);
    struct sockaddr_in other = inet("127.0.0.1", foreign);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    report("disconnect", CALL(SYS_connect, one, &none, sizeof none));
    report("connect-again", CALL(SYS_connect, one, &other, sizeof other));
    report("bind-connected", CALL(SYS_bind, one, &other, sizeof other));
    report("listen-connected", listen(one, 1));
    tune(one);
    send_elsewhere(one);
    report("shut-down", shutdown(one, SHUT_RDWR));
    report("listen-shut-down", listen(one, 1));
    report("disconnect-shut-down", CALL(SYS_connect, one, &none, sizeof none));
    close(one);
    struct sockaddr_in address = inet("127.0.0.1", granted);
    int packets = socket(AF_INET, SOCK_DGRAM, 0);
    report("packets-to-granted", CALL(SYS_connect, packets, &address, sizeof address));
    address.sin_port = htons((uint16_t)number_parameter("listen"));
    report("packets-at-granted", CALL(SYS_bind, packets, &address, sizeof address));
    close(packets);
    report_descriptor("other-protocol", socket(AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */));
    through_a_ring();
}

/* The peer does not answer, so the connection stays about to be. */
static void listen_while_connecting(void)
{
    int one = stream(SOCK_NONBLOCK);
    struct sockaddr_in slow = inet("127.0.0.1", number_parameter("slow"));
    report("connect-slowly", CALL(SYS_connect, one, &slow, sizeof slow));
    report("connect-slowly-again", CALL(SYS_connect, one, &slow, sizeof slow));
    report("still-non-blocking", fcntl(one, F_GETFL) & O_NONBLOCK ? 0 : -1);
    report("shut-down-while-connecting", shutdown(one, SHUT_RDWR));
    report("listen-while-connecting", listen(one, 5));
    close(one);
    int fresh = stream(0);
    report("listen-fresh", listen(fresh, 5));
    close(fresh);
}

/* Sockets of kinds that the broker makes none of, at addresses that are granted. */
static void use_other_kinds(void)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "granted.sock"};
    int packets = socket(AF_UNIX, SOCK_SEQPACKET, 0), datagrams = socket(AF_UNIX, SOCK_DGRAM, 0);
    report("kind-packets-bind", CALL(SYS_bind, packets, &path, sizeof path));
    report("kind-packets-connect", CALL(SYS_connect, packets, &path, sizeof path));
    report("kind-datagrams-bind", CALL(SYS_bind, datagrams, &path, sizeof path));
    report("kind-datagrams-connect", CALL(SYS_connect, datagrams, &path, sizeof path));
    close(packets);
    close(datagrams);
    report_descriptor("kind-sctp", socket(AF_INET, SOCK_SEQPACKET, 0));
    report_descriptor("kind-sctp-v6", socket(AF_INET6, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    report_descriptor("kind-dccp", socket(AF_INET, 6 /* SOCK_DCCP */, 0));
    report_descriptor("kind-unused", socket(AF_INET, 15, IPPROTO_TCP));
}

static void use_paths(void)
{
    static const char abstract[] = "\0granted.sock";
    attempt_path("path-other", SYS_bind, "other.sock", sizeof "other.sock");
    attempt_path("path-above", SYS_bind, "/run/broker-test.sock", sizeof "/run/broker-test.sock");
    attempt_path("path-private", SYS_bind, "/var/tmp/broker-test.sock", sizeof "/var/tmp/broker-test.sock");
    attempt_path("path-abstract", SYS_bind, abstract, sizeof abstract);
    attempt_path("path-none", SYS_bind, "", 0);
    attempt_path("path-beyond", SYS_bind, "granted.sock/../other.sock", sizeof "granted.sock/../other.sock");
    int one = attempt_path("path-granted", SYS_bind, "granted.sock", sizeof "granted.sock");
    report("path-listen", listen(one, 5));
    attempt_path("path-taken", SYS_bind, "granted.sock", sizeof "granted.sock");
    wait_for('b');
    int client = accept(one, NULL, NULL), process = -1;
    socklen_t length = sizeof process;
    report("path-accept", client);
    report("path-process", CALL(SYS_getsockopt, client, SOL_SOCKET, 77 /* SO_PEERPIDFD */, &process, &length));
    report("path-process-high-half", CALL(SYS_getsockopt, client, SOL_SOCKET, 0x100000000L | 77, &process, &length));
    close(client);
    attempt_path("path-connect-foreign", SYS_connect, "foreign.sock", sizeof "foreign.sock");
    attempt_path("path-connect-name-cache", SYS_connect, "/var/run/nscd/socket", sizeof "/var/run/nscd/socket");
    attempt_path("path-connect-log", SYS_connect, "/dev/log", sizeof "/dev/log");
    report("unlink-foreign", CALL(SYS_unlink, "foreign.sock"));
    report("unlink-granted", CALL(SYS_unlink, "granted.sock"));
    report("unlink-again", CALL(SYS_unlink, "granted.sock"));
    close(one);
    /* A name whose socket is gone, as when an agent dies with it: once the broker has closed its copy, too. */
    close(attempt_path("path-anew", SYS_bind, "granted.sock", sizeof "granted.sock"));
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "granted.sock"};
    int last = socket(AF_UNIX, SOCK_STREAM, 0);
    long bound = -1;
    for (int turn = 0; bound && turn < 1000; turn++) {
        bound = CALL(SYS_bind, last, &path, sizeof path);
        usleep(10000);
    }
    report("path-dead", bound);
    attempt_path("path-alive", SYS_bind, "granted.sock", sizeof "granted.sock");
    report("unlink-last", CALL(SYS_unlink, "granted.sock"));
    close(last);
}

static struct sockaddr_in swapped;
static atomic_int number, stop;

static void *swap(void *ports)
{
    const uint16_t *both = ports;
    for (unsigned turn = 0; !stop; turn++)
        *(volatile uint16_t *)&swapped.sin_port = both[turn & 1];
    return NULL;
}

static void *replace(void *other)
{
    while (!stop) {
        close(number);
        dup2(*(int *)other, number);
    }
    return NULL;
}

static void *connect_once(void *result)
{
    struct sockaddr_in address = inet("127.0.0.1", number_parameter("connect"));
    int one = stream(0);
    *(long *)result = CALL(SYS_connect, one, &address, sizeof address);
    close(one);
    return NULL;
}

/* One thread changes what another one asks for. */
static void race(void)
{
    uint16_t ports[2] = {htons((uint16_t)number_parameter("connect")), htons((uint16_t)number_parameter("foreign"))};
    pthread_t thread;
    long done = 0, strange = 0;
    swapped = inet("127.0.0.1", number_parameter("connect"));
    stop = 0;
    pthread_create(&thread, NULL, swap, ports);
    for (int round = 0; round < ROUNDS; round++) {
        int one = stream(SOCK_NONBLOCK);
        struct sockaddr_in peer = {0};
        socklen_t length = sizeof peer;
        long result = CALL(SYS_connect, one, &swapped, sizeof swapped);
        done += result == 0 || errno == EINPROGRESS;
        strange += result != 0 && errno != EINPROGRESS && errno != EACCES;
        strange += getpeername(one, (struct sockaddr *)&peer, &length) == 0 && peer.sin_port != ports[0];
        close(one);
    }
    stop = 1;
    pthread_join(thread, NULL);
    report("race-some-connected", done > 0 && done < ROUNDS ? 0 : -1);
    report_number("race-strange", strange);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        give_up("socketpair");
    stop = 0;
    number = stream(SOCK_NONBLOCK);
    swapped.sin_port = ports[0];
    pthread_create(&thread, NULL, replace, pair);
    for (int round = 0; round < FEW; round++) {
        int one = stream(SOCK_NONBLOCK);
        if (one >= 0)
            dup2(one, number), close(one);
        CALL(SYS_connect, number, &swapped, sizeof swapped);
    }
    stop = 1;
    pthread_join(thread, NULL);
    long result = -1;
    pthread_create(&thread, NULL, connect_once, &result);
    pthread_join(thread, NULL);
    report("connect-in-a-thread", result);
}

void attack_granted_sockets(void)
{
    listen_where_granted();
    connect_where_granted();
    listen_while_connecting();
    use_other_kinds();
    use_paths();
    race();
}
