/* What a shared folder, its open descriptors, and the names of one's own descriptors are good for: nothing outside the
 * folder, and no change of an image but of its bytes. */
#include "hostile.h"

#include <sys/mman.h>

/* The folder that is shared for writing, beneath the working folder. */
#define SHARE "share"

/* Through the names of descriptors: an image that may be written, and one that may be read. */
static void use_descriptor_names(int image, int read_only)
{
    char name[64], reading[64], beneath[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", image);
    snprintf(beneath, sizeof beneath, "/proc/self/fd/%d/.", image);
    snprintf(reading, sizeof reading, "/proc/self/fd/%d", read_only);
    report_descriptor("name-read-write", CALL(SYS_openat, AT_FDCWD, reading, O_RDWR));
    report_descriptor("name-read", CALL(SYS_openat, AT_FDCWD, reading, O_RDONLY));
    report_descriptor("name-write", CALL(SYS_openat, AT_FDCWD, name, O_RDWR));
    report_descriptor("name-list", CALL(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY));
    report("name-set-id", CALL(SYS_chmod, name, 04755));
    report("name-set-group-id", CALL(SYS_fchmodat, AT_FDCWD, name, 02755));
    report("name-mode", CALL(SYS_chmod, name, 0777));
    report("name-mode-read-only", CALL(SYS_chmod, reading, 0600));
    report("name-mode-beneath", CALL(SYS_fchmodat, image, name, 0));
    report("standard-mode", CALL(SYS_chmod, "/proc/self/fd/1", 0666));
    report("name-owner", CALL(SYS_fchownat, AT_FDCWD, name, -1, -1, 0));
    report("name-time", CALL(SYS_utimensat, AT_FDCWD, name, NULL, 0));
    report("name-attribute", CALL(SYS_setxattr, name, "user.x", "x", 1, 0));
    report("name-attribute-of-link", CALL(SYS_lsetxattr, name, "user.x", "x", 1, 0));
    report("descriptor-mode", CALL(SYS_fchmod, image, 0644));
    report("descriptor-mode-own", CALL(SYS_fchmod, image, 0600));
    report("descriptor-mode-standard", CALL(SYS_fchmod, 1, 0));
    report("descriptor-mode-empty", CALL(SYS_fchmodat, image, "", 0));
    report("descriptor-mode-flags", CALL(452 /* fchmodat2 */, image, "", 0, AT_EMPTY_PATH));
    report("descriptor-owner", CALL(SYS_fchownat, image, "", -1, -1, AT_EMPTY_PATH));
    report("descriptor-time", CALL(SYS_utimensat, image, NULL, NULL, 0));
    report("descriptor-time-no-follow", CALL(SYS_utimensat, image, NULL, NULL, AT_SYMLINK_NOFOLLOW));
    report("descriptor-time-empty", CALL(SYS_utimensat, image, "", NULL, AT_SYMLINK_NOFOLLOW));
    report("descriptor-time-empty-path", CALL(SYS_utimensat, image, "", NULL, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
    report("descriptor-owner-no-follow", CALL(SYS_fchownat, image, "", -1, -1, AT_SYMLINK_NOFOLLOW));
    report("name-time-no-follow", CALL(SYS_utimensat, AT_FDCWD, beneath, NULL, AT_SYMLINK_NOFOLLOW));
    report("name-owner-no-follow", CALL(SYS_fchownat, AT_FDCWD, beneath, -1, -1, AT_SYMLINK_NOFOLLOW));
    report("name-attribute-beneath", CALL(SYS_lsetxattr, beneath, "user.x", "x", 1, 0));
    report("descriptor-attribute", CALL(SYS_fsetxattr, image, "user.x", "x", 1, 0));
    report("name-link", CALL(SYS_linkat, AT_FDCWD, name, AT_FDCWD, SHARE "/image", AT_SYMLINK_FOLLOW));
    report("descriptor-link", CALL(SYS_linkat, image, "", AT_FDCWD, SHARE "/image", AT_EMPTY_PATH));
}

/* What QEMU does in the folder: by a descriptor that opens nothing, and by one that was opened. */
static void change_own_modes(int folder)
{
    char name[64];
    int place = (int)CALL(SYS_openat, folder, "mine", O_PATH | O_NOFOLLOW);
    int file = (int)CALL(SYS_openat, folder, "mine", O_RDWR);
    snprintf(name, sizeof name, "/proc/self/fd/%d", place);
    report("own-mode", CALL(SYS_chmod, name, 0640));
    report("own-mode-opened", CALL(SYS_fchmod, file, 0604));
    report("own-mode-unopened", CALL(SYS_fchmod, place, 0600));
    report("own-set-id", CALL(SYS_chmod, name, 04755));
    CALL(SYS_close, place);
    report("own-mode-closed", CALL(SYS_chmod, name, 0640));
    CALL(SYS_close, file);
}

/* What has no place in any file system. */
static void open_other_end(int folder)
{
    char name[64];
    int ends[2];
    if (pipe(ends))
        give_up("pipe");
    snprintf(name, sizeof name, "/proc/self/fd/%d", ends[0]);
    report_descriptor("pipe-by-name", CALL(SYS_openat, AT_FDCWD, name, O_WRONLY));
    report_descriptor("pipe-beneath-a-descriptor", CALL(SYS_openat, folder, name, O_WRONLY));
}

/* Modes of what no folder shares. */
void attack_modes(void)
{
    int image = (int)CALL(SYS_openat, AT_FDCWD, GRANTED, O_RDWR);
    report("still-served", image);
    report("image", CALL(SYS_fchmod, image, 0777));
    report("own", CALL(SYS_fchmod, memfd_create("own", 0), 0700));
    report("standard", CALL(SYS_fchmod, 1, 0777));
    report("standard-name", CALL(SYS_chmod, "/proc/self/fd/1", 0777));
    report("nothing", CALL(SYS_fchmod, 999, 0777));
    report_descriptor("still-served-refused", CALL(SYS_openat, AT_FDCWD, VICTIM, O_RDONLY));
}

/* Out of the folder, from a descriptor of it. */
static void leave(int folder)
{
    report_descriptor("up", CALL(SYS_openat, folder, "../" VICTIM, O_RDONLY));
    report_descriptor("up-granted", CALL(SYS_openat, folder, "../" GRANTED, O_RDWR));
    report_descriptor("root", CALL(SYS_openat, folder, "../../../../../etc/shadow", O_RDONLY));
    report_descriptor("make-outside", CALL(SYS_openat, folder, "../new", O_RDWR | O_CREAT, 0600));
    report("link-out", CALL(SYS_symlinkat, absolute(VICTIM), folder, "out"));
    report_descriptor("through-link", CALL(SYS_openat, folder, "out", O_RDONLY));
    report("move-out", CALL(SYS_renameat, folder, "mine", folder, "../mine"));
    report("link-granted", CALL(SYS_linkat, folder, "../" GRANTED, folder, "image", 0));
    report("exchange", CALL(SYS_renameat2, folder, "mine", folder, "../" GRANTED, 2 /* RENAME_EXCHANGE */));
    report("move-granted", CALL(SYS_renameat, folder, "../" GRANTED, folder, "image"));
    report("mode-by-name", CALL(SYS_fchmodat, folder, "mine", 0600));
    report("mode-granted", CALL(SYS_chmod, absolute(GRANTED), 0777));
    report("attribute-granted", CALL(SYS_lsetxattr, absolute(GRANTED), "user.x", "x", 1, 0));
    report("folder-outside", CALL(SYS_mkdirat, folder, "../new", 0755));
    report("device", CALL(SYS_mknodat, folder, "device", S_IFCHR | 0666, 0x0103));
    char *words[] = {"mine", NULL};
    report("execute", CALL(SYS_execveat, folder, "mine", words, NULL, 0));
}

void attack_from_a_shared_folder(void)
{
    int image = (int)CALL(SYS_openat, AT_FDCWD, GRANTED, O_RDWR);
    int read_only = (int)CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY);
    int folder = (int)CALL(SYS_openat, AT_FDCWD, SHARE, O_RDONLY | O_DIRECTORY);
    if (image < 0 || read_only < 0 || folder < 0)
        give_up("open what is granted");
    report_descriptor("make", CALL(SYS_openat, folder, "mine", O_RDWR | O_CREAT, 0755));
    use_descriptor_names(image, read_only);
    change_own_modes(folder);
    open_other_end(folder);
    leave(folder);
    int closed = (int)CALL(SYS_openat, AT_FDCWD, "reading", O_RDONLY | O_DIRECTORY);
    report_descriptor("read-only-make", CALL(SYS_openat, closed, "new", O_RDWR | O_CREAT, 0600));
    report("read-only-remove", CALL(SYS_unlinkat, closed, "kept", 0));
    report("read-only-mode", CALL(SYS_fchmodat, closed, "kept", 0600));
}
