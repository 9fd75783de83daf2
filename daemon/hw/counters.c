/* counters.c - see counters.h */
#include "hw/counters.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "hw/port_text.h"

static const struct {
	const char *path;
	unsigned bits;
} files[CNT_COUNT] = {
	[CNT_SYMBOL_ERROR] = { "counters/symbol_error", 16 },
	[CNT_LINK_ERROR_RECOVERY] = { "counters/link_error_recovery", 8 },
	[CNT_LINK_DOWNED] = { "counters/link_downed", 8 },
	[CNT_RCV_ERRORS] = { "counters/port_rcv_errors", 16 },
	[CNT_RCV_REMOTE] = { "counters/port_rcv_remote_physical_errors", 16 },
	[CNT_XMIT_DISCARDS] = { "counters/port_xmit_discards", 16 },
	[CNT_LOCAL_INTEGRITY] = { "counters/local_link_integrity_errors", 4 },
	[CNT_BUFFER_OVERRUN] = { "counters/excessive_buffer_overrun_errors", 4 },
	[CNT_LOCAL_ACK_TIMEOUT] = { "hw_counters/local_ack_timeout_err", 64 },
	[CNT_RNR_NAK] = { "hw_counters/rnr_nak_retry_err", 64 },
	[CNT_OUT_OF_SEQUENCE] = { "hw_counters/out_of_sequence", 64 },
	[CNT_RCV_DATA] = { "counters/port_rcv_data", 64 }, /* words of 4 bytes */
	[CNT_XMIT_DATA] = { "counters/port_xmit_data", 64 },
};

/* ---- complaints of the kernel's log ------------------------------------------------ */

#define COMPLAINED_MAX 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	char pci[HW_PCI_SIZE];
	unsigned n;
} complained[COMPLAINED_MAX];

void counters_complain(const char *pci)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < COMPLAINED_MAX; i++) {
		if (complained[i].n > 0 && strcmp(complained[i].pci, pci) != 0)
			continue;
		snprintf(complained[i].pci, sizeof complained[i].pci, "%s", pci);
		complained[i].n++;
		break;
	}
	pthread_mutex_unlock(&lock);
}

static unsigned complaints_of(const char *pci)
{
	unsigned n = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < COMPLAINED_MAX && complained[i].n > 0 && n == 0; i++)
		if (strcmp(complained[i].pci, pci) == 0)
			n = complained[i].n;
	pthread_mutex_unlock(&lock);
	return n;
}

/* ---- one counter --------------------------------------------------------------------- */

int counter_text(const char *text, uint64_t *ret)
{
	return text_number(text, UINT64_MAX, ret) ? 0 : -ENODATA;
}

void counter_take(struct counter_row *c, enum counter_id id, uint64_t value, int64_t passed, int64_t bucket)
{
	unsigned bits = files[id].bits;

	for (int64_t i = 0; i < passed && i < COUNTER_BUCKETS; i++)
		c->grown[(bucket - i) % COUNTER_BUCKETS] = 0;
	if (c->known) {
		uint64_t grown = value - c->last;

		/* smaller: somebody has set it to 0, unless it is one that wraps, from near its end */
		if (value < c->last && !(bits == 64 && c->last > UINT64_MAX / 2))
			grown = value;
		c->grown[bucket % COUNTER_BUCKETS] += grown;
	}
	c->known = true;
	c->last = value;
	c->stuck = bits < 64 && value == (UINT64_C(1) << bits) - 1;
}

static uint64_t grown(const struct counter_row *c)
{
	uint64_t sum = 0;

	for (int i = 0; i < COUNTER_BUCKETS; i++)
		sum += c->grown[i];
	return sum;
}

/* ---- a port --------------------------------------------------------------------------- */

