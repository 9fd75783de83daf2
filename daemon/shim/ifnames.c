/* ifnames.c - see ifnames.h */
#include "shim/ifnames.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define HERE_MAX 256

static const char *value_of(const char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; env[i] != NULL; i++)
		if (strncmp(env[i], name, n) == 0 && env[i][n] == '=')
			return env[i] + n + 1;
	return NULL;
}

/* Is it one of the list's, or does it begin like one? "eth0:0" means eth0: a port may follow. */
static bool listed(const char *list, const char *name, bool whole)
{
	for (const char *p = list; *p != '\0';) {
		size_t len = strcspn(p, ","), bare = strcspn(p, ",:");

		if (bare > 0 && strncmp(name, p, bare) == 0 && (!whole || name[bare] == '\0'))
			return true;
		p += len;
		p += *p == ',';
	}
	return false;
}

/* How many are named, and whether all of them are loopback. */
static size_t count(const char *value, bool nccl, const struct ifname_here *v, size_t n, bool *ret_loopback)
{
	bool not = nccl && *value == '^', whole = !nccl || *value == '=' || (not && value[1] == '=');
	size_t found = 0;

	if (nccl)
		value += strspn(value, "^=");
	*ret_loopback = true;
	for (size_t i = 0; i < n; i++) {
		if (listed(value, v[i].name, whole) == not)
			continue;
		found++;
		*ret_loopback = *ret_loopback && v[i].loopback;
	}
	return found;
}

bool ifnames_judge(const char *const *env, const struct ifname_here *v, size_t n, bool other_nodes, char *out, size_t size)
{
	static const char *const names[] = { "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = value_of(env, names[i]);
		bool loopback;
		size_t found;

		if (value == NULL || *value == '\0')
			continue;
		found = count(value, i == 0, v, n, &loopback);
		if (found == 0)
			snprintf(out, size, "%s=%.100s, which the job sets, names no interface that it has: %s cannot connect", names[i],
				 value, i == 0 ? "NCCL" : "its ranks");
		else if (loopback && other_nodes)
			snprintf(out, size, "%s=%.100s, which the job sets, is the loopback interface: other nodes cannot reach it", names[i],
				 value);
		else
			continue;
		return true;
	}
	return false;
}

static bool is_new(const struct ifname_here *v, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i].name, name) == 0)
			return false;
	return true;
}

bool ifnames_judge_here(const char *const *env, bool other_nodes, char *out, size_t size)
{
	struct ifname_here v[HERE_MAX];
	struct ifaddrs *all;
	size_t n = 0;
	bool said;

	if (getifaddrs(&all) < 0)
		return false; /* nobody knows */
	for (const struct ifaddrs *p = all; p != NULL && n < HERE_MAX; p = p->ifa_next)
		if (p->ifa_addr != NULL && (p->ifa_addr->sa_family == AF_INET || p->ifa_addr->sa_family == AF_INET6) &&
		    is_new(v, n, p->ifa_name))
			v[n++] = (struct ifname_here){ p->ifa_name, (p->ifa_flags & IFF_LOOPBACK) != 0 };
	said = n < HERE_MAX && ifnames_judge(env, v, n, other_nodes, out, size);
	freeifaddrs(all);
	return said;
}
