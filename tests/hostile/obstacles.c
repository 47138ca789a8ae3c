/* Not in the sandbox: somebody else on the host who keeps others from opening a file, until standard input ends. */
#include "hostile.h"

#include <signal.h>
#include <sys/fanotify.h>

static void hold(void)
{
    char byte;
    puts("held now");
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
}

/* Has a write lease (fcntl(2), F_SETLEASE): whoever opens the file waits until it is given up, or until the kernel
 * takes it away after `/proc/sys/fs/lease-break-time`. */
void hold_lease(const char *path)
{
    /* The signal that asks for the lease; its default action is to end the program. */
    signal(SIGIO, SIG_IGN);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK))
        give_up("take a lease");
    hold();
}

/* Is a scanner that must agree to each open (fanotify(7), FAN_OPEN_PERM), and never says anything: whoever opens the
 * file waits, with O_NONBLOCK too. */
void scan_without_end(const char *path)
{
    int group = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC);
    if (group < 0 || fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, path))
        give_up("become a scanner");
    hold();
}
