/* fault.c - things going wrong, and healing */
#include <inttypes.h>
#include <stdio.h>

#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

struct fault {
	enum fault_kind kind, ends;
	uint32_t host, gpu;
	int64_t lasts;
};

static const char *const names[FT_KINDS] = {
	[FT_COORD_CRASH] = "coordinator crashes", [FT_AGENT_CRASH] = "agent crashes",
	[FT_COORD_POWER] = "coordinator's host loses power", [FT_DISK_BAD] = "coordinator's disk fails",
	[FT_REBOOT] = "host reboots",		  [FT_SHIM_KILL] = "shim is killed",
	[FT_CUT] = "cable is cut",		  [FT_CUT_UP] = "cable is cut one way (up)",
	[FT_CUT_DOWN] = "cable is cut one way (down)", [FT_RESET] = "connections are reset",
	[FT_STOP_AGENT] = "agent is stopped",	  [FT_STOP_COORD] = "coordinator is stopped",
	[FT_STOP_SHIM] = "shim is stopped",	  [FT_AGENT_LEAVE] = "agent is asked to stop",
	[FT_COORD_LEAVE] = "coordinator is asked to stop",
	[FT_DISK_FULL] = "disks are full",	  [FT_CUT_PEERS] = "peers cannot be reached",
	[FT_WALL_JUMP] = "wall clock jumps",	  [FT_LINEAGE] = "coordinator's database is made anew",
	[FT_LAUNCHER_CRASH] = "launcher crashes", [FT_STOP_LAUNCHER] = "launcher is stopped",
	[FT_CLIENT_CRASH] = "client crashes",	  [FT_HOST_LOST] = "host is lost for good",
	[FT_GPU_STRANGER] = "a stranger takes a GPU", [FT_GPU_LOST] = "GPU is lost",
	[FT_GPU_GONE] = "GPU is gone",		  [FT_GPU_UNCLEAR] = "a GPU's processes are not known",
	[FT_DRIVER_BROKEN] = "driver is broken",  [FT_DRIVER_ABSENT] = "driver is absent",
	[FT_PORT_BAD] = "port goes bad",
	[FT_PROBE_SILENT] = "probe is silent",	  [FT_PROBE_OUT] = "probe is not running",
	[FT_END] = "is over",
};

void fault_at(struct sim *s, int64_t at, enum fault_kind kind, uint32_t host, int64_t lasts)
{
	struct fault *f = world_alloc(&s->w, sizeof(*f));

	f->kind = kind;
	f->host = host;
	f->lasts = lasts;
	if (at + lasts + SECOND > s->heal_at)
		s->heal_at = at + lasts + SECOND;
	world_at(&s->w, at, EV_FAULT, NULL, 0, f);
}

static bool of_coord(enum fault_kind kind)
{
	return kind == FT_COORD_CRASH || kind == FT_COORD_POWER || kind == FT_STOP_COORD ||
	       kind == FT_COORD_LEAVE;
}

void fault_at_action(struct sim *s, uint64_t n, enum fault_kind kind, uint32_t host, int64_t lasts)
{
	struct fault *f = world_alloc(&s->w, sizeof(*f));
	struct trigger *t = &s->triggers[s->n_triggers];

	if (s->n_triggers == TRIGGERS_MAX)
		return;
	s->n_triggers++;
	f->kind = kind;
	f->host = host;
	f->lasts = lasts;
	t->kind = of_coord(kind) ? PK_COORD : PK_AGENT;
	t->idx = t->kind == PK_COORD ? 0 : host;
	t->after = n;
	t->fault = f;
	if (8 * SECOND + lasts > s->heal_at)
		s->heal_at = 8 * SECOND + lasts;
}

void fault_triggered(struct sim *s, struct trigger *t)
{
	if (s->w.now + t->fault->lasts < s->heal_at)
		world_at(&s->w, s->w.now, EV_FAULT, NULL, 0, t->fault);
	t->fault = NULL;
}

