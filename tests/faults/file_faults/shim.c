/* Counts the file operations of a process below one folder, and fails or kills at a chosen one.
 *
 * Loaded with LD_PRELOAD. A file of control, named by FILE_FAULTS, is mapped into every process that inherits the
 * variable, so that all of them count together; `control.py` writes it. Calls of libc alone are seen. That covers
 * Python, Rust's standard library and libstdc++, whose streams call `write` and `writev`; C's own `fwrite` is not
 * seen, and `check_shim` in `server.py` would notice if something that matters here used it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, KILL_HALF, FAIL_ONCE, FAIL_FROM };
enum { OPEN, WRITE, RENAME, UNLINK, MKDIR, RMDIR, LINK, TRUNCATE, SYNC, MAP };
static const char *const NAMES[] = {"open",  "write", "rename",   "unlink", "mkdir",
                                    "rmdir", "link",  "truncate", "sync",   "map"};

/* `control.py` has the same fields in the same order. */
struct control {
    int mode;
    int error;        /* errno of a failing operation */
    long at;          /* the number of the operation that fails or kills, from 1 */
    long kinds;       /* bit k: operations of kind k fail */
    int whole_group;  /* kill the process group, else the process alone */
    int fired;
    long count;
    char folder[512]; /* absolute, without a link in it */
    char log[512];    /* one line an operation: kind, tab, path */
};

static struct control *control;

static void attach(void) {
    const char *path = getenv("FILE_FAULTS");
    if (control || !path) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return;
    void *at = (void *)syscall(SYS_mmap, NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) control = at;
    syscall(SYS_close, fd);
}

__attribute__((constructor)) static void start(void) { attach(); }

/* A forked trial has its variable only after the fork. */
void file_faults_attach(void) { control = NULL; attach(); }

static int is_below(const char *path) {
    size_t length = strlen(control->folder);
    return strncmp(path, control->folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static void path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    out[length < 0 ? 0 : length] = 0;
}

static void full_path(int folder, const char *path, char *out) {
    char base[PATH_MAX];
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
        return;
    }
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) base[0] = 0;
    } else {
        path_of(folder, base);
    }
    if (strlen(base) + strlen(path) + 2 > PATH_MAX) return;
    strcpy(out, base);
    strcat(out, "/");
    strcat(out, path);
}

/* What becomes of an operation: GO on, FAIL with errno set, or HALF of a write first. */
enum verdict { GO, FAIL, HALF, HALF_AND_KILL };

static void kill_now(void) {
    control->fired = 1;
    kill(control->whole_group ? 0 : getpid(), SIGKILL);
    for (;;) pause();
}

static enum verdict decide(int kind, const char *path, size_t size) {
    char line[PATH_MAX + 64];
    int saved = errno;
    long number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    int mode = control->mode, here = number == control->at;
    if (control->log[0]) {
        int log = (int)syscall(SYS_openat, AT_FDCWD, control->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        int length = snprintf(line, sizeof line, "%s\t%s\n", NAMES[kind], path);
        if (log >= 0) {
            syscall(SYS_write, log, line, length);
            syscall(SYS_close, log);
        }
    }
    errno = saved;
    if (mode == KILL && here) kill_now();
    if (mode == KILL_HALF && here) {
        if (kind == WRITE && size > 1) return HALF_AND_KILL;
        kill_now();
    }
    if (!(control->kinds >> kind & 1)) return GO;
    if (mode == FAIL_ONCE && here) {
        control->fired = 1;
        errno = control->error;
        return FAIL;
    }
    if (mode == FAIL_FROM && number >= control->at) {
        int first = !control->fired;
        control->fired = 1;
        if (first && kind == WRITE && size > 1 && (control->error == ENOSPC || control->error == EDQUOT)) return HALF;
        errno = control->error;
        return FAIL;
    }
    return GO;
}

static int watching(void) { return control && control->mode != OFF; }

static enum verdict of_path(int kind, int folder, const char *path) {
    char full[PATH_MAX];
    if (!watching() || !path) return GO;
    full[0] = 0;
    full_path(folder, path, full);
    if (!is_below(full)) return GO;
    if (kind == MKDIR || kind == UNLINK || kind == RMDIR) { /* one that changes nothing is not counted */
        struct stat status;
        int saved = errno, exists = lstat(full, &status) == 0;
        errno = saved;
        if (exists == (kind == MKDIR)) return GO;
    }
    return decide(kind, full, 0);
}

static enum verdict of_fd(int kind, int fd, size_t size) {
    char full[PATH_MAX];
    if (!watching() || fd < 0) return GO;
    path_of(fd, full);
    return is_below(full) ? decide(kind, full, size) : GO;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define STOP_IF(verdict) do { if ((verdict) == FAIL) return -1; } while (0)

static enum verdict of_open(int folder, const char *path, int flags) {
    int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    return writes ? of_path(OPEN, folder, path) : GO;
}

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags)
    STOP_IF(of_open(AT_FDCWD, path, flags));
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE_OF(flags)
    STOP_IF(of_open(AT_FDCWD, path, flags));
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE_OF(flags)
    STOP_IF(of_open(folder, path, flags));
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE_OF(flags)
    STOP_IF(of_open(folder, path, flags));
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}
int creat(const char *path, mode_t mode) {
    STOP_IF(of_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC));
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static FILE *stream(const char *path, const char *mode, FILE *(*next)(const char *, const char *)) {
    if (strpbrk(mode, "wa+") && of_path(OPEN, AT_FDCWD, path) == FAIL) return NULL;
    return next(path, mode);
}
FILE *fopen(const char *path, const char *mode) { return stream(path, mode, NEXT(fopen)); }
FILE *fopen64(const char *path, const char *mode) { return stream(path, mode, NEXT(fopen64)); }

