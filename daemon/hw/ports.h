/* ports.h - rows of RDMA ports, kept from poll to poll by whoever reads them
 *
 * A row remembers what changes seldom (firmware, PCI address), which files
 * failed and when to try them again, and when its state last changed.
 */
#ifndef NA_HW_PORTS_H
#define NA_HW_PORTS_H

#include "hw/counters.h"
#include "hw/hw.h"
#include "hw/sysfs.h"

#define PORT_SLOW_MS 30000 /* what changes seldom is read again after this */
#define PORT_PKEYS_MS 300000 /* all entries of a table, 128 of them with most adapters: one in five of all files read, else */
#define PORT_SOON_MS 3500 /* of that, what a fault shows in: its keys, its RoCE address */
#define PORT_LOSSES_MAX 16
#define PORT_LOSSES_MS 3600000
#define PORT_RETRY_MAX_MS 60000

/* Reading a restricted function (switch management on HGX boards) makes the
 * driver complain in the kernel log, so what fails is asked less and less. */
struct port_backoff {
	int error; /* -errno of the last try, 0: fine */
	unsigned fails;
	mono_t retry;
};

enum port_ask {
	ASK_STATE,
	ASK_PHYS,
	ASK_RATE,
	ASK_LID,
	ASK_SM_LID,
	ASK_VERBS,
	ASK_COUNT,
};

struct port_row {
	struct hw_port p;
	struct port_backoff asks[ASK_COUNT];
	const char *last_state; /* the last one known */
	mono_t slow_due, soon_due, pkeys_due;
	uint32_t pkeys_used; /* entries up to the last one in use */
	struct port_counters counters;
	mono_t lost[PORT_LOSSES_MAX]; /* when it ceased to be Active, the last ones */
	unsigned n_lost;
	bool present;
};

struct ports {
	struct port_row *rows;
	size_t n, cap;
	bool began; /* one poll is over */
	bool full; /* more than HW_PORTS_MAX */
};

/* Around one poll: rows that no port_row() asked for in between are dropped. */
void ports_begin(struct ports *ps);
void ports_end(struct ports *ps);
void ports_finish(struct ports *ps);
/* The row of a port, made if need be; what one poll says (all but what changes
 * seldom) is cleared. NULL: no memory or too many. */
struct port_row *port_row(struct ports *ps, const char *device, uint32_t port);
/* Whether what failed may be tried; if not, the row's text says why it failed. */
bool port_may_ask(struct port_row *row, enum port_ask what, mono_t now);
/* The outcome of a try: 0 or -errno, which becomes part of the row's text. */
void port_asked(struct port_row *row, enum port_ask what, int error, mono_t now);
/* To be called when p.state has been filled in. */
void port_state_known(struct port_row *row);
/* Copies the rows, in their order, into readings. -ENOMEM. */
int ports_publish(const struct ports *ps, struct hw_readings *ret);

#endif
