/* test_hw_kmsg.c - lines of the kernel's log, and the log as a source of readings */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hw/kmsg_text.h"
#include "tests/unit/tree.h"

#define TEST(name) static void name(void **state)

static struct hw_event e;
static int64_t at;

static bool parse(const char *line)
{
	return kmsg_parse(line, strlen(line), &e, &at);
}

TEST(what_the_oom_killer_did_is_found)
{
	assert_true(parse("3,905,7612344,-;Out of memory: Killed process 4711 (python3) total-vm:9kB, anon-rss:8kB"));
	assert_string_equal(e.kind, "oom");
	assert_int_equal(e.pid.v, 4711);
	assert_int_equal(at, 7612344);
	assert_string_equal(e.text, "the kernel's OOM killer ended pid 4711 (python3): the host was out of memory");
	assert_true(parse("3,1,2,-;Memory cgroup out of memory: Killed process 12 (sh) total-vm:1kB\n SUBSYSTEM=x"));
	assert_string_equal(e.text, "the kernel's OOM killer ended pid 12 (sh): its cgroup was out of memory");
	assert_true(parse("3,1,2,-;Killed process 12 (sh) total-vm:1kB, anon-rss:0kB"));
	assert_string_equal(e.text, "the kernel's OOM killer ended pid 12 (sh)");
	assert_false(parse("3,1,2,-;Out of memory: Kill process 12 (sh) score 900 or sacrifice child"));
	assert_false(parse("3,1,2,-;Out of memory: Killed process 99999999999 (sh)"));
	assert_false(parse("3,1,2,-;Out of memory: Killed process"));
}

TEST(the_summary_names_the_job_by_its_cgroup)
{
	assert_true(parse("6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
			  "oom_memcg=/na,task_memcg=/system.slice/nodeagent-launcher.service/nodeagent-12.3,"
			  "task=python3,pid=4711,uid=1000"));
	assert_string_equal(e.kind, "oom-job");
	assert_int_equal(e.pid.v, 4711);
	assert_true(e.job.known);
	assert_int_equal(e.job.v, 12);
	assert_false(parse("6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/user,task=x,pid=5,uid=0"));
}

TEST(what_a_driver_says_of_being_asked_is_a_complaint_with_its_device)
{
	assert_true(parse("3,1,2,-;mlx5_core 0000:47:00.0: mlx5_cmd_out_err:838:(pid 4122): ACCESS_REG(0x805) op_mod(0x1) failed, "
			  "status bad parameter(0x3), syndrome (0x1c1f8d), err(-22)"));
	assert_string_equal(e.kind, "complaint");
	assert_string_equal(e.pci, "0000:47:00.0");
	assert_false(parse("3,1,2,-;mlx5_core 0000:47:00.0: mlx5_cmd_out_err:838:(pid 4122): CREATE_QP(0x500) failed, err(-22)"));
	assert_false(parse("12,1,2,-;mlx5_core 0000:47:00.0: ACCESS_REG(0x805) failed")); /* a user's words */
}

TEST(an_xid_is_found_with_its_gpu)
{
	assert_true(parse("4,1,2,-;NVRM: Xid (PCI:0000:17:00): 79, pid=4711, name=python3, GPU has fallen off"));
	assert_string_equal(e.kind, "xid");
	assert_int_equal(e.xid.v, 79);
	assert_int_equal(e.pid.v, 4711);
	assert_string_equal(e.pci, "0000:17:00");
	assert_true(parse("4,1,2,-;NVRM: Xid (PCI:0000:17:00): 31, pid='<unknown>', name=<unknown>, Ch 00000008"));
	assert_false(e.pid.known);
	assert_true(parse("4,1,2,-;NVRM: Xid (0000:3b:00): 48, Double Bit ECC Error"));
	assert_true(parse("4,1,2,-;NVRM: Xid (PCI:0000:41:00 GPU-I:05 GPU-CI:00): 13, pid=12, name=x, Graphics"));
	assert_string_equal(e.pci, "0000:41:00");
	assert_int_equal(e.xid.v, 13);
	assert_int_equal(e.pid.v, 12);
	assert_false(parse("4,1,2,-;NVRM: Xid (PCI:0000:17:00): -1"));
	assert_false(parse("4,1,2,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module"));
}