void fault_random(struct sim *s, int64_t at)
{
	static const struct {
		enum fault_kind kind;
		int64_t lo_ms, hi_ms;
		unsigned weight;
	} rows[] = {
		{ FT_COORD_CRASH, 50, 6000, 5 }, { FT_AGENT_CRASH, 50, 6000, 5 },
		{ FT_REBOOT, 3000, 15000, 2 },	 { FT_SHIM_KILL, 0, 0, 2 },
		{ FT_CUT, 100, 30000, 3 },	 { FT_CUT_UP, 100, 30000, 2 },
		{ FT_CUT_DOWN, 100, 30000, 2 },	 { FT_RESET, 0, 0, 4 },
		{ FT_STOP_AGENT, 50, 30000, 3 }, { FT_STOP_COORD, 50, 8000, 2 },
		{ FT_DISK_FULL, 100, 5000, 2 },	 { FT_CUT_PEERS, 100, 5000, 1 },
		{ FT_WALL_JUMP, 0, 0, 1 },	 { FT_STOP_SHIM, 50, 20000, 2 },
		{ FT_COORD_POWER, 1000, 8000, 3 }, { FT_DISK_BAD, 100, 5000, 1 },
		{ FT_CLIENT_CRASH, 20, 4000, 2 }, { FT_LAUNCHER_CRASH, 10, 3000, 3 },
		{ FT_STOP_LAUNCHER, 50, 5000, 1 },
	};
	uint64_t at_weight = rng_below(&s->w.rng, 46);
	uint32_t host;
	int64_t lasts;
	size_t i = 0;

	while (at_weight >= rows[i].weight)
		at_weight -= rows[i++].weight;
	host = (uint32_t)rng_below(&s->w.rng, s->n_agents);
	lasts = rng_range(&s->w.rng, rows[i].lo_ms, rows[i].hi_ms) * MS;
	if (at >= 0)
		fault_at(s, at, rows[i].kind, host, lasts);
	else
		fault_at_action(s, (uint64_t)rng_range(&s->w.rng, 1, 80), rows[i].kind, host, lasts);
}

static void ends_after(struct sim *s, const struct fault *f)
{
	struct fault *end = world_alloc(&s->w, sizeof(*end));

	*end = *f;
	end->kind = FT_END;
	end->ends = f->kind;
	world_at(&s->w, s->w.now + f->lasts, EV_FAULT, NULL, 0, end);
}

static struct shim_actor *a_shim(struct sim *s, uint32_t host)
{
	for (uint32_t i = 0; i < s->n_shims; i++)
		if (s->shims[i]->host == host && s->shims[i]->proc.up)
			return s->shims[i];
	return NULL;
}

static void kill_a_shim(struct sim *s, uint32_t host)
{
	struct shim_actor *h = a_shim(s, host);

	if (h != NULL)
		simshim_kill9(s, h);
}

static void cut(struct sim *s, uint32_t host, bool up, bool down, bool on)
{
	struct agent_actor *a = &s->agents[host];

	if (up)
		a->cut_up = on;
	if (down)
		a->cut_down = on;
	if (!on)
		net_healed(s, (int)host);
}

static void disks(struct sim *s, bool full)
{
	if (full)
		disk_room((int64_t)rng_below(&s->w.rng, 3) * 6000, rng_chance(&s->w.rng, 500));
	else
		disk_room(-1, false);
	s->disk_well_at = s->w.now;
	s->disk_was_full = s->disk_was_full || full;
	for (uint32_t i = 0; i < s->n_agents; i++)
		s->agents[i].disk_full = full ? 500 : 0;
}

