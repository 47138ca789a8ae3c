/* Processes outside: the broker, the agent, another guest and any program of the same user. */
#include "hostile.h"

#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>

/* Every attempt on the process `pid`, which is `who` in the reports. */
static const char *who;
static int pid;

static void tell(const char *attempt, long result)
{
    char name[128];
    int error = errno;
    snprintf(name, sizeof name, "%s-%s", who, attempt);
    errno = error;
    report(name, result);
}

static void send_signals(void)
{
    siginfo_t info = {.si_signo = SIGKILL, .si_code = SI_QUEUE};
    tell("null-signal", CALL(SYS_kill, pid, 0));
    tell("kill", CALL(SYS_kill, pid, SIGKILL));
    tell("stop", CALL(SYS_kill, pid, SIGSTOP));
    tell("kill-group", CALL(SYS_kill, -pid, SIGKILL));
    tell("tgkill", CALL(SYS_tgkill, pid, pid, SIGKILL));
    tell("tkill", CALL(SYS_tkill, pid, SIGKILL));
    tell("sigqueue", CALL(SYS_rt_sigqueueinfo, pid, SIGKILL, &info));
    tell("tgsigqueue", CALL(SYS_rt_tgsigqueueinfo, pid, pid, SIGKILL, &info));
    tell("pidfd-signal", CALL(SYS_pidfd_send_signal, 0, SIGKILL, NULL, 0));
}

/* The kernel as messenger: data that arrives at a pipe has it send a signal of one's choice to the owner. */
static void have_signals_sent(void)
{
    int ends[2];
    if (pipe(ends))
        give_up("pipe");
    struct f_owner_ex owner = {F_OWNER_TID, pid};
    tell("own", CALL(SYS_fcntl, ends[0], F_SETOWN, pid));
    tell("own-signal", CALL(SYS_fcntl, ends[0], F_SETSIG, SIGKILL));
    tell("own-async", CALL(SYS_fcntl, ends[0], F_SETFL, O_ASYNC));
    tell("own-trigger", write(ends[1], "x", 1));
    tell("own-thread", CALL(SYS_fcntl, ends[0], F_SETOWN_EX, &owner));
    tell("own-thread-trigger", write(ends[1], "x", 1));
    close(ends[0]);
    close(ends[1]);
}

static void reach_into(void)
{
    char bytes[8] = {0};
    struct iovec here = {bytes, sizeof bytes}, there = {(void *)0x400000, sizeof bytes};
    tell("trace", CALL(SYS_ptrace, PTRACE_ATTACH, pid, 0, 0));
    tell("seize", CALL(SYS_ptrace, PTRACE_SEIZE, pid, 0, 0));
    tell("read-memory", CALL(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0));
    tell("write-memory", CALL(SYS_process_vm_writev, pid, &here, 1, &there, 1, 0));
    tell("advise-memory", CALL(SYS_process_madvise, pid, &there, 1, 4, 0));
    tell("pidfd", CALL(SYS_pidfd_open, pid, 0));
    tell("pidfd-getfd", CALL(SYS_pidfd_getfd, 0, 0, 0));
    tell("compare", CALL(SYS_kcmp, getpid(), pid, 0, 0, 0));
    tell("robust-list", CALL(SYS_get_robust_list, pid, &bytes, &bytes));
    tell("move-pages", CALL(SYS_move_pages, pid, 0, NULL, NULL, NULL, 0));
    tell("migrate-pages", CALL(SYS_migrate_pages, pid, 0, NULL, NULL));
}

static void manage(void)
{
    struct rlimit64 limit = {0, 0};
    unsigned long cpus = 1;
    struct sched_param parameters = {0};
    tell("limit", CALL(SYS_prlimit64, pid, RLIMIT_NOFILE, &limit, NULL));
    tell("get-limit", CALL(SYS_prlimit64, pid, RLIMIT_NOFILE, NULL, &limit));
    tell("affinity", CALL(SYS_sched_setaffinity, pid, sizeof cpus, &cpus));
    tell("get-affinity", CALL(SYS_sched_getaffinity, pid, sizeof cpus, &cpus));
    tell("scheduler", CALL(SYS_sched_setscheduler, pid, 5 /* SCHED_IDLE */, &parameters));
    tell("parameters", CALL(SYS_sched_setparam, pid, &parameters));
    tell("get-parameters", CALL(SYS_sched_getparam, pid, &parameters));
    tell("priority", CALL(SYS_setpriority, PRIO_PROCESS, pid, 19));
    tell("io-priority", CALL(SYS_ioprio_set, 1, pid, 3 << 13));
    tell("group", CALL(SYS_getpgid, pid));
    tell("session", CALL(SYS_getsid, pid));
    tell("set-group", CALL(SYS_setpgid, pid, pid));
    tell("clock", CALL(SYS_clock_gettime, (~pid << 3) | 2, &limit));
}

/* `targets=NAME:PID NAME:PID ...` in the talk image. */
void attack_processes(void)
{
    wait_for('a');
    char *targets = strdup(parameter("targets"));
    for (char *rest = NULL, *target = strtok_r(targets, " ", &rest); target; target = strtok_r(NULL, " ", &rest)) {
        char *colon = strchr(target, ':');
        if (!colon)
            give_up("targets");
        *colon = 0;
        who = target;
        pid = atoi(colon + 1);
        send_signals();
        have_signals_sent();
        reach_into();
        manage();
    }
}

/* All processes at once. Only for an ordinary user: without a sandbox this ends all that the user runs. */
void attack_everybody(void)
{
    wait_for('a');
    int found = 0, highest = (int)number_parameter("highest");
    for (pid = highest > 2000 ? highest - 2000 : 1; pid <= highest; pid++)
        if (pid != getpid() && CALL(SYS_kill, pid, 0) == 0)
            found++;
    report_number("processes-found", found);
    CALL(SYS_kill, -1, SIGKILL);
    report_number("still-here", getpid() > 0);
    report_descriptor("still-served", CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY));
}

/* A child that outlives its parent, which is the emulator to everybody: what is left to it? */
void attack_after_the_end(void)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    int parent = getpid(), fd = -1;
    long child = fork();
    if (child < 0)
        give_up("fork");
    report_descriptor(child ? "parent" : "child", CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY));
    if (child) {
        wait_for('a');
        return;
    }
    while (getppid() == parent)
        nanosleep(&pause, NULL);
    for (int tries = 0; tries < 1000; tries++) {
        fd = (int)CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY);
        if (fd < 0)
            break;
        close(fd);
        nanosleep(&pause, NULL);
    }
    report("orphan", fd);
    report("orphan-create", CALL(SYS_openat, AT_FDCWD, VICTIM, O_RDWR | O_CREAT, 0600));
    report("orphan-unlisted", CALL(SYS_keyctl, 0, -3, 0));
    puts("ORPHAN-DONE");
    _exit(0);
}