TEST(faults_and_lost_links_are_found)
{
	assert_true(parse("6,1,2,-;python3[4711]: segfault at 0 ip 00007f1 sp 00007ff error 4 in libtorch.so[7f0+1]"));
	assert_string_equal(e.kind, "fault");
	assert_int_equal(e.pid.v, 4711);
	assert_string_equal(e.text, "segmentation fault of pid 4711 in libtorch.so");
	assert_true(parse("6,1,2,-;traps: x[7] general protection fault ip:5 sp:6 error:0 in x[1+2]"));
	assert_int_equal(e.pid.v, 7);
	assert_true(parse("4,1,2,-;mlx5_core 0000:17:00.0 ibp23s0: Link down"));
	assert_string_equal(e.kind, "port");
	assert_string_equal(e.pci, "0000:17:00.0");
	assert_string_equal(e.device, "ibp23s0");
	assert_false(parse("4,1,2,-;mlx5_core 0000:17:00.0 ibp23s0: Link up"));
}

TEST(a_process_name_forges_no_pid)
{
	assert_true(parse("6,1,2,-;a[12] in b[34[4711]: segfault at 0 ip 00007f1 sp 00007ff error 4 in x.so[7f0+1]"));
	assert_int_equal(e.pid.v, 4711);
	assert_string_equal(e.text, "segmentation fault of pid 4711 in x.so");
	assert_true(parse("6,1,2,-;]: segfault at [4711]: segfault at 0 ip 00007f1 sp 00007ff error 4"));
	assert_int_equal(e.pid.v, 4711);
	assert_true(parse("6,1,2,-;x[4711]: segfault at 0 ip 00007f1 sp 00007ff error 4 in y[1]: segfault at 0"));
	assert_int_equal(e.pid.v, 4711);
	assert_true(parse("6,1,2,-;traps: [1]: segfault a[7] general protection fault ip:5 sp:6 error:0 in x[1+2]"));
	assert_int_equal(e.pid.v, 7);
	assert_string_equal(e.text, "general protection fault of pid 7 in x");
	assert_false(parse("6,1,2,-;python3[4711x]: segfault at 0 ip 00007f1 sp 00007ff error 4"));
}

TEST(a_process_name_forges_no_oom_kill_and_no_xid)
{
	/* names of at most 15 bytes; the rest is named by files */
	assert_true(parse("6,1,2,-;Out of memory[4711]: segfault at 0 ip 1 sp 2 error 4 in Killed process 7 (x)[1+2]"));
	assert_string_equal(e.kind, "fault");
	assert_int_equal(e.pid.v, 4711);
	assert_true(parse("6,1,2,-;NVRM: Xid (): 7[4711]: segfault at 0 ip 1 sp 2 error 4 in x[1+2]"));
	assert_string_equal(e.kind, "fault");
	assert_true(parse("6,1,2,-;NVRM: Xid (PCI:[4711]: segfault at 0 ip 1 sp 2 error 4 in x): 79, pid=12[1+2]"));
	assert_string_equal(e.kind, "fault");
	assert_int_equal(e.pid.v, 4711);
	assert_true(parse("6,1,2,-;NVRM: Xid (000 [4711]: segfault at 0 ip 1 sp 2 error 4 in x): 79, pid=12[1+2]"));
	assert_string_equal(e.kind, "fault");
	assert_int_equal(e.pid.v, 4711);
	/* a file's name may be so long that the line is cut within it */
	assert_true(parse("6,1,2,-;mlx5_core 0000 [4711]: segfault at 0 ip 1 sp 2 error 4 in x Link down"));
	assert_string_equal(e.kind, "fault");
	assert_true(parse("6,1,2,-;x[4711]: segfault at 0 ip 1 sp 2 error 4 in NVRM: Xid (PCI:0000:17:00): 79[1+2]"));
	assert_string_equal(e.kind, "fault");
	assert_true(parse("6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
			  "oom_memcg=/u,task_memcg=/nodeagent-99.1,task_memcg=/na/nodeagent-12.3,"
			  "task=,pid=77,pid=4711,uid=1000"));
	assert_int_equal(e.pid.v, 4711);
	assert_int_equal(e.job.v, 12);
}

