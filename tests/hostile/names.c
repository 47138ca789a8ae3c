/* Files by their names: another guest's image must not be read, written, changed, seen or made anew. */
#include "hostile.h"

#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/inotify.h>
#include <sys/vfs.h>

/* The program's root and working folder as descriptors that stand for a place: getting those is allowed, and
 * must lead nowhere. */
static int root, folder;

static void open_in_every_way(void)
{
    const char *path = absolute(VICTIM);
    report_descriptor("open", CALL(SYS_open, path, O_RDONLY));
    report_descriptor("open-relative", CALL(SYS_open, VICTIM, O_RDONLY));
    report_descriptor("open-write", CALL(SYS_open, path, O_WRONLY));
    report_descriptor("open-truncate", CALL(SYS_open, path, O_RDONLY | O_TRUNC));
    report_descriptor("open-create", CALL(SYS_open, path, O_RDWR | O_CREAT, 0600));
    report_descriptor("open-exclusive", CALL(SYS_open, path, O_RDWR | O_CREAT | O_EXCL, 0600));
    report_descriptor("open-path", CALL(SYS_open, path, O_PATH));
    report_descriptor("open-folder", CALL(SYS_open, absolute("."), O_RDONLY | O_DIRECTORY));
    report_descriptor("open-tmpfile", CALL(SYS_open, absolute("."), O_TMPFILE | O_RDWR, 0600));
    report_descriptor("creat", CALL(SYS_creat, path, 0600));
    report_descriptor("openat", CALL(SYS_openat, AT_FDCWD, path, O_RDONLY));
    report_descriptor("openat-high-bits", CALL(SYS_openat, 0x7fffffff00000000L | (uint32_t)AT_FDCWD, path, O_RDONLY));
    report_descriptor("openat-no-folder", CALL(SYS_openat, -1, path, O_RDONLY));
    report_descriptor("openat-root", CALL(SYS_openat, root, path, O_RDONLY));
    report_descriptor("openat-relative", CALL(SYS_openat, folder, VICTIM, O_RDONLY));
    report_descriptor("openat-create", CALL(SYS_openat, folder, VICTIM, O_RDWR | O_CREAT, 0600));
    report_descriptor("openat-tmpfile", CALL(SYS_openat, folder, ".", O_RDWR | O_TMPFILE, 0600));
    report_descriptor("openat-list", CALL(SYS_openat, folder, ".", O_RDONLY | O_DIRECTORY));
    report_descriptor("openat-list-root", CALL(SYS_openat, root, "/", O_RDONLY | O_DIRECTORY));
    struct open_how how = {.flags = O_RDONLY};
    report_descriptor("openat2", CALL(SYS_openat2, AT_FDCWD, path, &how, sizeof how));
    report_descriptor("open-link", CALL(SYS_open, "link-to-victim", O_RDONLY));
    report_descriptor("openat-link", CALL(SYS_openat, folder, "link-to-victim", O_RDONLY));
    report_descriptor("open-hard-link", CALL(SYS_open, "hard-link-to-victim", O_RDONLY));
}

/* Upwards and around: out of the root, and through what is the same file elsewhere. */
static void climb(void)
{
    char path[4096] = "";
    for (int i = 0; i < 32; i++)
        strcat(path, "../");
    strcat(path, absolute(VICTIM) + 1);
    report_descriptor("climb-open", CALL(SYS_open, path, O_RDONLY));
    report_descriptor("climb-openat", CALL(SYS_openat, folder, path, O_RDONLY));
    report_descriptor("climb-root", CALL(SYS_openat, root, path, O_RDONLY));
    report_descriptor("shadow", CALL(SYS_openat, root, "etc/shadow", O_RDONLY));
    report_descriptor("shadow-open", CALL(SYS_open, "/etc/shadow", O_RDONLY));
    report_descriptor("shadow-through-library", CALL(SYS_open, "/usr/lib/../../etc/shadow", O_RDONLY));
    report_descriptor("proc-self", CALL(SYS_openat, root, "proc/self/environ", O_RDONLY));
    report_descriptor("proc-root", CALL(SYS_openat, root, "proc/1/root/etc/shadow", O_RDONLY));
    report_descriptor("proc-open", CALL(SYS_open, "/proc/self/root/etc/shadow", O_RDONLY));
    report_descriptor("proc-cwd", CALL(SYS_open, "/proc/self/cwd/" VICTIM, O_RDONLY));
    report_descriptor("sys", CALL(SYS_open, "/sys/kernel/uevent_seqnum", O_RDONLY));
    report_descriptor("memory-device", CALL(SYS_open, "/dev/mem", O_RDONLY));
    report_descriptor("own-program-write", CALL(SYS_openat, root, "proc/self/exe", O_RDWR));
}

