/* Doors of the kernel that an emulator has no business at. */
#include "hostile.h"

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static void make_namespaces(void)
{
    static const struct {
        const char *name;
        unsigned long flag;
    } kinds[] = {
        {"user", CLONE_NEWUSER}, {"mount", CLONE_NEWNS}, {"net", CLONE_NEWNET},       {"pid", CLONE_NEWPID},
        {"ipc", CLONE_NEWIPC},   {"uts", CLONE_NEWUTS},  {"cgroup", CLONE_NEWCGROUP}, {"time", 0x80 /* CLONE_NEWTIME */},
    };
    char name[64];
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        snprintf(name, sizeof name, "unshare-%s", kinds[i].name);
        report(name, CALL(SYS_unshare, kinds[i].flag));
        snprintf(name, sizeof name, "clone-%s", kinds[i].name);
        /* The lowest eight bits of clone's flags are a signal, so there it cannot ask for a time namespace. */
        if (kinds[i].flag == 0x80)
            continue;
        long child = CALL(SYS_clone, kinds[i].flag | 17 /* SIGCHLD */, 0, 0, 0, 0);
        if (child == 0)
            _exit(0);
        report(name, child);
    }
    /* A process that could outlive the emulator, where the command line asks for none; and one of somebody else. */
    long child = CALL(SYS_fork);
    if (child == 0)
        _exit(0);
    report("fork", child);
    child = CALL(SYS_clone, 17, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    report("clone-process", child);
    child = CALL(SYS_clone, CLONE_PARENT | 17, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    report("clone-parent", child);
    uint64_t arguments[8] = {CLONE_NEWUSER, 0, 0, 0, 17}; /* struct clone_args of linux/sched.h */
    child = CALL(SYS_clone3, arguments, sizeof arguments);
    if (child == 0)
        _exit(0);
    report("clone3-user", child);
    report("setns", CALL(SYS_setns, 0, 0));
}

static void use_the_ring(void)
{
    char parameters[120] = {0};
    report("io-uring-setup", CALL(SYS_io_uring_setup, 8, parameters));
    report("io-uring-enter", CALL(SYS_io_uring_enter, 0, 1, 0, 0, NULL, 0));
    report("io-uring-register", CALL(SYS_io_uring_register, -1, 0, NULL, 0));
}

static void become_somebody(void)
{
    struct {
        uint32_t version;
        int pid;
    } header = {0x20080522, 0};
    uint32_t sets[6] = {~0U, ~0U, ~0U, ~0U, ~0U, ~0U};
    int groups[] = {0};
    report("setuid", CALL(SYS_setuid, 0));
    report("setresuid", CALL(SYS_setresuid, 0, 0, 0));
    report("setgid", CALL(SYS_setgid, 0));
    report("setgroups", CALL(SYS_setgroups, 1, groups));
    report("setfsuid", CALL(SYS_setfsuid, 0));
    report("capset", CALL(SYS_capset, &header, sets));
    report("ambient", CALL(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0));
    report("securebits", CALL(SYS_prctl, PR_SET_SECUREBITS, 0, 0, 0, 0));
    report("keep-capabilities", CALL(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0));
    report("new-privileges", CALL(SYS_prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    report("dumpable", CALL(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0));
    report("ptracer", CALL(SYS_prctl, PR_SET_PTRACER, -1, 0, 0, 0));
    report("subreaper", CALL(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    report("memory-map", CALL(SYS_prctl, PR_SET_MM, PR_SET_MM_EXE_FILE, 0, 0, 0));
    report("personality", CALL(SYS_personality, 0x0040000 /* ADDR_NO_RANDOMIZE */));
    report("personality-read-implies-exec", CALL(SYS_personality, 0x0400000));
}

static void execute(void)
{
    char *words[] = {"/bin/sh", "-c", "echo executed", NULL};
    char *loader[] = {"/lib64/ld-linux-x86-64.so.2", "/bin/sh", NULL};
    report("execute-shell", CALL(SYS_execve, words[0], words, NULL));
    report("execute-loader", CALL(SYS_execve, loader[0], loader, NULL));
    report("execute-itself", CALL(SYS_execve, "/proc/self/exe", words, NULL));
    report("execute-setuid", CALL(SYS_execve, "/usr/bin/su", words, NULL));
    report("execute-image", CALL(SYS_execve, absolute(READ_ONLY), words, NULL));
    report("execute-at", CALL(SYS_execveat, AT_FDCWD, words[0], words, NULL, 0));
    int memory = (int)CALL(SYS_memfd_create, "program", 0);
    report("execute-memory", CALL(SYS_execveat, memory, "", words, NULL, AT_EMPTY_PATH));
}

static void filter(void)
{
    struct sock_filter notify[] = {{6 /* return */, 0, 0, SECCOMP_RET_USER_NOTIF}};
    struct sock_filter allow[] = {{6, 0, 0, SECCOMP_RET_ALLOW}};
    struct sock_fprog program = {1, notify};
    report_descriptor("filter-with-listener",
                      CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
    program.filter = allow;
    report("filter-that-allows", CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    report("personality-after-it", CALL(SYS_personality, 0));
    report("filter-log", CALL(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0));
}

static void use_other_doors(void)
{
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .exclude_kernel = 1};
    report_descriptor("bpf", CALL(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
    report_descriptor("perf", CALL(SYS_perf_event_open, &event, 0, -1, -1, 0));
    report_descriptor("userfaultfd", CALL(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
    report("keyctl", CALL(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
    report("add-key", CALL(SYS_add_key, "user", "k", "v", 1, KEY_SPEC_PROCESS_KEYRING));
    report("request-key", CALL(SYS_request_key, "user", "k", NULL, 0));
    report("modify-ldt", CALL(SYS_modify_ldt, 0, NULL, 0));
    report("ioperm", CALL(SYS_ioperm, 0x80, 1, 1));
    report("iopl", CALL(SYS_iopl, 3));
    report("syslog", CALL(SYS_syslog, 10, NULL, 0));
    report("memfd-secret", CALL(SYS_memfd_secret, 0));
    report("shmget", CALL(SYS_shmget, IPC_PRIVATE, 4096, 0600 | IPC_CREAT));
    report("shmat", CALL(SYS_shmat, 0, NULL, 0));
    report("semget", CALL(SYS_semget, IPC_PRIVATE, 1, 0600 | IPC_CREAT));
    report("msgget", CALL(SYS_msgget, IPC_PRIVATE, 0600 | IPC_CREAT));
    report_descriptor("mq-open", CALL(SYS_mq_open, "queue", O_RDWR | O_CREAT, 0600, NULL));
    report("sethostname", CALL(SYS_sethostname, "h", 1));
    report("landlock", CALL(SYS_landlock_create_ruleset, NULL, 0, 1));
    report("splice", CALL(SYS_splice, 0, NULL, 1, NULL, 0, 0));
    report("vmsplice", CALL(SYS_vmsplice, 1, NULL, 0, 0));
    report("flock", CALL(SYS_flock, 0, 2 /* LOCK_EX */));
    report("timer-create", CALL(SYS_timer_create, 0, NULL, NULL));
    report("unknown-call", CALL(600));
}

void attack_calls(void)
{
    make_namespaces();
    use_the_ring();
    become_somebody();
    execute();
    use_other_doors();
    filter();
}