TEST(what_programs_wrote_into_the_log_is_not_the_kernels)
{
	assert_true(parse("3,1,2,-;Killed process 12 (sh) total-vm:1kB"));
	assert_false(parse("14,1,2,-;Killed process 12 (sh) total-vm:1kB"));
	assert_false(parse("12,1,2,-;NVRM: Xid (PCI:0000:17:00): 79, pid=4711, name=python3"));
	assert_false(parse(",1,2,-;Killed process 12 (sh) total-vm:1kB"));
}

TEST(other_lines_and_garbage_say_nothing)
{
	static const char *const lines[] = { "", ";", "6,1,2,-;", "no record", "6,1,2,-;usb 1-1: new device",
					     "\xff\xfe;\xff", "6,1,99999999999999999999999,-;x" };

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_false(parse(lines[i]));
	assert_true(parse("3,1,2,-;Out of memory: Killed process 7 (\xff\x1b[2J) x"));
	assert_null(strchr(e.text, '\x1b')); /* whoever names a process does not drive a terminal */
}

/* ---- the source ------------------------------------------------------------------ */

static void append(const char *root, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/kmsg", root);
	f = fopen(path, "a");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static size_t poll_once(void *source, struct hw_readings *r)
{
	arena_finish(&r->arena);
	memset(r, 0, sizeof(*r));
	hw_kmsg.poll(source, r);
	return r->n_events;
}

static const struct {
	const char *line, *kind, *what; /* its PCI address, device or pid */
} faults[] = {
	{ "INFO: task python3:4711 blocked for more than 122 seconds.", "hung-task", "4711" },
	{ "INFO: task kworker/u8:3:99 blocked for more than 245 seconds.", "hung-task", "99" },
	{ "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python3:4711]", "lockup", "" },
	{ "rcu: INFO: rcu_sched self-detected stall on CPU", "lockup", "" },
	{ "mlx5_core 0000:17:00.0: poll_health:815:(pid 0): device's health compromised - reached miss count", "nic", "0000:17:00.0" },
	{ "mlx5_core 0000:17:00.0: mlx5_cmd_out_err:838:(pid 4122): ACCESS_REG(0x805) op_mod(0x1) failed, status bad", "complaint", "0000:17:00.0" },
	{ "mlx5_core 0000:17:00.0: Port module event[error]: module 0, Cable error, Bad or shorted cable/module", "nic-module", "0000:17:00.0" },
	{ "mlx5_core 0000:17:00.0: mlx5_pcie_event:301:(pid 4711): Detected insufficient power on the PCIe slot (27W).", "nic-module", "0000:17:00.0" },
	{ "NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.", "gpu-bus", "0000:3b:00.0" },
	{ "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0xffff:1290)", "gpu-driver", "0000:3b:00.0" },
	{ "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 32 LTSSM Fault Up", "nvswitch", "0000:c1:00.0" },
	{ "pcieport 0000:16:01.0: AER: Uncorrected (Non-Fatal) error message received from 0000:17:00.0", "pcie-nonfatal", "0000:17:00.0" },
	{ "pcieport 0000:16:01.0: AER: Uncorrected (Fatal) error message received from 0000:17:00.0", "pcie", "0000:17:00.0" },
	{ "mlx5_core 0000:17:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, (Requester ID)", "pcie", "0000:17:00.0" },
	{ "pcieport 0000:16:01.0: AER: Multiple Corrected error received: 0000:17:00.0", "pcie-corrected", "0000:17:00.0" },
	{ "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0)", "mem-ue", "" },
	{ "Memory failure: 0x5a4c21: recovery action for dirty LRU page: Recovered", "mem-ue", "" },
	{ "EDAC MC1: 3 CE memory read error on CPU_SrcID#0", "mem-ce", "" },
	{ "EXT4-fs (nvme0n1p2): Remounting filesystem read-only", "fs", "nvme0n1p2" },
	{ "XFS (sdb1): Metadata corruption detected at xfs_inode_buf_verify", "fs", "sdb1" },
	{ "Buffer I/O error on dev nvme1n1, logical block 0, async page read", "io", "nvme1n1" },
	{ "nvme nvme0: I/O 123 QID 4 timeout, aborting", "io", "nvme0" },
	{ "CPU3: Package temperature above threshold, cpu clock throttled (total events = 42)", "heat", "" },
	{ "DMAR: [DMA Write NO_PASID] Request device [17:00.0] fault addr 0xfe000000 [fault reason 0x05]", "iommu", "" },
	{ "AMD-Vi: Event logged [IO_PAGE_FAULT device=17:00.0 domain=0x0000]", "iommu", "0000:17:00.0" },
	{ "nfs: server 10.0.0.9 not responding, still trying", "nfs", "10.0.0.9" },
	/* what is well, and what people make up */
	{ "I/O error, dev sr0, sector 0 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 0", NULL, NULL },
	{ "blk_update_request: I/O error, dev fd0, sector 0 op 0x0:(READ) flags 0x0", NULL, NULL },
	{ "nfs: server 10.0.0.9 OK", NULL, NULL },
	{ "mlx5_core 0000:17:00.0 ibp23s0: Link up", NULL, NULL },
	{ "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 11012, Non-fatal, Link 24 egress non-posted PRIV error", NULL, NULL },
	{ "EXT4-fs (sda1):[4711]: bad frame in emounting filesystem read-only", NULL, NULL },
	{ "INFO: task a:1 [4711]: bad frame blocked for more than 9 seconds", NULL, NULL },
	{ "INFO: task python3:x blocked for more than 122 seconds.", NULL, NULL },
	{ "usb 1-1: EXT4-fs (sda1): Remounting filesystem read-only", NULL, NULL },
};

TEST(broken_hardware_and_a_stuck_host_are_found)
{
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		char line[256], pid[16];
		bool found;

		snprintf(line, sizeof line, "3,17,99,-;%s", faults[i].line);
		found = kmsg_parse(line, strlen(line), &e, &at);
		if (found != (faults[i].kind != NULL) || (found && strcmp(e.kind, faults[i].kind) != 0))
			fail_msg("%s: %s", faults[i].line, found ? e.kind : "nothing");
		if (!found)
			continue;
		snprintf(pid, sizeof pid, "%u", e.pid.v);
		if (faults[i].what[0] && strcmp(e.pci, faults[i].what) != 0 && strcmp(e.device, faults[i].what) != 0 &&
		    strcmp(pid, faults[i].what) != 0)
			fail_msg("%s: pci %s, device %s, pid %s", faults[i].line, e.pci, e.device, pid);
		if (strcmp(e.kind, "complaint") != 0)
			assert_true(e.text[0] != '\0');
	}
}

