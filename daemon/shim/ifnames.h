/* ifnames.h - interfaces that a job's own variables name, and whether this node has them
 *
 * NCCL_SOCKET_IFNAME is a list of beginnings of names, "=" before it: of whole names,
 * "^" before it: of those to leave out (ncclFindInterfaces). GLOO_ and TP_SOCKET_IFNAME are lists of whole names.
 */
#ifndef NA_SHIM_IFNAMES_H
#define NA_SHIM_IFNAMES_H

#include <stdbool.h>
#include <stddef.h>

struct ifname_here {
	const char *name;
	bool loopback;
};

/* What is wrong with the first of these variables that is set, a sentence into out
 * (as much as has room); false: nothing. 'env' ends with NULL. Other nodes have to
 * reach the interface if there are any. */
bool ifnames_judge(const char *const *env, const struct ifname_here *v, size_t n, bool other_nodes, char *out, size_t size);
/* The same, with the interfaces of this host that have an address. */
bool ifnames_judge_here(const char *const *env, bool other_nodes, char *out, size_t size);

#endif