static void over(struct sim *s, const struct fault *f)
{
	switch (f->ends) {
	case FT_CUT:
		cut(s, f->host, true, true, false);
		break;
	case FT_CUT_UP:
		cut(s, f->host, true, false, false);
		break;
	case FT_CUT_DOWN:
		cut(s, f->host, false, true, false);
		break;
	case FT_DISK_FULL:
		disks(s, false);
		break;
	case FT_DISK_BAD:
		disk_errors(0, 0);
		s->disk_well_at = s->w.now;
		break;
	case FT_CUT_PEERS:
		s->agents[f->host].cut_peers = false;
		break;
	case FT_HOST_LOST: /* its peers' kernels have given up: TCP_USER_TIMEOUT */
		net_host_back(s, (int)f->host);
		break;
	default:
		gpus_fault(s, f->host, f->gpu, f->ends, false);
		break;
	}
}

/* Silence of about node_lost_ms may rightly cost a node its ranks: all that
 * keeps nodes away counts together, and so does the back-off that follows. */
void fault_silences(struct sim *s, int64_t lasts)
{
	s->silence += lasts > 4 * SECOND ? lasts + 16 * SECOND : 2 * lasts + SECOND;
	if (s->silence > (int64_t)s->node_lost_ms * MS)
		s->loss_allowed = true;
}

static void note_loss(struct sim *s, const struct fault *f)
{
	bool silences = f->kind != FT_DISK_FULL && f->kind != FT_DISK_BAD && f->kind != FT_CUT_PEERS &&
			f->kind != FT_WALL_JUMP && f->kind != FT_SHIM_KILL && f->kind != FT_STOP_SHIM &&
			f->kind != FT_CLIENT_CRASH && f->kind != FT_LAUNCHER_CRASH && f->kind != FT_STOP_LAUNCHER && f->kind < FT_GPU_STRANGER;

	if (f->kind == FT_STOP_COORD && s->n_faults == 1 && s->crash.n == 0 && !s->leases)
		return; /* alone, it costs nothing: nodes get a full term when it goes on */
	if (silences)
		fault_silences(s, f->lasts);
}

static void stop_coord(struct sim *s, int64_t until)
{
	int64_t from = s->coord.proc.resume_at > s->w.now ? s->coord.proc.resume_at : s->w.now;

	if (s->coord.proc.up && until > from)
		s->coord.stopped += until - from;
	world_stop(&s->w, &s->coord.proc, until);
}

static void stop_a_shim(struct sim *s, uint32_t host, int64_t until)
{
	struct shim_actor *h = a_shim(s, host);

	if (h != NULL)
		world_stop(&s->w, &h->proc, until);
}

static void begin(struct sim *s, struct fault *f)
{
	struct agent_actor *a = &s->agents[f->host];
	int64_t jump;

	switch (f->kind) {
	case FT_COORD_CRASH:
		simcoord_crash(s, f->lasts);
		break;
	case FT_COORD_POWER:
		simcoord_power(s, f->lasts);
		break;
	case FT_AGENT_CRASH:
		simagent_crash(s, a, f->lasts);
		break;
	case FT_REBOOT:
		simagent_reboot(s, a, f->lasts);
		break;
	case FT_HOST_LOST:
		simagent_lost(s, a);
		break;
	case FT_SHIM_KILL:
		kill_a_shim(s, f->host);
		break;
	case FT_CUT:
		cut(s, f->host, true, true, true);
		break;
	case FT_CUT_UP:
		cut(s, f->host, true, false, true);
		break;
	case FT_CUT_DOWN:
		cut(s, f->host, false, true, true);
		break;
	case FT_RESET:
		net_host_reset(s, (int)f->host);
		break;
	case FT_STOP_AGENT:
		world_stop(&s->w, &a->proc, s->w.now + f->lasts);
		break;
	case FT_STOP_COORD:
		stop_coord(s, s->w.now + f->lasts);
		break;
	case FT_AGENT_LEAVE:
		leave_agent(s, a, f->lasts);
		break;
	case FT_COORD_LEAVE:
		leave_coord(s, f->lasts);
		break;
	case FT_STOP_SHIM:
		stop_a_shim(s, f->host, s->w.now + f->lasts);
		break;
	case FT_DISK_FULL:
		disks(s, true);
		break;
	case FT_DISK_BAD:
		s->disk_was_full = true;
		disk_errors((uint32_t)rng_below(&s->w.rng, 300), (uint32_t)rng_below(&s->w.rng, 600));
		break;
	case FT_CUT_PEERS:
		a->cut_peers = true;
		break;
	case FT_WALL_JUMP:
		jump = rng_range(&s->w.rng, -315360000000, 315360000000);
		s->jumped = true;
		s->w.wall_offset_ms += s->no_jumps ? 0 : jump;
		a->wall_us -= s->no_jumps ? 0 : jump * 300; /* this host's clock goes another way */
		break;
	case FT_LAUNCHER_CRASH:
		launcher_crash(s, a, f->lasts);
		break;
	case FT_STOP_LAUNCHER:
		world_stop(&s->w, &a->launcher, s->w.now + f->lasts);
		break;
	case FT_CLIENT_CRASH:
		client_crash(s, &s->clients[f->host % s->n_clients], f->lasts);
		break;
	case FT_LINEAGE:
		simcoord_new_lineage(s);
		break;
	default:
		f->gpu = gpus_some(s, f->host);
		gpus_fault(s, f->host, f->gpu, f->kind, true);
		break;
	}
	if (f->lasts > 0)
		ends_after(s, f);
}