TEST(only_what_is_new_is_told_and_each_once_more)
{
	struct hw_options o = { 0 };
	struct hw_readings r = { 0 };
	char root[64], path[128];
	void *source;

	tree_make(root);
	snprintf(path, sizeof(path), "%s/kmsg", root);
	o.kmsg = path;
	append(root, "3,1,2,-;Out of memory: Killed process 1 (old) x\n");
	source = hw_kmsg.open(&o);
	assert_int_equal(poll_once(source, &r), 0);
	assert_true(r.sources[0].ok);
	append(root, "3,1,2,-;Out of memory: Killed process 2 (new) x\n3,1,2,-;Out of mem");
	assert_int_equal(poll_once(source, &r), 1);
	assert_int_equal(r.events[0].pid.v, 2);
	append(root, "ory: Killed process 3 (new) x\n");
	assert_int_equal(poll_once(source, &r), 2);
	assert_true(r.events[1].mono_us > r.events[0].mono_us);
	for (int i = 0; i < 40; i++)
		append(root, "4,1,2,-;NVRM: Xid (PCI:0000:17:00): 31, pid=9\n");
	assert_int_equal(poll_once(source, &r), HW_EVENTS_MAX);
	assert_int_equal(r.events[0].xid.v, 31);
	arena_finish(&r.arena);
	hw_kmsg.close(source);
	tree_remove(root);
}

