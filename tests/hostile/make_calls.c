/* Makes the system calls that a list names, one after the other, and says what each came to: the way in which
 * the tests hold the profile files against the kernel. */
#include "hostile.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* One call: its place in the list, its number and its arguments. */
struct call {
    long number;
    unsigned long arguments[6];
};

static long make(const struct call *call)
{
    const unsigned long *a = call->arguments;
    return CALL(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* `INDEX RESULT`: the first column of the list, and `ok` or an error's name. */
static void tell(int index, long result)
{
    int error = errno;
    char name[32];
    snprintf(name, sizeof name, "%d", index);
    errno = error;
    report(name, result);
}

/* What `make` came to in a child: the signal that ended it, or its report. */
static void make_in_child(int index, const struct call *call, void (*prepare)(void), long (*run)(const struct call *))
{
    int status, child = fork();
    if (child < 0)
        give_up("fork");
    if (child == 0) {
        if (prepare)
            prepare();
        long result = run(call);
        /* Nothing but exit_group is sure to be allowed. An errno that matters is below 255. */
        CALL(SYS_exit_group, result < 0 ? errno : 0);
    }
    if (waitpid(child, &status, 0) != child)
        give_up("wait for a child");
    if (WIFSIGNALED(status)) {
        printf("%d %s\n", index, WTERMSIG(status) == SIGSYS ? "killed" : "crashed");
        return;
    }
    errno = WEXITSTATUS(status);
    tell(index, errno ? -1 : 0);
}

/* The same number by way of the 32-bit table, which has another call there. */
static long make_foreign(const struct call *call)
{
    long result = call->number;
#ifdef __x86_64__
    const unsigned long *a = call->arguments;
    __asm__ volatile("int $0x80" : "+a"(result) : "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4]) : "memory");
#endif
    errno = result < 0 ? (int)-result : 0;
    return result;
}

/* Lines of `KIND NUMBER ARGUMENT...`, the numbers hexadecimal. */
static int parse(const char *line, char *kind, struct call *call)
{
    unsigned long *a = call->arguments;
    return sscanf(line, "%c %lx %lx %lx %lx %lx %lx %lx", kind, (unsigned long *)&call->number, &a[0], &a[1], &a[2],
                  &a[3], &a[4], &a[5]) == 8;
}

static void make_all(FILE *list, void (*prepare)(void))
{
    char line[256], kind;
    struct call call;
    int process = getpid();
    for (int index = 0; fgets(line, sizeof line, list) && parse(line, &kind, &call); index++) {
        if (kind == 'c' || kind == 'f') {
            make_in_child(index, &call, prepare, kind == 'f' ? make_foreign : make);
            continue;
        }
        long result = make(&call);
        if (getpid() != process)
            _exit(0); /* A fork that should not have been possible; its parent reports it. */
        tell(index, result);
    }
    puts("LIST DONE");
}

/* The list lies in the image that is granted for reading, once the test knows this process. */
void make_calls(void)
{
    wait_for('a');
    int fd = (int)CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY);
    FILE *list = fd < 0 ? NULL : fdopen(fd, "r");
    if (!list)
        give_up("open the list of calls");
    make_all(list, NULL);
}

static struct sock_fprog filter;

static void confine(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter))
        _exit(255);
}

/* Not in the sandbox: makes each call of the file `calls` in a child under the filter in the file `program`. */
void make_confined_calls(const char *program, const char *calls)
{
    static struct sock_filter instructions[4096];
    FILE *file = fopen(program, "r"), *list = fopen(calls, "r");
    if (!file || !list)
        give_up("open the filter and the list of calls");
    filter.len = (unsigned short)fread(instructions, sizeof instructions[0], 4096, file);
    filter.filter = instructions;
    make_all(list, filter.len ? confine : NULL);
}
