/* A tap on the operator's bridge: good for frames, and not for managing the interface. */
#include "hostile.h"

#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>

/* The number that the command line names (`-netdev tap,fd=30`). */
#define TAP 30

#define HIGH_HALF 0x5a5a5a5a00000000

static void attempt(const char *name, unsigned long request, const void *argument)
{
    report(name, CALL(SYS_ioctl, TAP, request, argument));
}

/* What would outlive the guest, or make the interface somebody's. */
static void keep_interface(void)
{
    attempt("persist", TUNSETPERSIST, (void *)1);
    attempt("persist-high-half", TUNSETPERSIST | HIGH_HALF, (void *)1);
    int other = dup(TAP);
    report("persist-through-duplicate", CALL(SYS_ioctl, other, TUNSETPERSIST, 1));
    close(other);
    attempt("owner", TUNSETOWNER, (void *)(uintptr_t)getuid());
    attempt("group", TUNSETGROUP, (void *)(uintptr_t)getgid());
}

static void change_interface(void)
{
    struct ifreq request = {0};
    char addresses[64] = {0};
    struct sock_filter drop[] = {{6 /* return */, 0, 0, 0}};
    struct sock_fprog program = {1, drop};
    int none = -1, down = 0, index = 77;
    attempt("look-at-address", SIOCGIFHWADDR, &request);
    request.ifr_hwaddr.sa_data[5] ^= 0x11;
    attempt("address", SIOCSIFHWADDR, &request);
    attempt("address-high-half", SIOCSIFHWADDR | HIGH_HALF, &request);
    attempt("link-type", TUNSETLINK, (void *)512);
    attempt("debug", TUNSETDEBUG, (void *)0xffff);
    attempt("checksums", TUNSETNOCSUM, (void *)1);
    ((struct tun_filter *)addresses)->count = 1;
    attempt("address-filter", TUNSETTXFILTER, addresses);
    attempt("packet-filter", TUNATTACHFILTER, &program);
    attempt("look-at-packet-filter", TUNGETFILTER, &program);
    attempt("no-packet-filter", TUNDETACHFILTER, &program);
    attempt("bpf-filter", TUNSETFILTEREBPF, &none);
    attempt("number", TUNSETIFINDEX, &index);
    attempt("carrier", TUNSETCARRIER, &down);
    attempt("later-kernels", _IOW('T', 0xff, int), &none);
}

/* Into the namespace that the interface is in, or to another interface. */
static void reach_out(void)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    strcpy(request.ifr_name, "other");
    report_descriptor("namespace", CALL(SYS_ioctl, TAP, TUNGETDEVNETNS, 0));
    report_descriptor("socket-namespace", CALL(SYS_ioctl, TAP, SIOCGSKNS, 0));
    attempt("another-interface", TUNSETIFF, &request);
    struct ifreq detach = {.ifr_flags = IFF_DETACH_QUEUE}, attach = {.ifr_flags = IFF_ATTACH_QUEUE};
    attempt("detach", TUNSETQUEUE, &detach);
    attempt("another-interface-detached", TUNSETIFF, &request);
    attempt("attach", TUNSETQUEUE, &attach);
    report_descriptor("open-tun", CALL(SYS_openat, AT_FDCWD, "/dev/net/tun", O_RDWR));
    report_descriptor("open-vhost", CALL(SYS_openat, AT_FDCWD, "/dev/vhost-net", O_RDWR));
    int socket = (int)CALL(SYS_socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */, 0);
    strcpy(request.ifr_name, "t0");
    report("by-name", CALL(SYS_ioctl, socket, SIOCGIFFLAGS, &request));
    close(socket);
}

/* What QEMU does with a tap that somebody else opened (net/tap-linux.c). */
static void use_interface(void)
{
    struct ifreq request = {0};
    char frame[64] = {0};
    int size = 12, buffer = 0x7fffffff, none = -1, little = 1;
    unsigned features = 0;
    attempt("use-features", TUNGETFEATURES, &features);
    attempt("use-name", TUNGETIFF, &request);
    attempt("use-offload", TUNSETOFFLOAD, NULL);
    attempt("use-buffer", TUNSETSNDBUF, &buffer);
    attempt("use-set-header", TUNSETVNETHDRSZ, &size);
    attempt("use-header", TUNGETVNETHDRSZ, &size);
    attempt("use-endianness", TUNSETVNETLE, &little);
    attempt("use-steering", TUNSETSTEERINGEBPF, &none);
    report("use-write", CALL(SYS_write, TAP, frame, sizeof frame));
}

void attack_interfaces(void)
{
    use_interface();
    change_interface();
    reach_out();
    keep_interface();
    wait_for('a');
}

/* Opens the tap `name`, one of several queues, under the number TAP, and becomes the program of `words`. */
void hold_tap(const char *name, char **words)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tap < 0 || ioctl(tap, TUNSETIFF, &request))
        give_up("make a tap");
    if (dup2(tap, TAP) != TAP)
        give_up("move a tap");
    execvp(words[0], words);
    give_up(words[0]);
}