TEST(a_log_full_of_the_same_is_told_in_a_few_words)
{
	struct hw_options o = { 0 };
	struct hw_readings r = { 0 };
	char root[64], path[128];
	void *source;

	tree_make(root);
	snprintf(path, sizeof(path), "%s/kmsg", root);
	o.kmsg = path;
	append(root, "");
	source = hw_kmsg.open(&o);
	for (int i = 0; i < 9; i++)
		append(root, "4,1,2,-;pcieport 0000:16:01.0: AER: Corrected error received: 0000:17:00.0\n");
	append(root, "4,1,2,-;pcieport 0000:16:01.0: AER: Corrected error received: 0000:18:00.0\n");
	assert_int_equal(poll_once(source, &r), 0); /* harmless so far */
	append(root, "4,1,2,-;pcieport 0000:16:01.0: AER: Corrected error received: 0000:17:00.0\n");
	assert_int_equal(poll_once(source, &r), 1);
	assert_string_equal(r.events[0].pci, "0000:17:00.0");
	assert_non_null(strstr(r.events[0].text, "; 10 such lines within 1 min"));
	for (int i = 0; i < 89; i++)
		append(root, "4,1,2,-;pcieport 0000:16:01.0: AER: Corrected error received: 0000:17:00.0\n");
	assert_int_equal(poll_once(source, &r), 1);
	append(root, "4,1,2,-;pcieport 0000:16:01.0: AER: Corrected error received: 0000:17:00.0\n");
	assert_int_equal(poll_once(source, &r), 2);
	for (int i = 0; i < 50; i++) {
		append(root, "3,1,2,-;nvme nvme0: I/O 123 QID 4 timeout, aborting\n");
		append(root, "3,1,2,-;nvme nvme1: I/O 123 QID 4 timeout, aborting\n");
	}
	assert_int_equal(poll_once(source, &r), 4); /* once of each for a while */
	append(root, "3,1,2,-;Out of memory: Killed process 2 (new) x\n");
	assert_int_equal(poll_once(source, &r), 5);
	for (int i = 0; i < 64; i++) /* one moment, told by each CPU */
		append(root, "2,1,2,-;CPU3: Package temperature above threshold, cpu clock throttled (total events = 1)\n");
	assert_int_equal(poll_once(source, &r), 5);
	arena_finish(&r.arena);
	hw_kmsg.close(source);
	tree_remove(root);
}

TEST(a_log_that_cannot_be_read_is_no_fault)
{
	struct hw_options o = { .kmsg = "/nonexistent/kmsg" };
	struct hw_readings r = { 0 };
	void *source = hw_kmsg.open(&o);

	assert_int_equal(poll_once(source, &r), 0);
	assert_false(r.sources[0].ok);
	assert_true(r.sources[0].absent);
	assert_non_null(strstr(r.sources[0].text, "/nonexistent/kmsg: No such file"));
	hw_kmsg.close(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_oom_killer_did_is_found),
		cmocka_unit_test(the_summary_names_the_job_by_its_cgroup),
		cmocka_unit_test(what_a_driver_says_of_being_asked_is_a_complaint_with_its_device),
		cmocka_unit_test(an_xid_is_found_with_its_gpu),
		cmocka_unit_test(faults_and_lost_links_are_found),
			cmocka_unit_test(a_process_name_forges_no_pid),
		cmocka_unit_test(a_process_name_forges_no_oom_kill_and_no_xid),
		cmocka_unit_test(what_programs_wrote_into_the_log_is_not_the_kernels),
		cmocka_unit_test(other_lines_and_garbage_say_nothing),
		cmocka_unit_test(only_what_is_new_is_told_and_each_once_more),
		cmocka_unit_test(broken_hardware_and_a_stuck_host_are_found),
		cmocka_unit_test(a_log_full_of_the_same_is_told_in_a_few_words),
		cmocka_unit_test(a_log_that_cannot_be_read_is_no_fault),
	};

	return cmocka_run_group_tests_name("hw_kmsg", tests, NULL, NULL);
}
