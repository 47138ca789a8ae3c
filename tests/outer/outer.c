/* outer MODE COMMAND...: becomes COMMAND on a host that lacks something, or inside an outer sandbox.
 *   listener     a filter with a listener stands already, as in a container whose manager intercepts calls
 *   no-landlock  landlock_create_ruleset(2) answers EOPNOTSUPP, as where `lsm=` of the boot line leaves Landlock out
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int install(unsigned flags, struct sock_filter *filter, unsigned short length) {
    struct sock_fprog program = {length, filter};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

int main(int count, char **words) {
    if (count < 3 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 2;
    int done = -1;
    if (!strcmp(words[1], "listener")) {
        /* Nothing is ever asked: that there is a listener is enough. As in a container, another process holds it. */
        struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        done = install(SECCOMP_FILTER_FLAG_NEW_LISTENER, allow, 1);
        if (done >= 0 && fork() == 0) {
            /* PR_SET_PDEATHSIG would be in vain: a parent in a Landlock domain sends no signal out of it, not even when
             * it dies. */
            struct pollfd parent = {(int)syscall(SYS_pidfd_open, getppid(), 0), POLLIN, 0};
            for (int standard = 0; standard < 3; standard++) close(standard);
            poll(&parent, 1, -1);
            _exit(0);
        }
    } else if (!strcmp(words[1], "no-landlock")) {
        struct sock_filter refuse[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 444 /* landlock_create_ruleset, the same on every architecture */, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        done = install(0, refuse, 4);
    }
    if (done < 0) {
        perror("outer");
        return 2;
    }
    execvp(words[2], words + 2);
    perror(words[2]);
    return 2;
}
