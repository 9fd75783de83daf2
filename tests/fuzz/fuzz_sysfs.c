/* fuzz_sysfs.c - whatever a file of sysfs holds, it is understood within bounds or unknown
 *
 * Each input is given to every decoder as a file's text; what they accept must
 * make sense, and survive being written out and read again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hw/counters.h"
#include "hw/mounts.h"
#include "hw/port_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_rate(const char *text)
{
	struct port_rate r, back;
	char again[64];

	if (!text_rate(text, &r))
		return;
	must(r.mbps > 0 && r.mbps <= 100000900);
	must(r.lanes == 1 || r.lanes == 2 || r.lanes == 4 || r.lanes == 8 || r.lanes == 12);
	snprintf(again, sizeof again, "%u.%u Gb/sec (%uX%s%s)", r.mbps / 1000, r.mbps % 1000 / 100,
		 r.lanes, r.speed ? " " : "", r.speed ? r.speed : "");
	must(text_rate(again, &back));
	must(back.mbps == r.mbps && back.lanes == r.lanes && back.speed == r.speed);
}

static void check_pci(const char *text)
{
	char pci[HW_PCI_SIZE], back[HW_PCI_SIZE];
	unsigned domain, bus, device, function;

	if (!text_pci(text, pci))
		return;
	must(strlen(pci) >= 12 && strlen(pci) < HW_PCI_SIZE && strstr(text, pci));
	must(sscanf(pci, "%x:%x:%x.%x", &domain, &bus, &device, &function) == 4);
	must(bus <= 0xff && device <= 0xff && function <= 7);
	must(text_pci(pci, back) && strcmp(pci, back) == 0);
}

static void check_number(const char *text)
{
	static const uint64_t limits[] = { 0, 9, 255, 65535, UINT32_MAX, UINT64_MAX };
	uint64_t v, all = 0;
	bool any = text_number(text, UINT64_MAX, &all);

	if (any)
		must(strtoull(text, NULL, text[0] == '0' && (text[1] | 32) == 'x' ? 16 : 10) == all);
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
		if (text_number(text, limits[i], &v))
			must(any && v == all && v <= limits[i]);
		else
			must(!any || all > limits[i]);
}

static void check_gid(const char *text)
{
	bool used = false;

	if (!text_gid(text, &used))
		return;
	must(strlen(text) == 39);
	must(used == (strpbrk(text, "123456789abcdefABCDEF") != NULL));
}

/* A value is taken by each counter: growth never exceeds what there is. */
static void check_counter(const char *text)
{
	uint64_t v;

	if (counter_text(text, &v) < 0)
		return;
	for (int i = 0; i < CNT_COUNT; i++) {
		struct counter_row c = { .known = true, .last = v / 2 };

		counter_take(&c, (enum counter_id)i, v, 1, 1);
		must(c.last == v && c.grown[1] == v - v / 2);
		counter_take(&c, (enum counter_id)i, 0, 0, 1);
		must(c.last == 0 && !c.stuck);
	}
}

static void check_mount(const char *text)
{
	struct mount_entry e;

	if (!mountinfo_parse(text, &e))
		return;
	must(e.path[0] == '/' && strlen(e.path) < sizeof e.path && e.type[0] && e.device[0]);
	mount_of_interest(&e);
}

static void check_words(const char *text)
{
	const char *layer = text_link_layer(text);

	must(!layer || strcmp(layer, text) == 0 || (strcmp(layer, "Unspecified") == 0 && strcmp(text, "Unknown") == 0));
	if (text_state(text))
		must(text[0] >= '0' && text[0] <= '5' && strchr(text, ':'));
	if (text_phys_state(text))
		must(text[0] >= '0' && text[0] <= '7' && strchr(text, ':'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	must(text);
	memcpy(text, data, size);
	text[size] = '\0';
	check_rate(text);
	check_pci(text);
	check_number(text);
	check_gid(text);
	check_words(text);
	check_counter(text);
	check_mount(text);
	free(text);
	return 0;
}
