/* The network of the host, and sockets with and without a name in its file system. */
#include "hostile.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t abstract_address(struct sockaddr_un *address, const char *name)
{
    address->sun_family = AF_UNIX;
    address->sun_path[0] = 0;
    strcpy(address->sun_path + 1, name);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

/* The test listens on each of these names, as a stream and for datagrams. */
static void reach_named(void)
{
    struct sockaddr_un address;
    int stream = socket(AF_UNIX, SOCK_STREAM, 0), packets = socket(AF_UNIX, SOCK_DGRAM, 0);
    report("unix-socket", stream);
    socklen_t length = abstract_address(&address, parameter("abstract-stream"));
    report("abstract-connect", CALL(SYS_connect, stream, &address, length));
    length = abstract_address(&address, parameter("abstract-packets"));
    report("abstract-send", CALL(SYS_sendto, packets, "x", 1, 0, &address, length));
    report("abstract-bind", CALL(SYS_bind, packets, &address, length));

    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, "stream.sock");
    report("named-connect", CALL(SYS_connect, stream, &address, sizeof address));
    strcpy(address.sun_path, "packets.sock");
    report("named-send", CALL(SYS_sendto, packets, "x", 1, 0, &address, sizeof address));
    strcpy(address.sun_path, absolute("packets.sock"));
    report("named-send-absolute", CALL(SYS_sendto, packets, "x", 1, 0, &address, sizeof address));
    strcpy(address.sun_path, "/var/tmp/socket");
    report("named-bind", CALL(SYS_bind, packets, &address, sizeof address));
}

/* The test listens on these ports of the host's loopback interface. */
static void reach_loopback(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)number_parameter("tcp"))};
    int stream = socket(AF_INET, SOCK_STREAM, 0), packets = socket(AF_INET, SOCK_DGRAM, 0);
    report("inet-socket", stream);
    report("tcp-connect", CALL(SYS_connect, stream, &address, sizeof address));
    report("tcp-fast-open", CALL(SYS_sendto, stream, "x", 1, MSG_FASTOPEN, &address, sizeof address));
    report("tcp-bind", CALL(SYS_bind, stream, &address, sizeof address));
    address.sin_port = htons((uint16_t)number_parameter("udp"));
    /* Leaves for the loopback interface of the empty namespace, where nobody listens. */
    report("udp-send", CALL(SYS_sendto, packets, "x", 1, 0, &address, sizeof address));
    address.sin_addr.s_addr = htonl(0x08080808);
    report("udp-send-outside", CALL(SYS_sendto, packets, "x", 1, 0, &address, sizeof address));
}

static void make_others(void)
{
    static const struct {
        const char *name;
        int family, type, protocol;
    } kinds[] = {
        {"netlink", AF_NETLINK, SOCK_RAW, 0},
        {"uevents", AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 15},
        {"packet", AF_PACKET, SOCK_RAW, 0x0300},
        {"raw", AF_INET, SOCK_RAW, IPPROTO_ICMP},
        {"vsock", AF_VSOCK, SOCK_STREAM, 0},
        {"algorithms", AF_ALG, SOCK_SEQPACKET, 0},
        {"keys", AF_KEY, SOCK_RAW, 2},
        {"bluetooth", AF_BLUETOOTH, SOCK_RAW, 1},
        {"can", AF_CAN, SOCK_RAW, 1},
        {"xdp", AF_XDP, SOCK_RAW, 0},
        {"tipc", AF_TIPC, SOCK_DGRAM, 0},
    };
    char name[64];
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        snprintf(name, sizeof name, "socket-%s", kinds[i].name);
        report_descriptor(name, CALL(SYS_socket, kinds[i].family, kinds[i].type, kinds[i].protocol));
    }
    report_descriptor("socket-family-high-half", CALL(SYS_socket, 0x100000000L | AF_VSOCK, SOCK_STREAM, 0));
}

void attack_sockets(void)
{
    reach_named();
    reach_loopback();
    make_others();
}
