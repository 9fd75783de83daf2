/* failcall.c - a library to preload: makes chosen system calls of chosen programs fail
 *
 * FAILCALL_DIR names a directory. A program that plays the role X (coordinator,
 * agent, shim, launcher, probe, nodectl) maps DIR/X when it is there and looks
 * into it at every call: the test writes there what is to fail (struct order),
 * at any time, and reads how often it was met. The count is shared by all
 * processes of the role, so one that was started again goes on where the last
 * one ended. tests/system/failcall.py is the other side.
 *
 * With FAILCALL_MALLOC (libfailmalloc.so) malloc, calloc and realloc fail too; it
 * cannot be loaded into what is sanitised.
 *
 * Calls inside the C library itself (fopen's open) are not seen, so fopen and
 * opendir count as open. vfork is the machine's own: x86-64 only.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum call { C_NONE, C_OPEN, C_WRITE, C_FSYNC, C_FORK, C_ACCEPT, C_SOCKETPAIR, C_PIPE, C_SOCKET, C_NAME, C_READ, C_DUP,
	    C_MALLOC };

/* What the file holds: 4-byte integers in this order. */
struct order {
	_Atomic uint32_t call; /* enum call; none: nothing fails */
	_Atomic int32_t error;
	_Atomic uint32_t first, count; /* those from 'first' on (0: the next one), so many */
	_Atomic uint32_t seen, failed;
	_Atomic uint32_t loaded; /* processes that have looked */
	_Atomic uint32_t looks; /* opens of /proc/PID: the first few of an order count, there are hundreds */
	char last[100]; /* what failed last */
};

static struct order *order;

static const char *role(const char *cmdline, size_t n)
{
	const char *program = strrchr(cmdline, '/');

	program = program != NULL ? program + 1 : cmdline;
	if (strcmp(program, "nodeagentd") == 0) {
		if (memmem(cmdline, n, "--coordinator", 13) != NULL)
			return "coordinator";
		return memmem(cmdline, n, "--agent", 7) != NULL ? "agent" : NULL;
	}
	return strncmp(program, "nodeagent-", 10) == 0 ? program + 10 :
	       strcmp(program, "nodectl") == 0	       ? program : NULL;
}

#define REAL(f) ((__typeof__(&f))(uintptr_t)dlsym(RTLD_NEXT, #f))