/* ---- did it happen at all? ------------------------------------------------------- */

static uint64_t begun[FT_KINDS], idle[FT_KINDS]; /* since the program began */

/* What is down already cannot be brought down. */
static bool hits(struct sim *s, const struct fault *f)
{
	const struct agent_actor *a = &s->agents[f->host];

	switch (f->kind) {
	case FT_COORD_CRASH:
	case FT_COORD_POWER:
	case FT_STOP_COORD:
	case FT_COORD_LEAVE:
		return s->coord.proc.up;
	case FT_AGENT_CRASH:
	case FT_STOP_AGENT:
	case FT_AGENT_LEAVE:
		return a->proc.up;
	case FT_REBOOT:
	case FT_HOST_LOST:
		return a->host_up;
	case FT_SHIM_KILL:
	case FT_STOP_SHIM:
		return a_shim(s, f->host) != NULL;
	case FT_LAUNCHER_CRASH:
	case FT_STOP_LAUNCHER:
		return s->launchers && a->launcher.up;
	case FT_CLIENT_CRASH:
		return !s->clients[f->host % s->n_clients].over && !s->clients[f->host % s->n_clients].late;
	default:
		return true;
	}
}

void fault_coverage(void)
{
	for (int i = 0; i < FT_END; i++)
		printf("%-36s %9" PRIu64 " times, %" PRIu64 " in vain\n", names[i], begun[i], idle[i]);
}

void fault_event(struct sim *s, const struct event *e)
{
	struct fault *f = e->p;

	LINE(&s->w, "FAULT", "%s %s(%s, %.3f s)", names[f->kind],
	     f->kind == FT_END ? names[f->ends] : "", s->agents[f->host].name,
	     (double)f->lasts / 1e9);
	if (f->kind == FT_END) {
		over(s, f);
		return;
	}
	if (s->healed)
		return;
	s->n_faults++;
	if (hits(s, f))
		begun[f->kind]++;
	else
		idle[f->kind]++;
	note_loss(s, f);
	due_disturbed(s, f->lasts);
	begin(s, f);
}

/* What is down comes up by itself; nothing new goes wrong from here on. */
void fault_heal(struct sim *s)
{
	s->healed = true;
	LINE(&s->w, "FAULT", "all is healed");
	for (uint32_t i = 0; i < s->n_agents; i++) {
		s->agents[i].cut_peers = false;
		cut(s, i, true, true, false);
	}
	disks(s, false);
	disk_errors(0, 0);
	gpus_heal(s);
	s->fetch_fails = s->lease_fails = s->spawn_fails = s->prove_fails = 0;
}