static void look(void)
{
    const char *path = absolute(VICTIM);
    struct stat status;
    struct statx statx;
    struct statfs file_system;
    char buffer[256];
    report("stat", CALL(SYS_stat, path, &status));
    report("lstat", CALL(SYS_lstat, path, &status));
    report("newfstatat", CALL(SYS_newfstatat, folder, VICTIM, &status, 0));
    report("statx", CALL(SYS_statx, AT_FDCWD, path, 0, STATX_ALL, &statx));
    report("access", CALL(SYS_access, path, F_OK));
    report("faccessat2", CALL(SYS_faccessat2, folder, VICTIM, F_OK, 0));
    report("readlink", CALL(SYS_readlink, absolute("link-to-victim"), buffer, sizeof buffer));
    report("statfs", CALL(SYS_statfs, path, &file_system));
    report("getxattr", CALL(SYS_getxattr, path, "user.a", buffer, sizeof buffer));
    report("listxattr", CALL(SYS_listxattr, path, buffer, sizeof buffer));
    report("chdir", CALL(SYS_chdir, path));
    int watcher = (int)CALL(SYS_inotify_init1, 0);
    report("inotify", CALL(SYS_inotify_add_watch, watcher, path, IN_OPEN));
    report("fanotify", CALL(SYS_fanotify_init, 0, 0));
}

static void change(void)
{
    const char *path = absolute(VICTIM);
    const char *own = absolute(READ_ONLY);
    report("truncate", CALL(SYS_truncate, path, 0));
    report("truncate-own", CALL(SYS_truncate, own, 0));
    report("unlink", CALL(SYS_unlink, path));
    report("unlink-own", CALL(SYS_unlink, own));
    report("unlinkat", CALL(SYS_unlinkat, folder, VICTIM, 0));
    report("unlinkat-own", CALL(SYS_unlinkat, folder, READ_ONLY, 0));
    report("unlinkat-folder", CALL(SYS_unlinkat, AT_FDCWD, absolute("."), AT_REMOVEDIR));
    report("chmod", CALL(SYS_chmod, own, 0777));
    report("fchmodat", CALL(SYS_fchmodat, folder, READ_ONLY, 0777));
    report("fchmodat2", CALL(452, folder, READ_ONLY, 0777, 0));
    report("chown", CALL(SYS_chown, own, -1, -1));
    report("lchown", CALL(SYS_lchown, own, -1, -1));
    report("fchownat", CALL(SYS_fchownat, folder, READ_ONLY, -1, -1, 0));
    report("utimensat", CALL(SYS_utimensat, folder, READ_ONLY, NULL, 0));
    report("utime", CALL(SYS_utime, own, NULL));
    report("utimes", CALL(SYS_utimes, own, NULL));
    report("futimesat", CALL(SYS_futimesat, folder, READ_ONLY, NULL));
    report("setxattr", CALL(SYS_setxattr, own, "user.a", "b", 1, 0));
    report("removexattr", CALL(SYS_removexattr, own, "user.a"));
}

static void make(void)
{
    const char *path = absolute(VICTIM);
    const char *other = absolute("new");
    report("link", CALL(SYS_link, path, other));
    report("link-own", CALL(SYS_link, absolute(READ_ONLY), other));
    report("linkat", CALL(SYS_linkat, folder, READ_ONLY, folder, "new", 0));
    report("symlink", CALL(SYS_symlink, path, other));
    report("symlink-private", CALL(SYS_symlink, path, "/var/tmp/link"));
    report("rename", CALL(SYS_rename, absolute(READ_ONLY), path));
    report("renameat2", CALL(SYS_renameat2, folder, READ_ONLY, folder, VICTIM, 0));
    report("mkdir", CALL(SYS_mkdir, other, 0700));
    report("mkdir-private", CALL(SYS_mkdir, "/var/tmp/folder", 0700));
    report("rmdir", CALL(SYS_rmdir, absolute(".")));
    report("mknod", CALL(SYS_mknod, other, S_IFIFO | 0600, 0));
    report("mknodat-device", CALL(SYS_mknodat, AT_FDCWD, "/var/tmp/disk", S_IFBLK | 0600, 0x800));
}

static void use_handles_and_mounts(void)
{
    struct {
        struct file_handle header;
        char bytes[128];
    } handle = {.header.handle_bytes = 128};
    int mount = 0;
    report("name-to-handle", CALL(SYS_name_to_handle_at, AT_FDCWD, absolute(READ_ONLY), &handle, &mount, 0));
    report("name-to-handle-root", CALL(SYS_name_to_handle_at, root, "", &handle, &mount, AT_EMPTY_PATH));
    report_descriptor("open-by-handle", CALL(SYS_open_by_handle_at, root, &handle, O_RDONLY));
    report("mount", CALL(SYS_mount, "none", "/var/tmp", "tmpfs", 0, NULL));
    report("mount-bind", CALL(SYS_mount, "/", "/var/tmp", NULL, 4096 /* MS_BIND */, NULL));
    report("umount", CALL(SYS_umount2, absolute(READ_ONLY), 2 /* MNT_DETACH */));
    report("pivot-root", CALL(SYS_pivot_root, ".", "."));
    report("chroot", CALL(SYS_chroot, "."));
    report_descriptor("open-tree", CALL(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE));
    report("move-mount", CALL(SYS_move_mount, root, "", folder, "", 0));
    report_descriptor("fsopen", CALL(SYS_fsopen, "tmpfs", 0));
    report_descriptor("fspick", CALL(SYS_fspick, AT_FDCWD, "/", 0));
    report("mount-setattr", CALL(SYS_mount_setattr, root, "", AT_EMPTY_PATH, NULL, 0));
}

void attack_names(void)
{
    root = (int)CALL(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY);
    folder = (int)CALL(SYS_openat, root, absolute(".") + 1, O_PATH | O_DIRECTORY);
    report("root", root);
    report("folder", folder);
    open_in_every_way();
    climb();
    look();
    change();
    make();
    use_handles_and_mounts();
}
