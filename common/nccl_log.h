/* nccl_log.h - what NCCL says of itself in its log, line by line
 *
 * Reads what NCCL_DEBUG=INFO with the subsystems INIT, BOOTSTRAP, ENV and NET
 * prints, of NCCL 2.8 to 2.30; the spacing around colons, timestamps and source
 * places before the words have changed between versions, so only the words are
 * matched. Lines that are not NCCL's are passed over. Pure; texts are cut to
 * their arrays and hold printable ASCII only ('?' for the rest).
 *
 * A rank may have several communicators: numbers are of all of them, the
 * network is that of the last one that said so.
 */
#ifndef NA_COMMON_NCCL_LOG_H
#define NA_COMMON_NCCL_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NCCL_LOG_TEXT 256
#define NCCL_LOG_HCAS 32

enum nccl_trouble {
	NCCL_FINE,
	NCCL_COMPLETION, /* a peer stopped acknowledging, or the link failed: IBV_WC_ status in 'number' */
	NCCL_MODIFY_QP, /* no path to the peer: errno in 'number' */
	NCCL_ASYNC_EVENT, /* the device or port told of an error */
	NCCL_MEMLOCK, /* memory cannot be registered */
	NCCL_VERSIONS, /* ranks have different NCCLs */
	NCCL_DUPLICATE_GPU,
	NCCL_PEER_GONE, /* a socket closed: another rank ended first */
	NCCL_NO_NET, /* the network that was asked for cannot be had */
	NCCL_CUDA, /* a CUDA call failed */
	NCCL_OTHER, /* any other warning */
};

struct nccl_log {
	char version[24]; /* "2.28.9"; "": not said */
	char bootstrap[64]; /* "eth0:10.0.0.1": where ranks meet */
	char net[33]; /* "IB", "Socket", or a plug-in's name; "": not decided */
	char socket_if[64]; /* interface of NET/Socket */
	char hcas[NCCL_LOG_HCAS][40]; /* "mlx5_0:1" of NET/IB, in its order */
	uint32_t n_hcas;
	bool roce; /* some of these are Ethernet */
	bool no_ib_device; /* "NET/IB : No device found" */
	bool ib_disabled; /* NCCL_IB_DISABLE was set, as NCCL read it */
	bool net_asked; /* NCCL_NET was set, as NCCL read it */
	char net_wanted[33]; /* ... to this */
	char ib_hca[128]; /* NCCL_IB_HCA, as NCCL read it; "": not set */
	char ib_why[NCCL_LOG_TEXT]; /* why InfiniBand could not be used: a device or library that cannot be opened */
	uint32_t p2p, shm, sends_net, gdr; /* channels: NVLink or PCIe between GPUs, shared memory, network; of these with GPUDirect */
	uint32_t inits, inits_done; /* communicators begun, and ready */
	enum nccl_trouble trouble; /* the first one that is a cause, else the first one */
	int number; /* of the trouble */
	char dev[40]; /* "mlx5_0" of the trouble */
	char peer[64]; /* address of the peer, without port */
	char text[NCCL_LOG_TEXT]; /* the line's words */
};

/* One line, without its newline; true when it told something. */
bool nccl_log_line(struct nccl_log *l, const char *line, size_t len);
/* The pid in front of a line of NCCL's ("host:PID:TID [DEV] NCCL INFO ..."), of its own
 * namespace; 0: none. */
uint32_t nccl_log_pid(const char *line, size_t len);
/* "completion" and so on, for programs; NULL of NCCL_FINE. */
const char *nccl_trouble_name(enum nccl_trouble t);
enum nccl_trouble nccl_trouble_of(const char *name); /* NCCL_OTHER: no such name */
/* The words of a trouble: "a peer stopped answering". */
const char *nccl_trouble_text(enum nccl_trouble t);

#endif
