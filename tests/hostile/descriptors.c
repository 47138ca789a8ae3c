/* What a passed descriptor is good for: not for more than it was passed for. */
#include "hostile.h"

#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* Descriptors that a program could hold at all, for listing. */
#define MANY 1024

static void list_descriptors(void)
{
    for (int i = 0; i < MANY; i++)
        if (CALL(SYS_fcntl, i, F_GETFD) >= 0)
            report_number("descriptor", i);
}

static void try_at(const char *attempt, const char *format, int descriptor)
{
    char path[64];
    snprintf(path, sizeof path, format, descriptor);
    report_descriptor(attempt, CALL(SYS_openat, AT_FDCWD, path, O_RDWR));
}

/* A descriptor that may read a file, and the same file for writing. */
static void open_again(int fd)
{
    try_at("again-proc-self", "/proc/self/fd/%d", fd);
    try_at("again-thread-self", "/proc/thread-self/fd/%d", fd);
    try_at("again-dev-fd", "/dev/fd/%d", fd);
    report_descriptor("again-empty-name", CALL(SYS_openat, fd, "", O_RDWR));
    report_descriptor("again-dot", CALL(SYS_openat, fd, ".", O_RDWR));
    report_descriptor("again-beside", CALL(SYS_openat, fd, "../" VICTIM, O_RDONLY));
    report_descriptor("again-own-name", CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDWR));
    report_descriptor("again-own-name-natively", CALL(SYS_openat, fd, absolute(READ_ONLY), O_RDWR));
    report_descriptor("again-read-natively", CALL(SYS_openat, fd, absolute(READ_ONLY), O_RDONLY));
    report("again-chdir", CALL(SYS_fchdir, fd));
    report("again-link", CALL(SYS_linkat, fd, "", AT_FDCWD, "new", AT_EMPTY_PATH));
    report("again-execute", CALL(SYS_execveat, fd, "", NULL, NULL, AT_EMPTY_PATH));
    report_descriptor("again-tree", CALL(SYS_open_tree, fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE));
    report_descriptor("again-pidfd", CALL(SYS_pidfd_getfd, 0, fd, 0));
    /* A lease tells when others open the file, and makes them wait. */
    report("again-lease", CALL(SYS_fcntl, fd, F_SETLEASE, F_RDLCK));
    report("again-set-access", CALL(SYS_fcntl, fd, F_SETFL, O_RDWR | O_APPEND));
    report_number("again-access", CALL(SYS_fcntl, fd, F_GETFL) & O_ACCMODE);
}

static void write_through(const char *prefix, int fd)
{
    char name[64];
#define ATTEMPT(what, result) report((snprintf(name, sizeof name, "%s-" what, prefix), name), result)
    char byte = 'X';
    struct {
        void *base;
        size_t length;
    } vector = {&byte, 1};
    ATTEMPT("write", CALL(SYS_write, fd, &byte, 1));
    ATTEMPT("pwrite", CALL(SYS_pwrite64, fd, &byte, 1, 0));
    ATTEMPT("pwritev2", CALL(SYS_pwritev2, fd, &vector, 1, 0, 0, 0));
    ATTEMPT("truncate", CALL(SYS_ftruncate, fd, 0));
    ATTEMPT("allocate", CALL(SYS_fallocate, fd, 0, 0, 4096));
    ATTEMPT("punch", CALL(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 512));
    ATTEMPT("copy", CALL(SYS_copy_file_range, fd, NULL, fd, NULL, 512, 0));
    void *pages = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ATTEMPT("map", pages == MAP_FAILED ? -1 : 0);
    pages = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    ATTEMPT("map-and-protect", mprotect(pages, 4096, PROT_READ | PROT_WRITE));
    aio_context_t context = 0;
    struct iocb block = {
        .aio_fildes = (uint32_t)fd, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (uintptr_t)&byte, .aio_nbytes = 1};
    struct iocb *blocks = &block;
    CALL(SYS_io_setup, 1, &context);
    ATTEMPT("aio", CALL(SYS_io_submit, context, 1, &blocks));
}

