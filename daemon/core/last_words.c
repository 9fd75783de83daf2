/* last_words.c - see last_words.h */
#include "core/last_words.h"

#include <stdio.h>
#include <string.h>

#include "common/utf8.h"

#define SHELL_SIGNAL 128 /* a shell's exit code of a program that a signal has killed is this and the signal */
#define SIGNALS 64

static const struct {
	uint32_t number;
	const char *name;
	bool own; /* brought about by the process itself */
} signals[] = {
	{ 1, "SIGHUP", false }, { 2, "SIGINT", false }, { 3, "SIGQUIT", false }, { 4, "SIGILL", true }, { 6, "SIGABRT", true },
	{ 7, "SIGBUS", true }, { 8, "SIGFPE", true }, { 9, "SIGKILL", false }, { 11, "SIGSEGV", true }, { 13, "SIGPIPE", false },
	{ 15, "SIGTERM", false }, { 24, "SIGXCPU", false }, { 25, "SIGXFSZ", false },
};
#define N_SIGNALS (sizeof(signals) / sizeof(signals[0]))

const char *last_words_signal(uint32_t sig)
{
	for (size_t i = 0; i < N_SIGNALS; i++)
		if (signals[i].number == sig && signals[i].own)
			return signals[i].name;
	return NULL;
}

bool last_words_code(uint32_t code, char *out, size_t size)
{
	out[0] = '\0';
	if (code == 126)
		snprintf(out, size, "as a shell says when it may not run its program");
	else if (code == 127)
		snprintf(out, size, "as a shell says when it does not find its program");
	for (size_t i = 0; i < N_SIGNALS && out[0] == '\0'; i++)
		if (code == SHELL_SIGNAL + signals[i].number)
			snprintf(out, size, "as a shell says when its program was killed by signal %u (%s)", signals[i].number, signals[i].name);
	return out[0] != '\0';
}

/* ---- what to do ------------------------------------------------------------------------ */