ssize_t write(int fd, const void *data, size_t size) {
    switch (of_fd(WRITE, fd, size)) {
        case FAIL: return -1;
        case HALF: return syscall(SYS_write, fd, data, size / 2);
        case HALF_AND_KILL: syscall(SYS_write, fd, data, size / 2); kill_now();
        default: return syscall(SYS_write, fd, data, size);
    }
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    switch (of_fd(WRITE, fd, size)) {
        case FAIL: return -1;
        case HALF: return syscall(SYS_pwrite64, fd, data, size / 2, offset);
        case HALF_AND_KILL: syscall(SYS_pwrite64, fd, data, size / 2, offset); kill_now();
        default: return syscall(SYS_pwrite64, fd, data, size, offset);
    }
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }
ssize_t writev(int fd, const struct iovec *parts, int count) {
    switch (of_fd(WRITE, fd, 2)) {
        case FAIL: return -1;
        case HALF: return syscall(SYS_writev, fd, parts, 1);
        case HALF_AND_KILL: syscall(SYS_writev, fd, parts, 1); kill_now();
        default: return syscall(SYS_writev, fd, parts, count);
    }
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
    switch (of_fd(WRITE, to, size)) {
        case FAIL: return -1;
        case HALF: return syscall(SYS_sendfile, to, from, offset, size / 2);
        case HALF_AND_KILL: kill_now();
        default: return syscall(SYS_sendfile, to, from, offset, size);
    }
}
ssize_t sendfile(int to, int from, off_t *offset, size_t size) { return sendfile64(to, from, offset, size); }
ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *place, size_t size, unsigned flags) {
    switch (of_fd(WRITE, to, size)) {
        case FAIL: return -1;
        case HALF_AND_KILL: kill_now();
        default: return syscall(SYS_copy_file_range, from, start, to, place, size, flags);
    }
}

int rename(const char *from, const char *to) {
    STOP_IF(of_path(RENAME, AT_FDCWD, to));
    return (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}
int renameat(int folder, const char *from, int other, const char *to) {
    STOP_IF(of_path(RENAME, other, to));
    return (int)syscall(SYS_renameat, folder, from, other, to);
}
int renameat2(int folder, const char *from, int other, const char *to, unsigned flags) {
    STOP_IF(of_path(RENAME, other, to));
    return (int)syscall(SYS_renameat2, folder, from, other, to, flags);
}
int unlink(const char *path) {
    STOP_IF(of_path(UNLINK, AT_FDCWD, path));
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
int unlinkat(int folder, const char *path, int flags) {
    STOP_IF(of_path(flags & AT_REMOVEDIR ? RMDIR : UNLINK, folder, path));
    return (int)syscall(SYS_unlinkat, folder, path, flags);
}
int rmdir(const char *path) {
    STOP_IF(of_path(RMDIR, AT_FDCWD, path));
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}
int mkdir(const char *path, mode_t mode) {
    STOP_IF(of_path(MKDIR, AT_FDCWD, path));
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    STOP_IF(of_path(MKDIR, folder, path));
    return (int)syscall(SYS_mkdirat, folder, path, mode);
}
int link(const char *from, const char *to) {
    STOP_IF(of_path(LINK, AT_FDCWD, to));
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int folder, const char *from, int other, const char *to, int flags) {
    STOP_IF(of_path(LINK, other, to));
    return (int)syscall(SYS_linkat, folder, from, other, to, flags);
}
int symlink(const char *target, const char *path) {
    STOP_IF(of_path(LINK, AT_FDCWD, path));
    return (int)syscall(SYS_symlinkat, target, AT_FDCWD, path);
}
int symlinkat(const char *target, int folder, const char *path) {
    STOP_IF(of_path(LINK, folder, path));
    return (int)syscall(SYS_symlinkat, target, folder, path);
}
int ftruncate64(int fd, off64_t size) {
    STOP_IF(of_fd(TRUNCATE, fd, 0));
    return (int)syscall(SYS_ftruncate, fd, size);
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int truncate64(const char *path, off64_t size) {
    STOP_IF(of_path(TRUNCATE, AT_FDCWD, path));
    return (int)syscall(SYS_truncate, path, size);
}
int truncate(const char *path, off_t size) { return truncate64(path, size); }
int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    if (of_fd(WRITE, fd, 0) == FAIL) return control->error;
    return syscall(SYS_fallocate, fd, 0, offset, size) ? errno : 0;
}
int posix_fallocate(int fd, off_t offset, off_t size) { return posix_fallocate64(fd, offset, size); }
int fsync(int fd) {
    STOP_IF(of_fd(SYNC, fd, 0));
    return (int)syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
    STOP_IF(of_fd(SYNC, fd, 0));
    return (int)syscall(SYS_fdatasync, fd);
}
void *mmap64(void *at, size_t size, int rights, int flags, int fd, off64_t offset) {
    if (fd >= 0 && flags & MAP_SHARED && rights & PROT_WRITE && of_fd(MAP, fd, 0) == FAIL) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, size, rights, flags, fd, offset);
}
void *mmap(void *at, size_t size, int rights, int flags, int fd, off_t offset) {
    return mmap64(at, size, rights, flags, fd, offset);
}