static __attribute__((constructor)) void begin(void)
{
	const char *dir = getenv("FAILCALL_DIR"), *name;
	char cmdline[4096] = "", path[4200];
	int fd = REAL(open)("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, cmdline, sizeof(cmdline) - 1);
	void *p;

	if (fd >= 0)
		close(fd);
	/* a shim is called by its name, without a path */
	name = n > 0 ? role(cmdline, (size_t)n) : NULL;
	if (dir == NULL || name == NULL)
		return;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	p = mmap(NULL, sizeof(struct order), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return;
	order = p;
	atomic_fetch_add(&order->loaded, 1);
}

static bool fails(enum call call, const char *what)
{
	uint32_t n;

	if (order == NULL || atomic_load(&order->call) != call)
		return false;
	n = atomic_fetch_add(&order->seen, 1);
	if (n < order->first || n - order->first >= order->count)
		return false;
	atomic_fetch_add(&order->failed, 1);
	for (size_t i = 0; i < sizeof(order->last) - 1; i++) /* no library call: it may be a child of vfork */
		if ((order->last[i] = what[i]) == '\0')
			break;
	errno = order->error;
	return true;
}

/* ENOSPC and EIO come from disks, the others from sockets. Never from what wakes threads or guards a signal handler
 * (libuv's eventfds and pipes): an eventfd says EAGAIN only when it is full, and a blocking pipe never. */
static bool fails_on(enum call call, int fd, const char *what)
{
	struct stat st;
	int kept = errno, error;
	bool disk;

	if (order == NULL || atomic_load(&order->call) != call)
		return false;
	error = order->error;
	disk = error == ENOSPC || error == EIO;
	if (fstat(fd, &st) != 0)
		st.st_mode = 0;
	errno = kept;
	if (disk ? !S_ISREG(st.st_mode) : !S_ISSOCK(st.st_mode))
		return false;
	return fails(call, what);
}

/* ---- names -> descriptors ------------------------------------------------ */

static mode_t mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

#define LOOKS 4

/* A disk can be full for new files only. */
static bool open_fails(const char *path, int flags)
{
	if (order != NULL && order->call == C_OPEN && strncmp(path, "/proc/", 6) == 0 && path[6] >= '0' && path[6] <= '9' &&
	    atomic_fetch_add(&order->looks, 1) >= LOOKS)
		return false;
	if (order != NULL && order->error == ENOSPC && !(flags & O_CREAT))
		return false;
	return fails(C_OPEN, path);
}

#define OPEN(name)                                        \
	int name(const char *path, int flags, ...)        \
	{                                                 \
		va_list ap;                               \
		mode_t mode;                              \
                                                          \
		va_start(ap, flags);                      \
		mode = mode_of(flags, ap);                \
		va_end(ap);                               \
		if (open_fails(path, flags))              \
			return -1;                        \
		return REAL(name)(path, flags, mode);     \
	}
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                           \
	int name(int dir, const char *path, int flags, ...)    \
	{                                                      \
		va_list ap;                                    \
		mode_t mode;                                   \
                                                               \
		va_start(ap, flags);                           \
		mode = mode_of(flags, ap);                     \
		va_end(ap);                                    \
		if (open_fails(path, flags))                   \
			return -1;                             \
		return REAL(name)(dir, path, flags, mode);     \
	}
OPENAT(openat)
OPENAT(openat64)

/* what _FORTIFY_SOURCE makes of openat without a mode */
int __openat_2(int dir, const char *path, int flags);
int __openat_2(int dir, const char *path, int flags)
{
	return open_fails(path, flags) ? -1 : REAL(openat)(dir, path, flags);
}
int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags)
{
	return open_fails(path, flags) ? -1 : REAL(open64)(path, flags);
}

FILE *fopen(const char *path, const char *mode)
{
	return open_fails(path, *mode == 'r' ? 0 : O_CREAT) ? NULL : REAL(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	return open_fails(path, *mode == 'r' ? 0 : O_CREAT) ? NULL : REAL(fopen64)(path, mode);
}

DIR *opendir(const char *path)
{
	return open_fails(path, 0) ? NULL : REAL(opendir)(path);
}

/* ---- data ---------------------------------------------------------------- */

ssize_t write(int fd, const void *p, size_t n)
{
	return fails_on(C_WRITE, fd, "write") ? -1 : REAL(write)(fd, p, n);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	return fails_on(C_WRITE, fd, "writev") ? -1 : REAL(writev)(fd, v, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	return fails_on(C_WRITE, fd, "pwrite") ? -1 : REAL(pwrite)(fd, p, n, at);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	return fails_on(C_WRITE, fd, "pwrite64") ? -1 : REAL(pwrite64)(fd, p, n, at);
}

ssize_t read(int fd, void *p, size_t n)
{
	return fails_on(C_READ, fd, "read") ? -1 : REAL(read)(fd, p, n);
}

int fsync(int fd)
{
	return fails(C_FSYNC, "fsync") ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	return fails(C_FSYNC, "fdatasync") ? -1 : REAL(fdatasync)(fd);
}

/* ---- processes ------------------------------------------------------------ */

pid_t fork(void)
{
	return fails(C_FORK, "fork") ? -1 : REAL(fork)();
}

int clone(int (*f)(void *), void *stack, int flags, void *arg, ...)
{
	return fails(C_FORK, "clone") ? -1 : REAL(clone)(f, stack, flags, arg);
}

#if defined(__x86_64__)
/* The child returns through our caller's frame, so the real one must be jumped to. */
int failcall_vfork(void);
extern void *failcall_real_vfork;
void *failcall_real_vfork;

int failcall_vfork(void)
{
	failcall_real_vfork = dlsym(RTLD_NEXT, "vfork");
	return fails(C_FORK, "vfork");
}

__asm__(".text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	"vfork:\n"
	"	subq $8, %rsp\n"
	"	call failcall_vfork@PLT\n"
	"	addq $8, %rsp\n"
	"	testl %eax, %eax\n"
	"	jne 1f\n"
	"	movq failcall_real_vfork@GOTPCREL(%rip), %rax\n"
	"	jmp *(%rax)\n"
	"1:	movl $-1, %eax\n"
	"	ret\n"
	".size vfork, .-vfork\n");
#endif

/* ---- sockets, pipes, names -------------------------------------------------- */

int accept(int fd, struct sockaddr *a, socklen_t *n)
{
	return fails(C_ACCEPT, "accept") ? -1 : REAL(accept)(fd, a, n);
}

int accept4(int fd, struct sockaddr *a, socklen_t *n, int flags)
{
	return fails(C_ACCEPT, "accept4") ? -1 : REAL(accept4)(fd, a, n, flags);
}

int socketpair(int domain, int type, int protocol, int fds[2])
{
	return fails(C_SOCKETPAIR, "socketpair") ? -1 : REAL(socketpair)(domain, type, protocol, fds);
}

int socket(int domain, int type, int protocol)
{
	return fails(C_SOCKET, "socket") ? -1 : REAL(socket)(domain, type, protocol);
}

int pipe(int fds[2])
{
	return fails(C_PIPE, "pipe") ? -1 : REAL(pipe)(fds);
}

int pipe2(int fds[2], int flags)
{
	return fails(C_PIPE, "pipe2") ? -1 : REAL(pipe2)(fds, flags);
}

int dup2(int from, int to)
{
	return fails(C_DUP, "dup2") ? -1 : REAL(dup2)(from, to);
}

static int fcntl_with(int (*real)(int, int, ...), int fd, int cmd, void *arg)
{
	if ((cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && fails(C_DUP, "fcntl F_DUPFD"))
		return -1;
	return real(fd, cmd, arg);
}

#define FCNTL(name)                                           \
	int name(int fd, int cmd, ...)                        \
	{                                                     \
		va_list ap;                                   \
		void *arg;                                    \
                                                              \
		va_start(ap, cmd);                            \
		arg = va_arg(ap, void *);                     \
		va_end(ap);                                   \
		return fcntl_with(REAL(name), fd, cmd, arg);  \
	}
FCNTL(fcntl)
FCNTL(fcntl64)

int mkdir(const char *path, mode_t mode)
{
	return fails(C_NAME, path) ? -1 : REAL(mkdir)(path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	return fails(C_NAME, path) ? -1 : REAL(mkdirat)(dir, path, mode);
}

int linkat(int d1, const char *p1, int d2, const char *p2, int flags)
{
	return fails(C_NAME, p2) ? -1 : REAL(linkat)(d1, p1, d2, p2, flags);
}

int rename(const char *from, const char *to)
{
	return fails(C_NAME, to) ? -1 : REAL(rename)(from, to);
}

int renameat(int d1, const char *from, int d2, const char *to)
{
	return fails(C_NAME, to) ? -1 : REAL(renameat)(d1, from, d2, to);
}

#ifdef FAILCALL_MALLOC
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static bool no_memory(void)
{
	return order != NULL && atomic_load(&order->call) == C_MALLOC && fails(C_MALLOC, "malloc");
}

void *malloc(size_t n)
{
	return no_memory() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return no_memory() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return no_memory() ? NULL : __libc_realloc(p, n);
}
#endif
