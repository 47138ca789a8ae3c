/* The end of a pair that an emulator has for a network of datagrams: good for frames, and for nothing that is elsewhere. */
#include "hostile.h"

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Numbers that are looked at. */
#define MOST 256

static int is_datagram_socket(int number)
{
    int type = 0;
    socklen_t length = sizeof type;
    return getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_DGRAM;
}

static void send_elsewhere(int socket)
{
    struct sockaddr_in inet = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)number_parameter("udp"))};
    report("send-udp", CALL(SYS_sendto, socket, "x", 1, 0, &inet, sizeof inet));
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path + 1, parameter("abstract"));
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name.sun_path + 1));
    report("send-abstract", CALL(SYS_sendto, socket, "x", 1, 0, &name, length));
    report("connect-abstract", CALL(SYS_connect, socket, &name, length));
    strcpy(name.sun_path, parameter("path"));
    report("send-path", CALL(SYS_sendto, socket, "x", 1, 0, &name, sizeof name));
    report("connect-path", CALL(SYS_connect, socket, &name, sizeof name));
}

/* What is in the way of whoever carries the frames. */
static void trouble_relay(int socket)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &socket, sizeof socket);
    struct iovec part = {"descriptor", 10};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    long passed = 0, empty = 0;
    for (int i = 0; i < 100; i++) {
        passed += CALL(SYS_sendmsg, socket, &message, 0) == 10;
        empty += CALL(SYS_sendto, socket, "", 0, 0, NULL, 0) == 0;
    }
    report_number("passed", passed);
    report_number("empty", empty);
    static char longest[150000];
    report("send-longest", CALL(SYS_sendto, socket, longest, sizeof longest, 0, NULL, 0));
    report("shutdown", CALL(SYS_shutdown, socket, SHUT_RD));
}

void attack_datagrams(void)
{
    int socket = -1, count = 0;
    for (int number = 3; number < MOST; number++)
        if (is_datagram_socket(number)) {
            socket = number;
            count++;
        }
    report_number("sockets", count);
    struct sockaddr_un name;
    socklen_t length = sizeof name;
    if (getsockname(socket, (struct sockaddr *)&name, &length))
        give_up("getsockname");
    report_number("family", name.sun_family);
    send_elsewhere(socket);
    trouble_relay(socket);
    report("send", CALL(SYS_sendto, socket, "the last frame", 14, 0, NULL, 0));
    wait_for('a');
}
