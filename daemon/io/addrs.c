/* addrs.c - which addresses this host has, in the order others should try them
 *
 * Link-local IPv6 is left out: it means nothing without an interface number.
 * Cannot know which address others reach; that is proved while preparing.
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "io/agent_io.h"

static bool text_of(const struct sockaddr *sa, char out[46])
{
	const void *p;

	if (sa->sa_family == AF_INET)
		p = &((const struct sockaddr_in *)(const void *)sa)->sin_addr;
	else if (sa->sa_family == AF_INET6)
		p = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	else
		return false;
	return inet_ntop(sa->sa_family, p, out, 46) != NULL;
}

static bool usable(const struct ifaddrs *i)
{
	const struct sockaddr_in6 *s6 = (const void *)i->ifa_addr;

	if (i->ifa_addr == NULL || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
		return false;
	if (i->ifa_addr->sa_family == AF_INET6)
		return !IN6_IS_ADDR_LINKLOCAL(&s6->sin6_addr);
	return i->ifa_addr->sa_family == AF_INET;
}

static void add(struct addr_text *out, size_t *n, const char *ip, const char *ifname)
{
	for (size_t i = 0; i < *n; i++)
		if (strcmp(out[i].ip, ip) == 0)
			return;
	if (*n == ADDRS_MAX)
		return;
	snprintf(out[*n].ip, sizeof(out[*n].ip), "%s", ip);
	snprintf(out[*n].ifname, sizeof(out[*n].ifname), "%s", ifname);
	(*n)++;
}

void addrs_ifname(const char *ip, char out[33])
{
	struct ifaddrs *all, *i;
	char text[46];

	out[0] = 0;
	if (getifaddrs(&all) != 0)
		return;
	for (i = all; i != NULL && out[0] == 0; i = i->ifa_next)
		if (i->ifa_addr != NULL && text_of(i->ifa_addr, text) && strcmp(text, ip) == 0)
			snprintf(out, 33, "%s", i->ifa_name);
	freeifaddrs(all);
}

uint32_t addrs_mtu(const char *ifname)
{
	struct ifreq r = { 0 };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool known;

	if (s < 0)
		return 0;
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%.*s", (int)sizeof(r.ifr_name) - 1, ifname);
	known = ioctl(s, SIOCGIFMTU, &r) == 0 && r.ifr_mtu > 0;
	close(s);
	return known ? (uint32_t)r.ifr_mtu : 0;
}

size_t addrs_list(const char *first, struct addr_text out[ADDRS_MAX])
{
	static const int families[] = { AF_INET, AF_INET6 };
	struct ifaddrs *all, *i;
	char text[46], ifname[33];
	size_t n = 0;

	if (first[0] != 0) {
		addrs_ifname(first, ifname);
		add(out, &n, first, ifname);
	}
	if (strncmp(first, "127.", 4) == 0 || strcmp(first, "::1") == 0)
		add(out, &n, "127.0.0.1", "lo");
	if (getifaddrs(&all) != 0)
		return n;
	for (size_t f = 0; f < 2; f++)
		for (i = all; i != NULL; i = i->ifa_next)
			if (usable(i) && i->ifa_addr->sa_family == families[f] &&
			    text_of(i->ifa_addr, text))
				add(out, &n, text, i->ifa_name);
	freeifaddrs(all);
	return n;
}
