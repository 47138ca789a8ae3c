/* The terminal that the operator started the emulator at: nobody may type there but the operator. */
#include "hostile.h"

#include <sys/ioctl.h>

static void type(const char *attempt, long request)
{
    char key = 'x';
    report(attempt, CALL(SYS_ioctl, 0, request, &key));
}

void attack_terminal(void)
{
    char paste[2] = {3 /* TIOCL_PASTESEL */, 0};
    struct winsize size;
    /* Without a terminal of its own the kernel would refuse anyway, and the attempt would show nothing. */
    report("session", setsid());
    report("own-terminal", ioctl(0, TIOCSCTTY, 0));
    report("look", ioctl(0, TIOCGWINSZ, &size));
    type("push", 0x5412 /* TIOCSTI */);
    type("push-high-bit", 0x100005412);
    type("push-high-half", (long)0xffffffff00005412);
    report("paste", CALL(SYS_ioctl, 0, 0x541C /* TIOCLINUX */, paste));
    report("paste-high-bit", CALL(SYS_ioctl, 0, 0x10000541C, paste));
    /* A second descriptor of the same terminal is the same terminal. */
    int other = dup(0);
    report("push-through-duplicate", CALL(SYS_ioctl, other, 0x5412, "x"));
    report_descriptor("open-terminal", CALL(SYS_openat, AT_FDCWD, "/dev/tty", O_RDWR));
}
