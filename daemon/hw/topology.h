/* topology.h - one look at the topology, for the source and for tests */
#ifndef NA_HW_TOPOLOGY_H
#define NA_HW_TOPOLOGY_H

#include "hw/hw.h"

/* Affinities, NUMA nodes and the source's line. xml: a file written by lstopo, in
 * place of this host; NULL: this host (or what HWLOC_XMLFILE names). */
void topology_read(const char *xml, struct hw_readings *ret);

#endif