static void change_attributes(const char *prefix, int fd)
{
    char name[64];
    int flags = 0x80; /* FS_NOATIME_FL */
    struct fsxattr extended = {.fsx_xflags = 0x40 /* FS_XFLAG_NOATIME */};
    ATTEMPT("chmod", CALL(SYS_fchmod, fd, 0777));
    ATTEMPT("chmod-empty-name", CALL(452, fd, "", 0777, AT_EMPTY_PATH));
    ATTEMPT("chown", CALL(SYS_fchown, fd, getuid(), getgid()));
    ATTEMPT("chown-empty-name", CALL(SYS_fchownat, fd, "", getuid(), getgid(), AT_EMPTY_PATH));
    ATTEMPT("times", CALL(SYS_utimensat, fd, NULL, NULL, 0));
    ATTEMPT("times-empty-name", CALL(SYS_utimensat, fd, "", NULL, AT_EMPTY_PATH));
    ATTEMPT("setxattr", CALL(SYS_fsetxattr, fd, "user.a", "b", 1, 0));
    ATTEMPT("removexattr", CALL(SYS_fremovexattr, fd, "user.a"));
    ATTEMPT("setxattrat", CALL(463, fd, "", AT_EMPTY_PATH, "user.a", NULL, 0));
    ATTEMPT("file-setattr", CALL(469, fd, "", NULL, 0, AT_EMPTY_PATH));
    ATTEMPT("set-flags", CALL(SYS_ioctl, fd, FS_IOC_SETFLAGS, &flags));
    ATTEMPT("set-extended-flags", CALL(SYS_ioctl, fd, FS_IOC_FSSETXATTR, &extended));
    ATTEMPT("clone-into", CALL(SYS_ioctl, fd, FICLONE, fd));
    ATTEMPT("freeze", CALL(SYS_ioctl, fd, FIFREEZE, 0));
    ATTEMPT("mount-setattr", CALL(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, NULL, 0));
    ATTEMPT("quota", CALL(SYS_quotactl_fd, fd, 0, 0, NULL));
}

/* The kernel makes a new descriptor of the same open file on the way through a socket: no new rights. */
static void send_to_oneself(int fd)
{
    int pair[2];
    char byte = 0;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec vector = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    report("send-pair", socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    report("send-itself", sendmsg(pair[0], &message, 0));
    report("send-receive", recvmsg(pair[1], &message, 0));
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    report("send-write", write(fd, &byte, 1));
}

void attack_descriptors(void)
{
    list_descriptors();
    int fd = (int)CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY);
    report("read-only", fd);
    open_again(fd);
    write_through("read-only", fd);
    change_attributes("read-only", fd);
    send_to_oneself(fd);
    close(fd);
    fd = (int)CALL(SYS_openat, AT_FDCWD, BACKING, O_RDONLY);
    report("backing", fd);
    write_through("backing", fd);
    change_attributes("backing", fd);
    close(fd);
    fd = (int)CALL(SYS_openat, AT_FDCWD, GRANTED, O_RDONLY);
    report("granted-for-reading", fd);
    write_through("granted-for-reading", fd);
    close(fd);
    fd = (int)CALL(SYS_openat, AT_FDCWD, GRANTED, O_RDWR);
    report("writable", fd);
    report("writable-write", pwrite(fd, "granted", 7, 65536));
    report("writable-truncate", ftruncate(fd, 1 << 20));
    report("writable-chmod", CALL(SYS_fchmod, fd, 0777));
    report("writable-chown", CALL(SYS_fchown, fd, getuid(), getgid()));
    report("writable-setxattr", CALL(SYS_fsetxattr, fd, "user.a", "b", 1, 0));
    report("writable-times", CALL(SYS_utimensat, fd, NULL, NULL, 0));
}
