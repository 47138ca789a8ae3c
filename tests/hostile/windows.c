/* What an emulator that a guest has taken over makes of a desktop on which it may open a window: the display server and
 * nothing else of it. */
#include "hostile.h"

#include <stddef.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Connects to a UNIX socket; the name of an abstract one begins with `@`, which stands for the NUL. */
static void connect_to(const char *attempt, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    if (length >= sizeof address.sun_path)
        give_up(name);
    memcpy(address.sun_path, name, length);
    if (*name == '@')
        address.sun_path[0] = 0;
    int one = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    report(attempt, CALL(SYS_connect, one, &address, offsetof(struct sockaddr_un, sun_path) + length));
    close(one);
}

static void open_name(const char *attempt, const char *name, int flags)
{
    report_descriptor(attempt, CALL(SYS_openat, AT_FDCWD, name, flags, 0600));
}

void attack_windows(void)
{
    connect_to("connect-granted", absolute("wayland-test"));
    connect_to("connect-again", absolute("wayland-test"));
    connect_to("connect-other-server", absolute("wayland-other"));
    connect_to("connect-x", parameter("x"));
    connect_to("connect-bus", absolute("bus"));
    open_name("open-server", absolute("wayland-test"), O_RDWR);
    open_name("list-folder", absolute(""), O_RDONLY | O_DIRECTORY);
    open_name("read-settings", absolute(".config/gtk-3.0/settings.ini"), O_RDONLY);
    open_name("write-settings", absolute(".config/gtk-3.0/settings.ini"), O_WRONLY | O_CREAT);
    open_name("read-key", absolute(".Xauthority"), O_RDONLY);
    open_name("read-other-key", absolute(".ssh-key"), O_RDONLY);
    open_name("read-passwords", "/etc/shadow", O_RDONLY);
    open_name("above-shown", "/usr/share/X11/xkb/../../../../etc/shadow", O_RDONLY);
    open_name("list-shown", "/usr/share/X11/xkb", O_RDONLY | O_DIRECTORY);
    open_name("write-shown", "/usr/share/X11/xkb/new", O_WRONLY | O_CREAT);
    open_name("list-beside", "/usr/share/doc", O_RDONLY | O_DIRECTORY);
    open_name("new-fonts", "/etc/fonts/local.conf", O_WRONLY | O_CREAT);
    report("execute-shown", CALL(SYS_execve, "/usr/share/X11/xkb/rules/base", (char *[]){"x", NULL}, (char *[]){NULL}));
    /* The X server would look for such a number among the host's. */
    report("shared-memory", CALL(SYS_shmget, IPC_PRIVATE, 4096, IPC_CREAT | 0600));
    report("attach-shared-memory", CALL(SYS_shmat, 0, NULL, 0));
    report("affinity-of-others", CALL(SYS_sched_getaffinity, 1, sizeof(long), &(long){0}));
    report("affinity", CALL(SYS_sched_setaffinity, 1, sizeof(long), &(long){1}));
}
