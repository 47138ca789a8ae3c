/* Names as bytes: every odd spelling, every odd place in memory, every flag. */
#include "hostile.h"

#include <sys/mman.h>

static void open_as(const char *attempt, const char *name)
{
    report_descriptor(attempt, CALL(SYS_openat, AT_FDCWD, name, O_RDONLY));
}

/* `length` bytes that name nothing. */
static char *long_name(size_t length)
{
    char *name = calloc(1, length + 1);
    if (!name)
        give_up("calloc");
    memset(name, 'x', length);
    return name;
}

static void spell(void)
{
    open_as("empty", "");
    open_as("dot", ".");
    open_as("dot-dot", "..");
    open_as("slash", "/");
    open_as("doubled-slash", "a//b");
    open_as("doubled-victim", "//tmp//" VICTIM);
    open_as("trailing-slash", VICTIM "/");
    open_as("trailing-slash-granted", READ_ONLY "/");
    open_as("dotted-granted", "./" READ_ONLY);
    open_as("around-granted", "nothing/../" READ_ONLY);
    open_as("around-victim", READ_ONLY "/../" VICTIM);
    open_as("beneath-granted", READ_ONLY "/" VICTIM);
    open_as("not-utf8", "\xff\xfe\x80");
    open_as("control-characters", "a\n\x1b[2Jbroker: granted: open /etc/shadow");
    open_as("4095", long_name(4095));
    open_as("4096", long_name(4096));
    open_as("5000", long_name(5000));
    open_as("descriptor-0", "/proc/self/fd/0");
    open_as("descriptor-3", "/proc/self/fd/3");
    open_as("thread-descriptor", "/proc/thread-self/fd/0");
    open_as("dev-fd", "/dev/fd/0");
    open_as("dev-stdin", "/dev/stdin");
    open_as("fdset", "/dev/fdset/1");
    open_as("fd-prefix", "fd:1");
    open_as("json", "json:{\"driver\":\"file\",\"filename\":\"" VICTIM "\"}");
    open_as("terminal", "/dev/tty");
    open_as("terminals", "/dev/ptmx");
    open_as("kvm", "/dev/kvm");
    open_as("tun", "/dev/net/tun");
}

static void place(void)
{
    const long page = sysconf(_SC_PAGESIZE);
    const char name[] = READ_ONLY;
    char *pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || munmap(pages + 2 * page, page))
        give_up("map pages");
    open_as("null-pointer", NULL);
    open_as("kernel-pointer", (char *)0xffffffff81000000);
    open_as("highest-pointer", (char *)-1);
    open_as("unmapped", pages + 2 * page);
    memset(pages + page, 'x', page);
    open_as("runs-into-the-unmapped", pages + 2 * page - 5);
    memcpy(pages + 2 * page - sizeof name, name, sizeof name);
    open_as("ends-with-the-page", pages + 2 * page - sizeof name);
    memcpy(pages + page - 4, name, sizeof name);
    open_as("across-pages", pages + page - 4);
    mprotect(pages + page, page, PROT_NONE);
    open_as("into-the-forbidden", pages + page - 4);
    open_as("forbidden", pages + page);
}

static void set_flags(void)
{
    static const struct {
        const char *name;
        int flags;
    } tries[] = {
        {"flag-async", O_RDONLY | O_ASYNC},
        {"flag-tmpfile", O_RDWR | O_TMPFILE},
        {"flag-access-3", 3},
        {"flag-exec", 040 /* FMODE_EXEC of the kernel */},
        {"flag-nonotify", 0400000000 /* FMODE_NONOTIFY of the kernel */},
        {"flag-highest", (int)0x80000000},
        {"flag-path", O_PATH},
        {"flag-folder", O_RDONLY | O_DIRECTORY},
        {"flag-create", O_RDONLY | O_CREAT},
        {"flag-exclusive", O_RDONLY | O_CREAT | O_EXCL},
        {"flag-nofollow", O_RDONLY | O_NOFOLLOW},
        {"flag-write", O_WRONLY},
        {"flag-read-write", O_RDWR},
        {"flag-truncate", O_RDONLY | O_TRUNC},
        {"flag-create-truncate", O_RDONLY | O_CREAT | O_TRUNC},
        {"flag-append", O_RDONLY | O_APPEND},
        {"flag-append-write", O_WRONLY | O_APPEND},
    };
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++)
        report_descriptor(tries[i].name, CALL(SYS_openat, AT_FDCWD, READ_ONLY, tries[i].flags, 04777));
    /* The kernel takes the low half of the flags' register, and so must everybody. */
    report_descriptor("flags-high-half", CALL(SYS_openat, AT_FDCWD, READ_ONLY, 0x300000000L | O_RDWR, 0));
    report_descriptor("backing-read", CALL(SYS_openat, AT_FDCWD, BACKING, O_RDONLY));
    report_descriptor("backing-write", CALL(SYS_openat, AT_FDCWD, BACKING, O_RDWR));
    report_descriptor("backing-write-absolute", CALL(SYS_open, absolute(BACKING), O_WRONLY));
    report_descriptor("backing-truncate", CALL(SYS_creat, BACKING, 0600));
    report_descriptor("granted-write", CALL(SYS_openat, AT_FDCWD, GRANTED, O_RDWR));
    report_descriptor("granted-write-absolute", CALL(SYS_open, absolute(GRANTED), O_WRONLY | O_SYNC));
}

void attack_spellings(void)
{
    spell();
    place();
    set_flags();
}