/* Each complaint doubles the pause: 2, 4 ... 32 minutes. False: leave it alone. */
static bool heed(struct port_counters *pc, const char *pci, mono_t now)
{
	unsigned n = *pci != '\0' ? complaints_of(pci) : 0;

	if (n != pc->seen && pc->begun && pc->complaints < COUNTERS_LAST) {
		pc->complaints++;
		pc->due = mono_add_ms(now, INT64_C(60000) << pc->complaints);
	}
	pc->seen = n;
	return pc->complaints < COUNTERS_LAST && mono_due(pc->due, now);
}

void counters_read(struct port_counters *pc, int port_fd, const char *pci, mono_t now)
{
	int64_t bucket, passed;

	if (!heed(pc, pci, now))
		return;
	if (!pc->begun)
		pc->since = now;
	bucket = mono_sub_ms(now, pc->since) / COUNTER_BUCKET_MS;
	passed = bucket - pc->bucket;
	pc->begun = true;
	pc->any = false;
	pc->bucket = bucket;
	pc->due = mono_add_ms(now, COUNTERS_MS);
	for (int i = 0; i < CNT_COUNT; i++) {
		struct counter_row *c = &pc->c[i];
		char text[SYSFS_TEXT];
		uint64_t v;
		int n = sysfs_read(port_fd, files[i].path, text, sizeof text);

		c->error = n < 0 ? n : counter_text(text, &v);
		if (c->error == 0)
			counter_take(c, (enum counter_id)i, v, passed, bucket);
		else
			memset(c->grown, 0, sizeof c->grown), c->known = false;
		pc->any = pc->any || (c->error == 0 && i < CNT_RCV_DATA);
	}
}

static const char *name_of(int i)
{
	return strchr(files[i].path, '/') + 1;
}

static void publish_one(const struct counter_row *c, int i, struct hw_port *p)
{
	struct hw_counter *to = &p->counters[p->n_counters];

	/* files that this driver does not have are not missed, nor are zeroes told */
	if (c->error == 0 && c->last == 0 && grown(c) == 0)
		return;
	*to = (struct hw_counter){ .name = name_of(i) };
	if (c->error == 0) {
		to->value = hw_u64(c->last);
		to->delta = hw_u64(grown(c));
		to->stuck = c->stuck;
	} else {
		snprintf(to->text, sizeof to->text, "%s", c->error == -ENODATA ? "the driver says that it has none" : sysfs_why(c->error));
	}
	p->n_counters++;
}

static void bytes(const struct counter_row *c, struct hw_u64 *ret)
{
	if (c->error == 0 && c->known)
		*ret = hw_u64(c->last * 4);
}

void counters_publish(const struct port_counters *pc, mono_t now, struct arena *a, struct hw_port *p)
{
	int64_t s = pc->begun ? mono_sub_ms(now, pc->since) / 1000 : 0;

	p->counters = NULL;
	p->n_counters = 0;
	p->counters_s = (struct hw_u32){ 0 };
	p->counters_text[0] = '\0';
	p->rx_bytes = p->tx_bytes = (struct hw_u64){ 0 };
	if (!pc->begun)
		return;
	if (pc->complaints > 0) {
		snprintf(p->counters_text, sizeof p->counters_text, "%s: the driver complains in the kernel's log when they are read",
			 pc->complaints < COUNTERS_LAST ? "asked for less often" : "not asked for any more");
		if (!mono_due(pc->due, now) && mono_sub_ms(pc->due, now) > COUNTERS_MS)
			return; /* old values look like present ones */
	}
	if (!pc->any) {
		hw_remark(p->counters_text, sizeof p->counters_text, "none can be read: %s",
			  pc->c[0].error == -ENODATA ? "the driver has none" : sysfs_why(pc->c[0].error));
		return;
	}
	p->counters = arena_alloc(a, CNT_COUNT * sizeof *p->counters);
	if (!p->counters)
		return;
	p->counters_s = hw_u32(s < 3600 ? (uint32_t)s : 3600);
	for (int i = 0; i < CNT_RCV_DATA; i++)
		publish_one(&pc->c[i], i, p);
	bytes(&pc->c[CNT_RCV_DATA], &p->rx_bytes);
	bytes(&pc->c[CNT_XMIT_DATA], &p->tx_bytes);
}