/* The first that is found counts. NODE stands for the node's name. */
static const struct {
	const char *words; /* "a|b": one of them */
	const char *fix;
} known[] = {
	{ "Bus error|bus error|signal 7 |shared memory segment /dev/shm|shared memory object",
	  "/dev/shm of NODE was full, most likely (df -h /dev/shm): rm stale /dev/shm/torch_* and nccl-* there, make it larger "
	  "(mount -o remount,size=50% /dev/shm; in a container --shm-size), or use fewer workers of data loaders" },
	{ "CUDA out of memory|CUDA error: out of memory|Cuda failure 2 |Cuda failure 'out of memory'",
	  "use smaller batches or sequences, gradient checkpointing or ZeRO-3; nodectl gpus tells whether somebody else has memory on NODE's GPUs" },
	{ "uncorrectable ECC error|ECC error encountered",
	  "memory of a GPU of NODE is bad: nodectl check gpu. -w NODE; reset that GPU or reboot, and launch elsewhere meanwhile" },
	{ "system not yet initialized|Cuda failure 802|error 802",
	  "the NVLink fabric of NODE is not ready: systemctl restart nvidia-fabricmanager there (of the driver's very version), and "
	  "nodectl check gpu. -w NODE" },
	{ "driver on your system is too old|driver version is insufficient",
	  "this build of CUDA wants a newer NVIDIA driver than NODE has (nodectl check gpu.driver -v -w NODE): update that, or install a torch "
	  "of an older CUDA" },
	{ "no kernel image is available",
	  "this torch, or an extension, was not built for the GPU of NODE: install one that was (torch.cuda.get_arch_list() tells)" },
	{ "invalid device ordinal",
	  "the program chose a GPU that it was not given: take that of LOCAL_RANK, and leave CUDA_VISIBLE_DEVICES to nodeagent" },
	{ "busy or unavailable",
	  "a GPU of NODE may be in exclusive or prohibited mode (nvidia-smi -q -d COMPUTE), or another process has it: nodectl gpus" },
	{ "illegal memory access|unspecified launch failure|device-side assert|misaligned address",
	  "launch once with --env CUDA_LAUNCH_BLOCKING=1 to see which call it is; where it is always the same GPU: nodectl check gpu. -w NODE" },
	{ "Disk quota exceeded", "the user's quota is used up where it writes: quota -s (or lfs quota) on NODE; delete old checkpoints" },
	{ "No space left on device", "a file system of NODE is full: nodectl check node.disk -v -w NODE, nodectl check node.shm -v -w NODE" },
	{ "Read-only file system", "a file system of NODE is mounted read-only, after an error perhaps: dmesg and findmnt -O ro there" },
	{ "Stale file handle|Input/output error|Transport endpoint is not connected",
	  "a file system of NODE is broken or has lost its server: dmesg there, nodectl check node. -v -w NODE" },
	{ "Too many open files", "raise the soft limit in the job (ulimit -n), or on NODE the hard one: LimitNOFILE= of nodeagent-launcher.service, which "
	  "starts jobs there, or of what started nodeagentd where there is none" },
	{ "unable to lock file", "another process has that file open, or its file system on NODE has no locks: open it once only, or --env HDF5_USE_FILE_LOCKING=FALSE" },
	{ "can't start new thread|pthread_create failed|Thread creation failed|Resource temporarily unavailable|Cannot fork|fork: retry",
	  "of threads and processes it is a limit: set OMP_NUM_THREADS, or on NODE raise LimitNPROC= of nodeagent-launcher.service (of what started "
	  "nodeagentd where there is none); see ulimit -u in the job" },
	{ "ddress already in use|EADDRINUSE", "another process of NODE has that port (ss -ltnp there): end it, or leave the choice of ports to nodeagent" },
	{ "`GLIBC_|`GLIBCXX_|`CXXABI_|GLIBC_2.",
	  "the program was built for a newer system than NODE's: use the environment's own libraries (conda install libstdcxx-ng), or a container" },
	{ "No module named|cannot open shared object file|ImportError: ",
	  "the environment of NODE lacks something that others may have: compare (pip list, ldd), and see that it is mounted there" },
	{ "command not found|can't open file|No such file or directory|does not find its program",
	  "see that the path is there on NODE as on the other nodes: a file system that is not mounted, or an environment that is not active" },
	{ "Permission denied (publickey", "it logs in to another node by ssh: in a job let each node start its own ranks (nodectl launch -N), without a host file" },
	{ "Permission denied", "look at the path's owner and rights on NODE as the job's user (namei -l PATH): uid or groups may differ between nodes" },
	{ "EOF when reading a line", "it asked a question, and nobody answers in a job: give the answer by an option of the program" },
	{ "gai error: ", "NODE does not know the name of rank 0's node: leave MASTER_ADDR to nodeagent, or see that the name is known there (getent hosts NAME)" },
	{ "couldn't connect to 'https|Failed to resolve|Temporary failure in name resolution|Max retries exceeded with url|urlopen error",
	  "NODE has no way to the internet: download models and data before, and set HF_HUB_OFFLINE=1, or a proxy (--env https_proxy=...)" },
	{ "Network is unreachable|No route to host",
	  "NODE has no way to that address (ip route get ADDRESS there), or a firewall refuses it: of another node see NCCL_SOCKET_IFNAME; of the internet "
	  "download models and data before" },
	{ "Mismatched collective|Detected mismatch between collectives",
	  "ranks called different collectives: their programs or data differ; launch once with --env TORCH_DISTRIBUTED_DEBUG=DETAIL" },
	{ "killed by signal 9 (SIGKILL)", "the kernel's OOM killer may have done it: nodectl check node.kmsg.oom -w NODE, nodectl check node.mem -v -w NODE" },
};

static bool has_one(const char *text, const char *words)
{
	char word[64];

	for (const char *p = words; *p != '\0'; p += strcspn(p, "|"), p += *p == '|') {
		snprintf(word, sizeof(word), "%.*s", (int)strcspn(p, "|"), p);
		if (strstr(text, word) != NULL)
			return true;
	}
	return false;
}

bool last_words_of_peer(const char *text)
{
	return has_one(text, "Watchdog caught|watchdog thread|DistBackendError|DistNetworkError|DistStoreError|Connection closed by peer|"
			     "Connection reset by peer|communicator was aborted|remote process exited|Socket Timeout|failed to recv, got 0|gloo/transport");
}

static const char *with_node(struct arena *a, const char *fix, const char *node)
{
	char out[512];
	size_t n = 0;

	for (const char *p = fix; *p != '\0' && n < sizeof(out) - 1;) {
		if (strncmp(p, "NODE", 4) != 0) {
			out[n++] = *p++;
			continue;
		}
		snprintf(out + n, sizeof(out) - n, "%s", node);
		n += strlen(out + n);
		p += 4;
	}
	out[n] = '\0';
	return arena_strdup(a, utf8_scrub(out));
}

const char *last_words_fix(struct arena *a, const char *text, const char *node)
{
	for (size_t i = 0; text != NULL && i < sizeof(known) / sizeof(known[0]); i++)
		if (has_one(text, known[i].words))
			return with_node(a, known[i].fix, node != NULL ? node : "its node");
	return NULL;
}
